//! `catena install` puts the binary and the plugins' names where runtimes look for them, and each name is that plugin.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::conflist;
use testnode::{Call, Catena, Node, Plugins, Scripts, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

fn install(node: &Node, dir: &Path) {
    Catena::new(node, CATENA)
        .cmd(["install", "--bin-dir", dir.to_str().unwrap()])
        .output()
        .success();
}

/// The files in a folder with where they lead to.
fn entries(dir: &Path) -> BTreeMap<String, Option<PathBuf>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read_link(entry.path()).ok())
    });
    entries.collect()
}

#[test]
fn the_binary_and_its_links_are_installed_and_installed_again() {
    let node = Node::new();
    // A folder that is not there yet.
    let dir = node.fresh_path("opt").join("cni/bin");
    install(&node, &dir);
    let installed = entries(&dir);
    assert_eq!(installed["catena"], None, "the binary itself is a file");
    assert_eq!(fs::metadata(dir.join("catena")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read(dir.join("catena")).unwrap(), fs::read(CATENA).unwrap());
    for plugin in ["host-local", "static", "dhcp"] {
        assert_eq!(installed[plugin], Some("catena".into()), "{plugin} is a link to it");
    }
    let links = installed.iter().filter(|(name, _)| *name != "catena");
    for (name, target) in links {
        // Relative, so that the folder may be a container's mount of another path.
        assert_eq!(target.as_deref(), Some(Path::new("catena")), "{name}");
    }
    install(&node, &dir);
    assert_eq!(entries(&dir), installed, "a second time changes and leaves nothing");
    // Without a folder: where runtimes look.
    Catena::new(&node, CATENA).cmd(["install"]).output().success();
    assert_eq!(entries(Path::new("/opt/cni/bin")), installed);
}

#[test]
fn a_directory_of_a_plugins_name_is_named_before_anything_is_changed() {
    let node = Node::new();
    let dir = node.dir("bin");
    node.write(dir.join("bandwidth"), "theirs");
    fs::create_dir(dir.join("portmap")).unwrap();
    let before = entries(&dir);
    let refused =
        Catena::new(&node, CATENA).cmd(["install".as_ref(), "--bin-dir".as_ref(), dir.as_os_str()]);
    let output = refused.output().failure();
    let told = format!("{} is a directory", dir.join("portmap").display());
    assert!(output.stderr.contains(&told), "{output}");
    assert_eq!(entries(&dir), before);
}

#[test]
fn every_name_answers_version_and_says_what_it_is() {
    let node = Node::new();
    let dir = node.dir("bin");
    install(&node, &dir);
    let plugins = Plugins::new(&node, [&dir]);
    for name in entries(&dir).into_keys() {
        let answer = plugins.call(&name, &Call::new("VERSION"), r#"{"cniVersion":"1.0.0"}"#);
        assert_eq!(answer.stderr, "", "{name}");
        let answer = answer.result();
        assert_eq!(answer["cniVersion"], "1.0.0", "{name}");
        let versions = answer["supportedVersions"].as_array().unwrap();
        // bandwidth began with 0.3.0, and firewall with 0.4.0, as the reference's did.
        let all = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
        let since = match name.as_str() {
            "bandwidth" => 2,
            "firewall" => 4,
            _ => 0,
        };
        let spoken: Vec<_> = all[since..].iter().map(|version| json!(version)).collect();
        assert_eq!(*versions, spoken, "{name}");
        // Without a configuration, as some runtimes ask.
        let answer = plugins.call(&name, &Call::new("VERSION"), "").result();
        assert_eq!(answer["cniVersion"], "1.1.0", "{name}");

        if name == "catena" {
            continue; // Without CNI_COMMAND it is the tool.
        }
        let told = plugins.call(&name, &Call::new(""), "");
        assert_eq!((told.code, told.stdout.as_str()), (0, ""), "{name}: {told}");
        for part in [format!("CNI {name} plugin"), "0.4.0, 1.0.0, 1.1.0".to_owned()] {
            assert!(told.stderr.contains(&part), "{part} is missing: {told}");
        }
    }
}

#[test]
fn a_running_version_is_replaced_and_runs_on() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    let go = node.fresh_path("go");
    scripts.plugin("wait", &format!("until [ -e {} ]; do sleep 0.01; done", go.display()));
    let dir = node.dir("bin");
    install(&node, &dir);
    let installed = dir.join("catena");
    let before = fs::metadata(&installed).unwrap();

    let status = conflist("web", &[json!({ "type": "wait" })]);
    let file = node.json_file("web.conflist", &status);
    let mut running = node
        .cmd([installed.as_os_str(), "status".as_ref(), file.as_os_str()])
        .env("CNI_PATH", scripts.dir())
        .spawn(node.fresh_path("status.log"));
    until("it executes", Duration::from_secs(5), || (!scripts.calls().is_empty()).then_some(()));

    install(&node, &dir);
    let after = fs::metadata(&installed).unwrap();
    assert_ne!(before.ino(), after.ino(), "a new file took the name");
    node.run([installed.as_os_str(), "version".as_ref()]);
    running.assert_alive();
    node.write(&go, "");
    assert_eq!(running.wait(Duration::from_secs(5)), 0, "{}", running.log());
}

#[test]
fn it_installs_from_the_folder_it_is_installed_in() {
    let node = Node::new();
    let dir = node.dir("bin");
    install(&node, &dir);
    let own = dir.join("catena");
    node.run([own.as_os_str(), "install".as_ref(), "--bin-dir".as_ref(), dir.as_os_str()]);
    assert_eq!(fs::read(&own).unwrap(), fs::read(CATENA).unwrap());
}

#[test]
fn what_had_a_plugins_name_before_is_kept_aside() {
    let node = Node::new();
    let dir = node.dir("bin");
    node.write(dir.join("host-local"), "the reference's");
    symlink("/usr/lib/cni/static", dir.join("static")).unwrap();
    node.write(dir.join("calico"), "somebody else's");
    install(&node, &dir);
    for name in ["host-local", "static", "dhcp"] {
        assert_eq!(fs::read_link(dir.join(name)).unwrap(), Path::new("catena"));
    }
    let aside = dir.join(".before-catena");
    assert_eq!(fs::read_to_string(aside.join("host-local")).unwrap(), "the reference's");
    assert_eq!(fs::read_link(aside.join("static")).unwrap(), Path::new("/usr/lib/cni/static"));
    assert_eq!(fs::read_to_string(dir.join("calico")).unwrap(), "somebody else's");
    install(&node, &dir);
    assert_eq!(fs::read_to_string(aside.join("host-local")).unwrap(), "the reference's");
    // Somebody has installed a later one of the reference's over ours: that is the one to be kept.
    fs::remove_file(dir.join("host-local")).unwrap();
    node.write(dir.join("host-local"), "a later one");
    install(&node, &dir);
    assert_eq!(fs::read_link(dir.join("host-local")).unwrap(), Path::new("catena"));
    assert_eq!(fs::read_to_string(aside.join("host-local")).unwrap(), "a later one");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let node = Node::new();
    let file = node.fresh_path("not-a-folder");
    node.write(&file, "");
    let failed = Catena::new(&node, CATENA)
        .cmd(["install", "--bin-dir", file.to_str().unwrap()])
        .output()
        .failure();
    assert_eq!(failed.code(), 1);
    assert!(failed.stderr.contains(file.to_str().unwrap()), "{failed}");
    let error: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(error["code"], 5);
}
