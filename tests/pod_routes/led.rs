//! The runtime is led to a network as long as that can serve, and no longer.

use std::path::Path;

use testnode::{Node, until};

use crate::machines::Wires;
use crate::{A, CATENA, PATIENCE};

#[test]
fn the_runtime_is_led_to_nothing_that_cannot_serve_and_to_nothing_after_uninstall() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let a = wires.machine("a", 1, 11);
    a.join(&A);
    let (bin, conf_dir) = (node.dir("bin"), a.conf_dir());
    let settings = node.fresh_path("settings").with_extension("json");
    node.write(&settings, "{");
    let args = ["--pod-network", "--conf-dir", &conf_dir];
    let meta = ["--write-conf", "--settings", settings.to_str().unwrap()];
    let daemon = a.daemon_of(Path::new(CATENA), &bin, &[&args[..], &meta].concat());
    let says = |what: &str, times: usize| {
        until(what, PATIENCE, || (daemon.log().matches(what).count() >= times).then_some(()));
    };
    let networks = || -> Vec<String> {
        let entries = std::fs::read_dir(&conf_dir).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.retain(|name| name.ends_with(".conflist"));
        names.sort();
        names
    };
    let dirs = ["--bin-dir", bin.to_str().unwrap(), "--conf-dir", &conf_dir];
    // With each change of a Node the daemon looks at everything.
    let look = |status: &str| a.set_condition("Looked", status);
    let install = || a.cmd([CATENA, "install"]).args(dirs).output().success();

    says("has no plugin catena, so", 1);
    assert!(networks().is_empty());
    install();
    look("True");
    // Pods would get the network alone without what comes before it.
    says("the pods' network: /run/testnode", 1);
    says("settings.json: EOF", 1);
    assert!(networks().is_empty());
    node.write(&settings, "{}");
    look("False");
    until("the network is there", PATIENCE, || a.conflist().exists().then_some(()));
    let both = ["00-catena.conflist", "10-catena.conflist"];
    assert_eq!(networks(), both);

    // It rests wherever it removes something; the daemon would have the time to write it again.
    let rest = "inject=unlink,unlinkat:delay_exit=100000";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", rest, CATENA, "uninstall"];
    a.cmd(strace).args(dirs).output().success();
    assert_eq!(std::fs::read_dir(&conf_dir).unwrap().count(), 0);
    look("True");
    says("has no plugin catena, so", 2);
    assert_eq!(std::fs::read_dir(&conf_dir).unwrap().count(), 0);
    install();
    look("False");
    until("both are there again", PATIENCE, || (networks() == both).then_some(()));
}
