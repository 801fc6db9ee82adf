//! Which functions a call runs, in the order in which they are to lie in the binary: `make order` writes what this prints to
//! `deploy/link/order`.
//!
//! A call reads the binary a page at a time, and half of the binary is for other things. Valgrind's callgrind says what is run; the
//! binary has to have its symbols.

#![allow(missing_docs, clippy::print_stdout, reason = "a program that prints a list")]

#[path = "../networks.rs"]
mod networks;

use std::{
    collections::HashSet,
    env,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use networks::Kind;
use testnode::{Attachment, Node, PLUGINS, Plugins, Runtime, links};

fn main() -> Result<()> {
    let [catena] = &env::args_os().skip(1).map(PathBuf::from).collect::<Vec<_>>()[..] else {
        bail!("usage: order CATENA");
    };
    let node = Node::new();
    let plain = links(&node, catena.canonicalize()?, &PLUGINS);
    let out = node.fresh_path("called");
    fs::create_dir_all(&out)?;
    let watched = watched(&node, &plain, &out);
    let runtime = |dir: &Path, conflist| Runtime::new(Plugins::new(&node, [dir]), conflist);
    let conflists = [
        (Kind::Full, Kind::Full.in_one()),
        (Kind::Full, Kind::Full.conflist()),
        (Kind::Bridge, Kind::Bridge.conflist()),
        (Kind::Ptp, Kind::Ptp.conflist()),
        (Kind::Loopback, Kind::Loopback.conflist()),
    ];
    for (number, (kind, conflist)) in (1..).zip(conflists) {
        // A node in use has its bridge, its ruleset and its folders.
        let [first, second] =
            ["first", "second"].map(|name| node.container(&format!("{name}-{number}")));
        let first = kind.offer(Attachment::new(&first), 2 * number);
        runtime(&plain, conflist.clone()).add(&first).expect("ADD");
        let second = kind.offer(Attachment::new(&second), 2 * number + 1);
        let watching = runtime(&watched, conflist);
        watching.add(&second).expect("ADD");
        ensure!(watching.check_each(&second).is_empty(), "CHECK");
        watching.del(&second).expect("DEL");
        runtime(&plain, kind.conflist()).del(&first).expect("DEL");
    }
    let names = called(&out)?;
    ensure!(names.lines().count() > 1_000, "{}: it has no symbols", catena.display());
    let list = node.fresh_path("names");
    fs::write(&list, names)?;
    print!("{}", readable(&list)?);
    Ok(())
}

/// A folder with plugins that write to `out` what they call.
fn watched(node: &Node, plain: &Path, out: &Path) -> PathBuf {
    let dir = node.fresh_path("watched");
    for name in PLUGINS {
        let script = format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --demangle=no --callgrind-out-file={}/%p {}\n",
            out.display(),
            plain.join(name).display()
        );
        let path = dir.join(name);
        node.write(&path, &script);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    dir
}

/// What callgrind has written, without what was called before.
fn called(out: &Path) -> Result<String> {
    let mut files: Vec<_> =
        fs::read_dir(out)?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    files.sort_by_key(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok())
    });
    let mut seen = HashSet::new();
    let mut names = String::new();
    for file in files {
        for line in fs::read_to_string(file)?.lines() {
            // "fn=(12) name", where a name is told for the first time; a recursive call's ends in 'DEPTH.
            let name = line.strip_prefix('c').unwrap_or(line).strip_prefix("fn=(");
            let name = name.and_then(|rest| rest.split_once(") ")).map(|(_, name)| name);
            let name = name.and_then(|name| name.split('\'').next());
            if let Some(name) = name
                && name.starts_with(|first: char| first.is_alphabetic() || first == '_')
                && seen.insert(name.to_owned())
            {
                names += name;
                names.push('\n');
            }
        }
    }
    Ok(names)
}

/// The names as they are written in the source, which is how `deploy/link/cc` compares them.
fn readable(names: &Path) -> Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/link/readable");
    let output = Command::new(script).stdin(File::open(names)?).output().context(script)?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    let mut seen = HashSet::new();
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_inclusive('\n').filter(|name| seen.insert(name.to_string())).collect())
}
