//! Rules of the Go plugins that are there, missing, or an administrator's.

use serde_json::json;
use testnode::conf::host_local;
use testnode::{Attachment, Node, Plugins, Runtime, assert_same, await_same};

use crate::old_iptables::old_iptables;
use crate::{Switch, attachment, chain, conflist, servers, shared};

#[test]
fn a_late_del_leaves_the_rules_of_the_container_that_has_the_address_now() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["firewall"]));
    let before = switch.before();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let (late, living) = (attachment(&c1, 8080), attachment(&c2, 8180));
    let from_the_first =
        || drop(node.run(["sh", "-c", "rm /var/lib/cni/networks/*/last_reserved_ip.*"]));
    from_the_first();
    let result = switch.add(&late);
    switch.go.del(&late).unwrap_or_else(|e| panic!("{e}"));
    from_the_first();
    let again = switch.add(&living);
    assert_eq!(result["ips"][0]["address"], again["ips"][0]["address"]);
    let rules = || {
        let listing = node.run(["iptables", "-S", "CNI-FORWARD"]);
        listing + &node.run(["ip6tables", "-S", "CNI-FORWARD"])
    };
    let with_one = rules();
    c1.delete();
    switch.del(&late);
    assert_eq!(rules(), with_one);
    switch.check(&living);
    switch.del(&living);
    assert_same(&before, &node.snapshot(), &shared());
}

/// The reference takes its two rules, word for word.
#[test]
fn del_leaves_what_an_administrator_says_of_a_containers_address() {
    let tools = [("iptables", "10.1.0.2"), ("ip6tables", "fd00:1::2")];
    for old in [false, true] {
        let node = Node::new();
        let bin = node.dir("iptables");
        if old {
            old_iptables(&bin);
        }
        let go = Runtime::new(
            Plugins::debian(&node).search_path(&bin),
            conflist("1.0.0", &chain("bridge", &["firewall"])),
        );
        let switch = Switch::new(&node, &chain("bridge", &["firewall"]));
        let rules = || {
            tools.map(|(tool, _)| {
                let tool = if old { format!("{tool}-legacy") } else { tool.to_owned() };
                node.run([&*tool, "-S", "CNI-FORWARD"])
            })
        };
        let c1 = node.container("c1");
        let attachment = attachment(&c1, 8080);
        let result = go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        let theirs = rules();
        for (tool, address) in tools {
            let tool = if old { format!("{tool}-legacy") } else { tool.to_owned() };
            for rule in [
                format!("-s {address} -p tcp --dport 22 -j ACCEPT"),
                format!("-s {address} -m comment --comment mine -j ACCEPT"),
                format!("-d {address} -j ACCEPT"),
                format!("-d {address} -m conntrack --ctstate ESTABLISHED -j ACCEPT"),
                format!("-d {address} -i lan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            ] {
                let words = [&*tool, "-A", "CNI-FORWARD"].into_iter().chain(rule.split(' '));
                node.run(words);
            }
        }
        let both = rules();
        switch.catena.take_over(&attachment, result);
        switch.del(&attachment);
        for ((both, theirs), left) in both.iter().zip(&theirs).zip(rules()) {
            let of_container =
                |line: &&str| line.contains("10.1.0.2") || line.contains("fd00:1::2");
            let gone: Vec<_> = theirs.lines().filter(of_container).collect();
            assert_eq!(gone.len(), 2, "{theirs}");
            let expected: Vec<_> = both.lines().filter(|line| !gone.contains(line)).collect();
            assert_eq!(left.lines().collect::<Vec<_>>(), expected);
        }
    }
}

#[test]
fn check_names_each_rule_of_the_go_plugins_that_is_missing() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["portmap", "firewall"]));
    let c1 = node.container("c1");
    let attachment = attachment(&c1, 8080);
    switch.add(&attachment);
    switch.check(&attachment);
    let rules = node.run(["iptables-save"]) + &node.run(["ip6tables-save"]);
    let chain = |prefix: &str| {
        let line = rules.lines().find(|line| line.starts_with(&format!(":{prefix}")));
        line.unwrap()[1..].split(' ').next().unwrap().to_owned()
    };
    let dnat = chain("CNI-DN-");
    let masquerade = dnat.replace("DN-", "");
    let masquerade = chain(&masquerade[..masquerade.len() - 1]);
    for (tool, table, rule, finding) in [
        (
            "iptables",
            "nat",
            "-D POSTROUTING 2".to_owned(),
            format!("no rule in chain ip nat POSTROUTING leads 10.1.0.2 to chain {masquerade}"),
        ),
        (
            "ip6tables",
            "nat",
            format!("-F {masquerade}"),
            format!("no rule in chain ip6 nat {masquerade} masquerades what fd00:1::2 sends"),
        ),
        (
            "iptables",
            "nat",
            format!("-F {dnat}"),
            format!("no rule in chain ip nat {dnat} leads port 8081 to 10.1.0.2:53"),
        ),
        (
            "ip6tables",
            "nat",
            "-F CNI-HOSTPORT-DNAT".to_owned(),
            format!("no rule in chain ip6 nat CNI-HOSTPORT-DNAT leads to chain {dnat}"),
        ),
        (
            "iptables",
            "filter",
            "-D CNI-FORWARD -s 10.1.0.2 -j ACCEPT".to_owned(),
            "no rule in chain ip filter CNI-FORWARD accepts what goes from 10.1.0.2".to_owned(),
        ),
    ] {
        node.run([tool, "-t", table].into_iter().chain(rule.split(' ')));
        let found = switch.findings(&attachment);
        assert!(found.contains(&finding), "{finding}:\n{found}");
    }
    let before = switch.findings(&attachment);
    assert!(!before.contains("cni-br-iface"), "{before}");
    node.run(["nft", "flush", "chain", "bridge", "nat", "PREROUTING"]);
    let found = switch.findings(&attachment);
    assert!(
        found.contains(
            "no rule in chain bridge nat PREROUTING leads to chain cni-br-iface-id-c1-eth0"
        ),
        "{found}"
    );

    // Nothing at all is left of them.
    node.run(["nft", "flush", "ruleset"]);
    let found = switch.findings(&attachment);
    for finding in [
        "nothing masquerades what",
        "nothing checks the hardware address of",
        "host port 0.0.0.0:8080/tcp",
    ] {
        assert!(found.contains(finding), "{finding}:\n{found}");
    }
    switch.del(&attachment);
}

#[test]
fn gc_takes_away_what_the_go_plugins_made_for_containers_that_are_not_valid() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["portmap"]));
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let _servers = servers(&c1);
    let valid = attachment(&c1, 8080);
    let stale = attachment(&c2, 8180);
    let other = Runtime::new(
        Plugins::debian(&node),
        json!({
            "cniVersion": "1.0.0", "name": "other",
            "plugins": [{ "type": "ptp", "ipMasq": true, "ipam": host_local(&["10.2.0.0/24"]) }]
        }),
    );
    // Of another network, and so nobody's business here.
    other.add(&Attachment::new(&node.container("c3"))).unwrap_or_else(|e| panic!("{e}"));
    switch.add(&valid);
    let before = node.snapshot();
    switch.add(&stale);
    c2.delete();
    switch.catena.gc(std::slice::from_ref(&valid)).unwrap_or_else(|e| panic!("{e}"));
    // Which port of a bridge is gone, its spoof check's chains do not say; nobody can come by it.
    await_same(
        &before,
        &node,
        &shared().whole_table("bridge nat").file("/var/lib/catena/leases/*"),
    );
    switch.check(&valid);
    switch.assert_serves(&c1, 8080, "c1");
}

/// Catena's DEL of its own attachments looks at nobody else's rules.
#[test]
fn del_of_catenas_own_leaves_rules_under_the_references_names() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["portmap", "firewall"]));
    let c1 = node.container("c1");
    let attachment = attachment(&c1, 8080);
    switch.add(&attachment);
    let rules = || {
        (
            node.run(["iptables", "-t", "nat", "-S"]),
            node.run(["iptables", "-S", "CNI-FORWARD"]),
            node.run(["nft", "list", "table", "bridge", "nat"]),
        )
    };
    let before = rules();
    c1.run(["ip", "link", "del", "eth0"]);
    node.run(["sh", "-c", "rm /var/lib/cni/networks/web/*.*.*.* /var/lib/cni/networks/web/fd*"]);
    switch.catena.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    switch.check(&attachment);
    switch.del(&attachment);
    assert_eq!(before.0, rules().0);
    assert_eq!(before.2, rules().2);
}
