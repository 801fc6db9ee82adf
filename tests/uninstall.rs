//! `catena uninstall` gives a directory of plugins back as it was before `catena install`, and neither of the two can be
//! killed so that a plugin is missing.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;
use testnode::conf::{bridge, conflist};
use testnode::{Attachment, Call, Catena, Node, Output, PluginOutput, Plugins};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// Debian's package of the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// What changes files, or opens them to be changed. Killed before any other system call, a process leaves what it leaves
/// when it is killed before the next of these.
const DEEDS: [&str; 15] = [
    "openat",
    "flock",
    "copy_file_range",
    "sendfile",
    "write",
    "fchmod",
    "fsync",
    "mkdir",
    "rmdir",
    "rename",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "unlink",
];

/// A directory of plugins before Catena: of the reference's some are files, and some are links to where Debian has them;
/// one is somebody else's.
struct BinDir<'n> {
    node: &'n Node,
    path: PathBuf,
}

impl<'n> BinDir<'n> {
    fn new(node: &'n Node) -> Self {
        let path = node.fresh_path("bin");
        fs::create_dir_all(&path).unwrap();
        for name in ["bridge", "host-local", "sbr"] {
            fs::copy(Path::new(REFERENCE).join(name), path.join(name)).unwrap();
        }
        for name in ["portmap", "loopback"] {
            symlink(Path::new(REFERENCE).join(name), path.join(name)).unwrap();
        }
        Self { node, path }
    }

    /// The names with what tells whether it is the same file: its kind, where it leads, its number, its mode.
    fn entries(&self) -> BTreeMap<String, (Option<PathBuf>, u64, u32)> {
        let entries = fs::read_dir(&self.path).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let file = fs::symlink_metadata(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, (fs::read_link(&path).ok(), file.ino(), file.mode()))
        });
        entries.collect()
    }

    fn run(&self, binary: &Path, verb: &str) -> Output {
        Catena::new(self.node, binary)
            .cmd([verb, "--bin-dir", self.path.to_str().unwrap()])
            .output()
    }

    #[track_caller]
    fn install(&self) {
        assert_eq!(self.run(Path::new(CATENA), "install").success(), "");
    }

    /// Uninstalls, and returns what it says.
    #[track_caller]
    fn uninstall(&self) -> String {
        let output = self.run(Path::new(CATENA), "uninstall");
        assert!(output.is_success(), "{output}");
        assert_eq!(output.stdout, "");
        output.stderr
    }

    /// Each of these names is a plugin that answers.
    #[track_caller]
    fn assert_answers<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let plugins = Plugins::new(self.node, [&self.path]);
        for name in names {
            let answer =
                plugins.call(name, &Call::new("VERSION"), r#"{"cniVersion":"1.0.0"}"#).result();
            assert!(answer["supportedVersions"].is_array(), "{name}: {answer}");
        }
    }
}

#[test]
fn what_was_there_before_is_there_again() {
    let node = Node::new();
    let dir = BinDir::new(&node);
    let before = dir.entries();
    for _ in 0..2 {
        dir.install();
        dir.install();
        let installed = dir.entries();
        assert_eq!(installed["bridge"].0.as_deref(), Some(Path::new("catena")));
        assert_eq!(installed["sbr"], before["sbr"]);
        assert_eq!(dir.uninstall(), "");
        // The very same files: not even their numbers differ.
        assert_eq!(dir.entries(), before);
        assert_eq!(dir.uninstall(), "");
        assert_eq!(dir.entries(), before);
    }
    // Where nothing was, nothing stays; and where there is no directory, nothing is to be done.
    let empty = BinDir { node: &node, path: node.dir("empty") };
    empty.install();
    assert_eq!(empty.uninstall(), "");
    assert_eq!(empty.entries(), BTreeMap::new());
    let none = BinDir { node: &node, path: node.fresh_path("none") };
    assert_eq!(none.uninstall(), "");
    assert!(!none.path.exists());
}

#[test]
fn what_others_have_put_there_since_is_left_alone_and_said() {
    let node = Node::new();
    let dir = BinDir::new(&node);
    dir.install();
    // As a package manager replaces a file.
    for name in ["bridge", "ptp"] {
        node.write(dir.path.join(".dpkg-new"), "a newer one");
        fs::rename(dir.path.join(".dpkg-new"), dir.path.join(name)).unwrap();
    }
    // A name of a later version of Catena, or one that its user made.
    symlink("catena", dir.path.join("multus")).unwrap();
    symlink("/opt/other/catena", dir.path.join("other")).unwrap();
    fs::remove_file(dir.path.join("host-local")).unwrap();
    let said = dir.uninstall();
    for part in [dir.path.join("bridge"), dir.path.join(".before-catena/bridge")] {
        assert!(said.contains(part.to_str().unwrap()), "{said}");
    }
    assert_eq!(said.lines().count(), 1, "{said}");
    for name in ["bridge", "ptp"] {
        assert_eq!(fs::read_to_string(dir.path.join(name)).unwrap(), "a newer one");
    }
    let names: Vec<_> = dir.entries().into_keys().collect();
    assert_eq!(
        names,
        [".before-catena", "bridge", "host-local", "loopback", "other", "portmap", "ptp", "sbr"]
    );
    // Nothing but the one that is kept for a name that somebody else has.
    let kept = fs::read_dir(dir.path.join(".before-catena")).unwrap();
    assert_eq!(kept.map(|file| file.unwrap().file_name()).collect::<Vec<_>>(), ["bridge"]);
    dir.assert_answers(["sbr", "host-local", "loopback", "portmap"]);
}

#[test]
fn a_file_of_the_name_catena_that_is_not_catena_is_kept() {
    let node = Node::new();
    let dir = BinDir { node: &node, path: node.dir("bin") };
    node.write(dir.path.join("catena"), "curves of hanging chains");
    dir.install();
    dir.assert_answers(["bridge", "catena"]);
    assert_eq!(dir.uninstall(), "");
    let content = fs::read_to_string(dir.path.join("catena")).unwrap();
    assert_eq!(content, "curves of hanging chains");
    // It has come there since.
    dir.install();
    node.write(dir.path.join("new"), "another");
    fs::rename(dir.path.join("new"), dir.path.join("catena")).unwrap();
    fs::remove_dir_all(dir.path.join(".before-catena")).unwrap();
    let said = dir.uninstall();
    assert!(said.contains("is not Catena's"), "{said}");
    assert_eq!(dir.entries().into_keys().collect::<Vec<_>>(), ["catena"]);
}

#[test]
fn as_long_as_attachments_live_it_is_refused() {
    let node = Node::new();
    let dir = BinDir::new(&node);
    let before = dir.entries();
    dir.install();
    let installed = dir.entries();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let catena = Catena::new(&node, CATENA).env("CNI_CONTAINERID", "web-1");
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"])]);
    catena.add(&list, &c1);
    // By a runtime, as a plugin.
    let plugins = Plugins::new(&node, [&dir.path]);
    let lo = Attachment::new(&c2).ifname("lo");
    let conf = json!({ "cniVersion": "1.0.0", "name": "db", "type": "loopback" });
    plugins.call("loopback", &Call::of("ADD", &lo), &conf.to_string()).result();

    let refused = PluginOutput::from(dir.run(Path::new(CATENA), "uninstall"));
    assert_eq!(refused.error_code(), 11);
    let text = refused.error_text();
    for part in
        ["live: 2", "db id-c2/lo", "web web-1/eth0", "/var/lib/catena/attachments", "--force"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(dir.entries(), installed);

    catena.del(&list, &c1);
    // A container that is gone is none that lives.
    c2.delete();
    assert_eq!(dir.uninstall(), "");
    assert_eq!(dir.entries(), before);

    dir.install();
    catena.add(&list, &c1);
    Catena::new(&node, CATENA)
        .cmd(["uninstall", "--force", "--bin-dir", dir.path.to_str().unwrap()])
        .output()
        .success();
    assert_eq!(dir.entries(), before);
}

#[test]
fn what_containers_of_another_installation_need_in_the_kernel_stays() {
    let node = Node::new();
    let dir = BinDir::new(&node);
    dir.install();
    node.ip("link add eth9 type bridge\nlink set eth9 up\naddr add 192.0.2.1/24 dev eth9\n\
             route add 10.9.0.0/24 via 192.0.2.9 proto 202\n");
    let state = node.dir("another");
    let c1 = node.container("c1");
    let another = Catena::new(&node, CATENA).env("CATENA_STATE_DIR", &state);
    let mut masquerading = bridge("cni0", &["10.1.0.0/24"]);
    masquerading["ipMasq"] = json!(true);
    let list = conflist("web", &[masquerading]);
    another.add(&list, &c1);
    let kernel = || {
        let routes = node.run(["ip", "route", "show", "proto", "202"]);
        (node.run(["nft", "list", "ruleset"]), routes)
    };
    let before = kernel();
    assert!(before.0.contains("table inet catena") && before.1.contains("10.9.0.0/24"));
    let said = dir.uninstall();
    for part in ["web ", "/eth0", "/var/lib/catena", "nft delete table inet catena"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(kernel(), before);
    another.del(&list, &c1);
    assert_eq!(dir.uninstall(), "");
    assert_eq!(kernel(), (String::new(), String::new()));
}

/// Kills `verb` at each of its deeds, after `prepare`, and runs `then`. All plugins of `always` answer after the kill, and
/// whoever else has a name does; in the end the names are those of `finished`. Returns how many kills that were.
fn killed_at_every_deed(
    dir: &BinDir<'_>,
    [prepare, verb, then]: [&str; 3],
    always: &[&str],
    finished: &[&str],
) -> usize {
    let node = dir.node;
    // The debugger's part of the binary would be copied each time.
    let binary = node.fresh_path("catena");
    node.run(["strip".as_ref(), "-o".as_ref(), binary.as_os_str(), CATENA.as_ref()]);
    // Whether it was killed: it may end before.
    let kill = |deed: &str, count: usize| {
        dir.run(&binary, prepare).success();
        // strace counts each system call by itself.
        let inject = format!("inject={deed}:signal=SIGKILL:when={count}");
        let run = node
            .cmd(["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject])
            .args([binary.to_str().unwrap(), verb, "--bin-dir", dir.path.to_str().unwrap()])
            .output();
        assert!([0, 137].contains(&run.code()), "{run}");
        dir.assert_answers(always.iter().copied());
        let names: Vec<_> = dir.entries().into_keys().collect();
        dir.assert_answers(names.iter().map(String::as_str).filter(|name| !name.starts_with('.')));
        let ended = dir.run(&binary, then);
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""), "{deed} {count}: {ended}");
        let names: Vec<_> = dir.entries().into_keys().collect();
        assert_eq!(names, finished, "{deed} {count}");
        run.code() != 0
    };
    DEEDS.iter().map(|deed| (1..).take_while(|count| kill(deed, *count)).count()).sum()
}

/// Kills `verb` at each point; then it is run again, or undone.
fn can_be_killed_at_any_point(verb: &str) {
    let node = Node::new();
    let dir = BinDir::new(&node);
    let before = dir.entries();
    let names: Vec<_> = before.keys().map(String::as_str).collect();
    dir.install();
    let installed = dir.entries();
    let installed: Vec<_> = installed.keys().map(String::as_str).collect();
    dir.uninstall();
    let prepare = if verb == "install" { "uninstall" } else { "install" };
    for (then, finished) in [("install", &installed), ("uninstall", &names)] {
        let kills = killed_at_every_deed(&dir, [prepare, verb, then], &names, finished);
        println!("{verb} killed at {kills} points, then {then}");
        assert!(kills > 50, "{kills} are too few: what was killed?");
    }
    assert_eq!(dir.entries(), before, "the very same files, after all that");
}

#[test]
fn install_can_be_killed_at_any_point() {
    can_be_killed_at_any_point("install");
}

#[test]
fn uninstall_can_be_killed_at_any_point() {
    can_be_killed_at_any_point("uninstall");
}

#[test]
fn a_directory_that_cannot_be_written_is_one_clear_error() {
    let node = Node::new();
    let dir = BinDir::new(&node);
    dir.install();
    let before = dir.entries();
    let path = dir.path.to_str().unwrap();
    node.run(["mount", "--bind", path, path]);
    node.run(["mount", "-o", "remount,bind,ro", path]);
    for verb in ["install", "uninstall"] {
        let failed = PluginOutput::from(dir.run(Path::new(CATENA), verb));
        assert_eq!(failed.error_code(), 5);
        let text = failed.error_text();
        for part in [path, "Read-only file system", "--bin-dir"] {
            assert!(text.contains(part), "{verb}: {part}: {text}");
        }
        assert_eq!(failed.stderr.lines().count(), 1, "{failed}");
        assert_eq!(dir.entries(), before);
    }
    dir.assert_answers(["bridge", "portmap", "sbr"]);
}
