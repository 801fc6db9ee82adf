//! Rules in tables of iptables from before nf_tables.

use std::path::Path;

use testnode::{Node, Plugins, Runtime};

use crate::{Switch, attachment, chain, conflist, servers};

/// Names the tools of old iptables as the reference calls them.
pub fn old_iptables(bin: &Path) {
    for tool in ["iptables", "ip6tables"] {
        for end in ["", "-save", "-restore"] {
            let old = format!("/usr/sbin/{tool}-legacy{end}");
            std::os::unix::fs::symlink(old, bin.join(format!("{tool}{end}"))).unwrap();
        }
    }
}

/// Where iptables is the one from before nf_tables, netlink shows nothing of its rules.
#[test]
fn rules_of_old_iptables_are_checked_and_deleted() {
    let node = Node::new();
    let bin = node.dir("old-iptables");
    old_iptables(&bin);
    let switch = Switch::new(&node, &chain("bridge", &["portmap", "firewall"]));
    let old = Runtime::new(
        Plugins::debian(&node).search_path(&bin),
        conflist("1.0.0", &chain("bridge", &["portmap", "firewall"])),
    );
    let save = || {
        ["iptables-legacy-save", "ip6tables-legacy-save"].map(|tool| {
            let text = node.run([tool]);
            text.lines()
                .filter(|line| line.starts_with("-A ") || line.starts_with(":CNI"))
                .map(|line| line.split(" [").next().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
    };
    let first = node.container("first");
    let other = attachment(&first, 7000);
    old.add(&other).unwrap_or_else(|e| panic!("{e}"));
    let before = save();
    let c1 = node.container("c1");
    let _servers = servers(&c1);
    let attachment = attachment(&c1, 8080);
    let result = old.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(before, save(), "the rules are in the old tables");
    switch.catena.take_over(&attachment, result);
    switch.check(&attachment);
    switch.assert_serves(&c1, 8080, "c1");
    node.run(["iptables-legacy", "-D", "CNI-FORWARD", "-s", "10.1.0.3", "-j", "ACCEPT"]);
    let found = switch.findings(&attachment);
    assert!(
        found.contains("chain ip filter CNI-FORWARD accepts what goes from 10.1.0.3"),
        "{found}"
    );
    switch.del(&attachment);
    assert_eq!(before, save());
}
