//! Files of Catena's that are empty, cut, garbled or something else are set aside and reported, and everybody is served.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::cell::RefCell;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap, values};
use testnode::{Catena, Node, Output, PluginOutput, Shared, Snapshot, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const LEASES: &str = "/var/lib/cni/networks/web";

/// Ways to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Empty,
    Half,
    Random,
    ForeignJson,
    Directory,
    DanglingLink,
}

const ALL: [Damage; 6] = [
    Damage::Empty,
    Damage::Half,
    Damage::Random,
    Damage::ForeignJson,
    Damage::Directory,
    Damage::DanglingLink,
];

impl Damage {
    fn damage(self, file: &Path) {
        let content = fs::read(file).unwrap_or_default();
        let replaced = matches!(self, Self::Directory | Self::DanglingLink);
        if replaced && file.exists() {
            fs::remove_file(file).unwrap();
        }
        match self {
            Self::Empty => fs::write(file, "").unwrap(),
            Self::Half => fs::write(file, &content[..content.len() / 2]).unwrap(),
            Self::Random => fs::write(file, b"\x93\xff\0\x07 \xfe{\x81".repeat(9)).unwrap(),
            Self::ForeignJson => {
                fs::write(file, r#"{"cniVersion":"0.4.0","kind":"cniCacheV1"}"#).unwrap()
            }
            Self::Directory => {
                fs::create_dir(file).unwrap();
                fs::write(file.join("file"), "in it").unwrap();
            }
            Self::DanglingLink => symlink("/nowhere/to/be/found", file).unwrap(),
        }
    }
}

fn list() -> Value {
    let mut bridge = bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]);
    bridge["ipMasq"] = json!(true);
    bridge["macspoofchk"] = json!(true);
    conflist("web", &[bridge, portmap(), bandwidth()])
}

fn catena(node: &Node, port: u16) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(port))
}

/// The same for the second container.
fn another(node: &Node) -> Catena<'_> {
    catena(node, 9090).env("CNI_CONTAINERID", "second")
}

/// The only file in a directory whose name is accepted.
#[track_caller]
fn only_file(dir: &Path, accept: impl Fn(&str) -> bool) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> =
        files.filter(|file| accept(file.file_name().unwrap().to_str().unwrap())).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().unwrap()
}

fn index() -> PathBuf {
    only_file(Path::new("/var/lib/catena/leases"), |_| true)
}

/// Damages a file of a living attachment's in each of these ways, and has every verb run. Another container gets other
/// addresses; all of them are deleted in the end, with nothing left but what was set aside.
fn everybody_is_served(file: impl Fn() -> PathBuf, damages: &[Damage], reported: bool) {
    for damage in damages {
        let node = Node::new();
        let (c1, c2) = (node.container("c1"), node.container("c2"));
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        let first = catena(&node, 8080).add(&list(), &c1);
        let file = file();
        damage.damage(&file);

        let said = RefCell::new(String::new());
        let succeeds = |what: &str, output: Output| {
            said.borrow_mut().push_str(&output.stderr);
            let shown = output.to_string();
            assert!(output.is_success(), "{damage:?} {what}: {shown}");
            output
        };
        let second = succeeds("ADD", another(&node).try_add(&list(), &c2)).json();
        for address in values(&first["ips"], "address") {
            assert!(!values(&second["ips"], "address").contains(&address), "{damage:?}: {second}");
        }
        succeeds("CHECK", another(&node).try_check(&list(), &c2));
        succeeds("STATUS", another(&node).status(&list()));
        succeeds("GC", another(&node).gc(&list(), &[]));
        // What lives is still there: the reader of a damaged file does not take it for gone.
        c1.run(["ip", "link", "show", "eth0"]);
        for address in values(&first["ips"], "address") {
            let lease = Path::new(LEASES).join(address.split('/').next().unwrap());
            assert!(lease.symlink_metadata().is_ok(), "{damage:?}: {}", lease.display());
        }
        // It may have lost its record; then it is checked as what another implementation made.
        said.borrow_mut().push_str(&catena(&node, 8080).try_check(&list(), &c1).stderr);
        succeeds("DEL", another(&node).try_del(&list(), c2.path()));
        succeeds("DEL of its own", catena(&node, 8080).try_del(&list(), c1.path()));
        let said = said.into_inner();
        if reported {
            let path = file.to_str().unwrap();
            assert!(said.contains(path), "{damage:?}: {path} is not named: {said}");
            if *damage != Damage::Empty {
                assert!(said.contains(&format!("{path}.corrupt")), "{damage:?}: {said}");
                assert!(PathBuf::from(format!("{path}.corrupt")).symlink_metadata().is_ok());
            }
        }
        for dir in ["/var/lib/cni", "/var/lib/catena", "/run/catena"] {
            node.run([
                "find",
                dir,
                "-depth",
                "-name",
                "*.corrupt*",
                "-exec",
                "rm",
                "-r",
                "{}",
                "+",
            ]);
        }
        let shared = Shared::none().catena("web").device("cni0");
        assert_same(&before, &node.snapshot(), &shared);
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}

fn record() -> PathBuf {
    let dir = Path::new("/var/lib/catena/attachments/web");
    only_file(dir, |name| name.ends_with(".json"))
}

#[test]
fn a_record() {
    everybody_is_served(record, &ALL, true);
}

#[test]
fn a_lease() {
    everybody_is_served(|| Path::new(LEASES).join("10.1.0.2"), &ALL, true);
}

#[test]
fn an_entry_of_the_index() {
    everybody_is_served(|| only_file(&index(), |name| !name.starts_with('.')), &ALL, true);
}

#[test]
fn the_stamp_of_the_index() {
    everybody_is_served(|| index().join(".stamp"), &ALL, true);
}

#[test]
fn the_address_that_was_given_last() {
    // Half of an address may be another one.
    let damages: Vec<_> = ALL.into_iter().filter(|damage| *damage != Damage::Half).collect();
    everybody_is_served(|| Path::new(LEASES).join("last_reserved_ip.0"), &damages, true);
}

#[test]
fn the_mark_of_the_boot() {
    everybody_is_served(|| "/run/catena/boot".into(), &ALL, true);
}

#[test]
fn what_is_in_the_way_of_a_draft() {
    let damages = [Damage::Empty, Damage::Random, Damage::Directory, Damage::DanglingLink];
    everybody_is_served(|| index().join(".new"), &damages, false);
    let dir = Path::new("/var/lib/catena/attachments/web");
    let draft = || dir.join(".second@eth0:conflist.json.new");
    everybody_is_served(draft, &damages, false);
}

#[test]
fn locks() {
    let damages = [Damage::Random, Damage::ForeignJson];
    for lock in ["/run/catena/nft.lock", "/run/catena/bridges.lock"] {
        everybody_is_served(|| lock.into(), &damages, false);
    }
    everybody_is_served(|| Path::new(LEASES).join("lock"), &damages, false);
}

#[test]
fn a_lock_that_cannot_be_opened_is_one_clear_error() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    catena(&node, 8080).add(&list(), &c1);
    for lock in ["/run/catena/nft.lock", "/var/lib/cni/networks/web/lock"] {
        let before = node.snapshot();
        let content = fs::read(lock).unwrap();
        Damage::Directory.damage(Path::new(lock));
        let refused = PluginOutput::from(another(&node).try_add(&list(), &c2));
        assert_eq!(refused.error_code(), 5, "{refused}");
        assert!(refused.error_text().contains(lock), "{refused}");
        fs::remove_dir_all(lock).unwrap();
        fs::write(lock, content).unwrap();
        another(&node).del(&list(), &c2);
        let shared = Shared::none().file("/run/catena/*").file(&format!("{LEASES}/l*"));
        assert_same(&before, &node.snapshot(), &shared);
    }
    catena(&node, 8080).check(&list(), &c1);
}

#[test]
fn a_record_of_a_newer_version_is_neither_used_nor_moved() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    catena(&node, 8080).add(&list(), &c1);
    let file = record();
    // It has fields that are not known here, and lacks some that are.
    let newer = r#"{"format":2,"network":"web","attachments":[]}"#;
    fs::write(&file, newer).unwrap();
    let before = node.snapshot();
    for (verb, output) in [
        ("ADD", catena(&node, 8080).try_add(&list(), &c1)),
        ("CHECK", catena(&node, 8080).try_check(&list(), &c1)),
        ("DEL", catena(&node, 8080).try_del(&list(), c1.path())),
    ] {
        let refused = PluginOutput::from(output);
        assert_eq!(refused.error_code(), 6, "{verb}: {refused}");
        let text = refused.error_text();
        for part in [file.to_str().unwrap(), "has format 2", "remove the file"] {
            assert!(text.contains(part), "{verb}: {part}: {text}");
        }
        assert_same(&before, &node.snapshot(), &Shared::none().file("/run/catena/locks/*"));
    }
    // Others are served.
    another(&node).add(&list(), &c2);
    another(&node).check(&list(), &c2);
    let passed = another(&node).gc(&list(), &[]);
    assert!(passed.stderr.contains("format 2"), "{passed}");
    another(&node).del(&list(), &c2);
    assert_eq!(fs::read_to_string(&file).unwrap(), newer);
    // The way out that the error names.
    fs::remove_file(&file).unwrap();
    catena(&node, 8080).del(&list(), &c1);
}

#[test]
fn a_record_that_is_another_attachment_s_is_set_aside() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    catena(&node, 8080).add(&list(), &c1);
    let first = record();
    another(&node).add(&list(), &c2);
    let dir = Path::new("/var/lib/catena/attachments/web");
    let second = only_file(dir, |name| dir.join(name) != first);
    fs::copy(&first, &second).unwrap();
    // DEL of the one does not delete the other.
    let said = another(&node).try_del(&list(), c2.path());
    assert!(said.stderr.contains(&format!("{}.corrupt", second.display())), "{said}");
    said.success();
    catena(&node, 8080).check(&list(), &c1);
    assert!(!c2.try_run(["ip", "link", "show", "eth0"]).is_success());
    catena(&node, 8080).del(&list(), &c1);
}

#[test]
fn a_record_that_was_cut_between_two_lines_forgets_no_delegate() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    for lines in 1..=3 {
        catena(&node, 8080).add(&list(), &c1);
        let file = record();
        let text = fs::read_to_string(&file).unwrap();
        let cut: String = text.split_inclusive('\n').take(lines).collect();
        fs::write(&file, cut).unwrap();
        catena(&node, 8080).del(&list(), &c1);
        assert_same(&before, &node.snapshot(), &Shared::none().catena("web").device("cni0"));
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}
