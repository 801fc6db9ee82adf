//! Two daemons at once on one node agree: neither undoes what the other does.

use std::fs;
use std::os::unix::fs::MetadataExt;

use testnode::{Background, Node, until};

use crate::machines::{METRICS, Machine, Wires};
use crate::{A, B, C, PATIENCE};

/// Where the second one serves its metrics.
const SECOND: &str = "127.0.0.1:9465";
const ROUNDS: &str = "catena_network_rounds_total";

/// What changes in a machine's tables, as the kernel tells it.
struct Monitors<'m> {
    machine: &'m Machine<'m>,
    rules: Background,
    links: Background,
}

impl<'m> Monitors<'m> {
    /// From now on.
    fn start(node: &Node, machine: &'m Machine<'m>) -> Self {
        let spawn = |argv: &[&str]| machine.netns.cmd(argv).spawn(node.fresh_path("monitor"));
        let links = spawn(&["ip", "monitor", "link", "address", "route", "neigh"]);
        machine.await_tried();
        let this = Self { machine, rules: spawn(&["nft", "monitor"]), links };
        this.mark("first");
        this
    }

    /// Waits until both have told of something that is done for them.
    fn mark(&self, name: &str) {
        until("the monitors listen", PATIENCE, || {
            let link = format!("link add {name} type bridge\nlink del {name}\n");
            self.machine.netns.ip(&link);
            let rules = format!("add table ip {name}; delete table ip {name}");
            self.machine.netns.run(["nft", &rules]);
            let is_told = self.rules.log().contains(&format!("delete table ip {name}"))
                && self.links.log().contains(name);
            is_told.then_some(())
        });
    }

    /// What of Catena's has changed since the start.
    fn changes(&self) -> Vec<String> {
        self.mark("last");
        let text = self.rules.log() + &self.links.log();
        // Multicast groups' neighbours are the kernel's own.
        let is_its = |line: &&str| {
            (line.contains("catena") || line.contains("proto 202")) && !line.contains(" NOARP")
        };
        text.lines().filter(is_its).map(str::to_owned).collect()
    }
}

#[test]
fn two_daemons_on_one_node_agree_and_write_nothing_again() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 1, 13));
    a.join(&A);
    b.join(&B);
    let masq = node.dir("masq").join("config");
    node.write(&masq, "nonMasqueradeCIDRs: [192.0.2.0/24]\n");
    let (conf_dir, path) = (a.conf_dir(), masq.display().to_string());
    let common = ["--pod-network", "--write-conf", "--conf-dir", &conf_dir, "--masq-config", &path];
    let first = ["--metrics-address", METRICS];
    let second = ["--metrics-address", SECOND, "--run-dir", "/run/catena/second"];
    let _first = a.daemon(&[&common[..], &first].concat());
    let _second = a.daemon(&[&common[..], &second].concat());
    let counts = || Some([a.metric(ROUNDS)?, a.metric_at(SECOND, ROUNDS)?]);
    // Both look at everything, since the file is another one.
    let a_round_of_each = || {
        let before = until("both count", PATIENCE, counts);
        node.write(&masq, "nonMasqueradeCIDRs: [192.0.2.0/24]\n");
        until("both have looked", PATIENCE, || {
            let now = counts()?;
            (now[0] > before[0] && now[1] > before[1]).then_some(())
        });
    };
    a.pod_of_network("pod-a");
    a.await_kept(&B);
    until("the meta plugin's configuration is there", PATIENCE, || {
        a.conflist().with_file_name("00-catena.conflist").exists().then_some(())
    });
    a_round_of_each();
    a_round_of_each();

    let record = node.dir("machine-a").join("var/lib/catena/cluster.json");
    let files = [a.conflist(), a.conflist().with_file_name("00-catena.conflist"), record];
    let known = || files.each_ref().map(|file| fs::metadata(file).unwrap().ino());
    let before = known();
    let monitors = Monitors::start(&node, &a);
    for _ in 0..4 {
        a_round_of_each();
    }
    assert_eq!(monitors.changes(), [""; 0]);
    assert_eq!(known(), before);

    // Both follow the cluster, and agree again.
    c.join(&C);
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    a_round_of_each();
    a_round_of_each();
    let (before, monitors) = (known(), Monitors::start(&node, &a));
    a_round_of_each();
    a_round_of_each();
    assert_eq!(monitors.changes(), [""; 0]);
    assert_eq!(known(), before);
}
