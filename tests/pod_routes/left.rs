//! A node that Catena leaves has nothing of it, whether its daemon runs on or not.

use std::path::Path;

use testnode::{Node, links, until};

use crate::filtered::DROP;
use crate::machines::{Machine, Wires};
use crate::{A, B, C, CATENA, PATIENCE};

/// What the kernel of a node has.
fn kernel_of(machine: &Machine<'_>) -> Vec<String> {
    let looks = ["nft list ruleset", "ip route", "ip -6 route", "ip -o link", "ip -o addr"];
    looks.map(|look| machine.netns.run(look.split(' '))).to_vec()
}

#[test]
fn uninstall_leaves_nothing_in_the_kernel_and_a_daemon_that_runs_on_puts_nothing_back() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    let (c, d) = (wires.machine("c", 1, 13), wires.machine("d", 1, 14));
    a.netns.run(["sh", "-c", DROP]);
    a.await_tried();
    let before = kernel_of(&a);
    a.join(&A);
    b.join(&B);
    let (bin, conf_dir) = (node.dir("bin"), a.conf_dir());
    let dirs = ["--bin-dir", bin.to_str().unwrap(), "--conf-dir", &conf_dir];
    let tool = |verb: &str| a.cmd([CATENA, verb]).args(dirs).output();
    tool("install").success();
    let daemon = a.daemon_of(Path::new(CATENA), &bin, &["--pod-network", "--conf-dir", &conf_dir]);
    a.await_kept(&B);
    let rules = || a.netns.run(["nft", "list", "ruleset"]);
    let is_whole = || a.conflist().exists() && rules().contains("comment \"catena\"");
    until("the network is there", PATIENCE, || is_whole().then_some(()));
    let record = node.dir("machine-a").join("var/lib/catena/cluster.json");
    assert!(record.exists());

    a.pod_of_network("pod-a");
    let refused = tool("uninstall").failure();
    assert!(refused.stderr.contains("attachments that Catena made still live"), "{refused}");
    a.await_kept(&B);
    assert!(is_whole() && rules().contains("table inet catena"));
    // It goes without a DEL.
    node.run(["ip", "netns", "del", "pod-a"]);
    until("its interface is gone", PATIENCE, || {
        let links = a.netns.run(["ip", "-o", "link"]);
        (links.lines().count() == 3 && links.contains("catena.vxlan")).then_some(())
    });

    assert_eq!(tool("uninstall").success(), "");
    let left = || (kernel_of(&a), record.exists(), std::fs::read_dir(&conf_dir).unwrap().count());
    assert_eq!(left(), (before.clone(), false, 0));
    // The daemon looks at the cluster again.
    c.join(&C);
    until("the log says what is missing", PATIENCE, || {
        daemon.log().contains("has no plugin catena, so").then_some(())
    });
    assert_eq!(left(), (before.clone(), false, 0));
    // By plugins of others under the same names it is not the same network.
    let others = links(&node, "/bin/true", &testnode::PLUGINS[..10]);
    for name in &testnode::PLUGINS[..10] {
        std::fs::rename(others.join(name), bin.join(name)).unwrap();
    }
    tool("uninstall").success();
    d.join(&["10.1.4.0/24"]);
    assert_eq!(left(), (before, false, 0));

    tool("install").success();
    a.await_kept(&[B[0], C[0], "10.1.4.0/24", B[1], C[1]]);
    until("the network is there again", PATIENCE, || is_whole().then_some(()));
}
