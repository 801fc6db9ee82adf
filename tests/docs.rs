//! The documentation is true: its configurations work, its flags are the tool's, its links lead somewhere.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Deserializer, Value};
use testnode::conf::{port_and_rates, values};
use testnode::{Catena, HttpServer, Node, Shared, Snapshot, assert_same, http_get, links};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// Debian's package of the reference plugins, for the ones that documented chains execute.
const REFERENCE: &str = "/usr/lib/cni";

/// The documents of the repository, with their text.
fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = [root.to_owned(), root.join("docs")].into_iter().flat_map(|dir| {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    });
    let mut files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|suffix| suffix == "md"))
        .map(|file| (file.clone(), fs::read_to_string(&file).unwrap()))
        .collect();
    files.sort();
    files
}

/// What stands between fences of this language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&format!("\n```{language}\n")) {
        let (block, after) = after.split_once("\n```").unwrap();
        blocks.push(block);
        rest = after;
    }
    blocks
}

/// The JSON values of all documents but the one with other software's plugins, which tests/chaining reads. A block may have
/// several.
fn configurations() -> Vec<Value> {
    let mut all = Vec::new();
    for (file, text) in documents().into_iter().filter(|(file, _)| !file.ends_with("chaining.md")) {
        for block in blocks(&text, "json") {
            for value in Deserializer::from_str(block).into_iter() {
                all.push(value.unwrap_or_else(|e| panic!("{}: {e} in\n{block}", file.display())));
            }
        }
    }
    all
}

/// Those that are whole networks.
fn conflists() -> Vec<Value> {
    let mut all = configurations();
    all.retain(|json| json["name"].is_string() && json["plugins"].is_array());
    assert!(all.len() >= 8, "{all:#?}");
    let names: BTreeSet<_> = all.iter().map(|list| list["name"].to_string()).collect();
    assert_eq!(names.len(), all.len(), "each has a name of its own");
    all
}

/// Whatever of this key a network has, and those have that it names.
fn values_of<'v>(list: &'v Value, all: &'v [Value], key: &str) -> Vec<&'v str> {
    let named = values(list, "clusterNetwork");
    let named = all.iter().filter(|other| named.iter().any(|name| other["name"] == **name));
    named.chain([list]).flat_map(|list| values(list, key)).collect()
}

#[test]
fn every_documented_network_works_as_it_stands() {
    let all = conflists();
    for list in &all {
        let name = list["name"].as_str().unwrap();
        println!("{name}");
        let node = Node::new();
        node.write("/etc/resolv.conf", "nameserver 192.0.2.53\n");
        for list in &all {
            let file = format!("/etc/cni/net.d/{}.conflist", list["name"].as_str().unwrap());
            node.write(file, &list.to_string());
        }
        let c1 = node.container("c1");
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        // "exec": true finds Catena itself, by its links.
        let ours = links(&node, CATENA, &["host-local"]);
        let catena = Catena::new(&node, CATENA)
            .env("CNI_PATH", format!("{}:{REFERENCE}", ours.display()))
            .cap_args(&port_and_rates(8080));
        let run = |words: &[&str]| catena.cmd(words).output().success();

        run(&["status", name]);
        let result: Value = serde_json::from_str(&run(&["add", name, "c1"])).unwrap();
        assert_eq!(result["cniVersion"], list["cniVersion"]);
        let _server = HttpServer::start(&c1, 80, "page");
        if values_of(list, &all, "type").contains(&"portmap") {
            let page = http_get(&node, "http://127.0.0.1:8080/").unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(page.text, "page");
        }
        run(&["check", name, "c1"]);
        run(&["gc", name]);
        run(&["check", name, "c1"]);
        run(&["del", name, "c1"]);

        let networks = values_of(list, &all, "name").into_iter();
        let shared = networks.fold(Shared::none(), Shared::catena);
        let bridges = values_of(list, &all, "bridge").into_iter();
        assert_same(&before, &node.snapshot(), &bridges.fold(shared, Shared::device));
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none().device("lo"));
    }
}

/// The long flags in a text.
fn flags(text: &str) -> BTreeSet<&str> {
    let flag = |c: char| c.is_ascii_lowercase() || c == '-';
    let words = text.split(|c: char| !flag(c)).filter(|word| word.starts_with("--"));
    words.filter(|word| word.len() > 2 && !["--help", "--version"].contains(word)).collect()
}

#[test]
fn every_flag_and_variable_of_the_tool_is_in_the_table_and_no_other() {
    let node = Node::new();
    let catena = Catena::new(&node, CATENA);
    let help = [
        "add",
        "del",
        "check",
        "gc",
        "status",
        "repair",
        "try",
        "daemon",
        "install",
        "uninstall",
        "version",
    ]
    .map(|verb| catena.cmd([verb, "--help"]).output().success())
    .concat();
    let (_, tool) = documents().into_iter().find(|(file, _)| file.ends_with("tool.md")).unwrap();
    let table: String = tool.lines().filter(|line| line.starts_with("| `-")).collect();
    assert_eq!(flags(&help), flags(&table));
    for variable in help.split("[env: ").skip(1) {
        let variable = variable.split(['=', ']']).next().unwrap();
        assert!(table.contains(&format!("`{variable}`")), "{variable} is missing in\n{table}");
    }
}

/// The cells of a table's row; none for a line that is no row.
fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
    row.map(|row| row.split(" | ").collect()).unwrap_or_default()
}

#[test]
fn every_row_of_the_table_beside_multus_has_its_tests() {
    let (file, text) = documents()
        .into_iter()
        .find(|(file, _)| file.ends_with("multus-compatibility.md"))
        .unwrap();
    let rows: Vec<_> = text.lines().map(cells).filter(|cells| !cells.is_empty()).collect();
    let (headings, rows): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|cells| cells.last() == Some(&"tests"));
    assert!(
        headings.len() >= 8 && rows.len() >= 80,
        "{} tables, {} rows",
        headings.len(),
        rows.len()
    );
    for row in rows {
        let links: Vec<_> = row.last().unwrap().split('[').skip(1).collect();
        assert!(!links.is_empty(), "{row:?} has no test");
        for link in links {
            let (test, path) = link.trim().strip_suffix(')').unwrap().split_once("](").unwrap();
            let path = file.parent().unwrap().join(path);
            let source =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let lines: Vec<_> = source.lines().map(str::trim).collect();
            let is_it = |line: &&str| line.starts_with(&format!("fn {test}("));
            let at = lines.iter().position(is_it);
            let at = at.unwrap_or_else(|| panic!("{} has no test {test}", path.display()));
            // Comments and further attributes may stand between.
            let above = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
            assert!(above.into_iter().any(|line| *line == "#[test]"), "{test} is no test");
        }
    }
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for (file, text) in documents() {
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => file.clone(),
                path => file.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: {link}", file.display());
            if !fragment.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|heading| anchor(heading) == fragment),
                    "{}: {link}",
                    file.display()
                );
            }
        }
    }
}
