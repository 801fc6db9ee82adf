//! Nodes that drop what they forward: pods reach each other all the same, or the Node says what is in the way.

use testnode::{Node, until};

use crate::egress::{outside, seen};
use crate::machines::Wires;
use crate::{A, B, PATIENCE, assert_reached, assert_without_nat};

/// Drops what is forwarded, as Docker has it, and as a firewall of the node's own does.
pub const DROP: &str = "for tool in iptables ip6tables; do $tool -P FORWARD DROP || exit; done; \
                    nft 'table inet own { chain f { type filter hook forward priority 0; policy drop; }; }'";

/// Hides the tools that rules are set by from all that the test's node runs.
const HIDE: &str = "for tool in $(readlink -f $(which nft iptables ip6tables) | sort -u); do \
                    mount --bind /dev/null $tool || exit; done";

#[test]
fn pods_of_nodes_that_drop_what_they_forward_reach_each_other() {
    let node = Node::new();
    let wires = Wires::new(&node);
    // On two links: what comes through the tunnel is forwarded, too.
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    for machine in [&a, &b] {
        machine.netns.run(["sh", "-c", DROP]);
    }
    a.join(&A);
    b.join(&B);
    let _daemons = [&a, &b]
        .map(|machine| machine.daemon(&["--pod-network", "--conf-dir", &machine.conf_dir()]));
    let (from, to) = (a.pod_of_network("pod-a"), b.pod_of_network("pod-b"));
    a.await_kept(&B);
    b.await_kept(&A);
    let ([own, own6], [at, at6]) = (a.addresses_of("pod-a"), b.addresses_of("pod-b"));
    let reach = || {
        assert_without_nat(&from, &own, &to, &at);
        assert_without_nat(&to, &at6, &from, &own6);
        // Another node, and what runs there.
        a.netns.ping(&at);
        a.netns.ping(&at6);
    };
    reach();
    // A firewall that is loaded anew takes the rule away, and the daemon puts it back.
    b.netns.run(["nft", "flush", "ruleset"]);
    b.netns.run(["sh", "-c", DROP]);
    until("pods are reached again", PATIENCE, || {
        from.try_run(["ping", "-c", "1", "-W", "1", &at]).is_success().then_some(())
    });
    reach();
    // Who is no part of the cluster does not get in.
    assert!(!node.try_run(["ping", "-c", "1", "-W", "1", &at]).is_success());
}

#[test]
fn pods_of_nodes_with_firewalld_reach_each_other() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 1, 12));
    let _firewalls = [(&a, "a"), (&b, "b")].map(|(machine, name)| {
        testnode::firewalld(&machine.netns, &node.dir(&format!("firewalld-{name}")))
    });
    a.join(&A);
    b.join(&B);
    let _daemons = [&a, &b]
        .map(|machine| machine.daemon(&["--pod-network", "--conf-dir", &machine.conf_dir()]));
    let (from, to) = (a.pod_of_network("pod-a"), b.pod_of_network("pod-b"));
    a.await_kept(&B);
    b.await_kept(&A);
    let rules = b.netns.run(["nft", "list", "table", "inet", "firewalld"]);
    assert!(rules.contains("filter_FORWARD"), "{rules}");
    assert_reached(&[(&from, a.addresses_of("pod-a")), (&to, b.addresses_of("pod-b"))]);
}

#[test]
fn nodes_without_the_tools_of_netfilter_serve_all_the_same() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    for machine in [&a, &b] {
        machine.netns.run(["sh", "-c", DROP]);
    }
    let outside = outside(&node);
    node.run(["sh", "-c", HIDE]);
    assert!(!node.try_run(["sh", "-c", "nft --version || iptables --version"]).is_success());
    a.join(&A);
    b.join(&B);
    let _daemons = [&a, &b]
        .map(|machine| machine.daemon(&["--pod-network", "--conf-dir", &machine.conf_dir()]));
    let (from, to) = (a.pod_of_network("pod-a"), b.pod_of_network("pod-b"));
    a.await_kept(&B);
    b.await_kept(&A);
    assert_reached(&[(&from, a.addresses_of("pod-a")), (&to, b.addresses_of("pod-b"))]);
    assert_eq!(seen(&from, &outside), ["192.168.1.11", "fd01::b"]);
}

#[test]
fn a_node_says_which_rule_is_missing_where_a_chain_that_drops_belongs_to_another_process() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let a = wires.machine("a", 1, 11);
    let table = "add table inet own { flags owner; }\n\
                 add chain inet own forward { type filter hook forward priority 0; policy drop; }";
    let fifo = node.fresh_path("nft.fifo");
    let script = format!("mkfifo $0; exec 3<>$0; printf '%s\\n' '{table}' >&3; exec nft -i <&3");
    let mut owner = a
        .netns
        .cmd(["sh", "-c", &script, fifo.to_str().unwrap()])
        .spawn(node.fresh_path("nft.log"));
    until("the table is there", PATIENCE, || {
        a.netns.run(["nft", "list", "chains"]).contains("forward").then_some(())
    });
    a.join(&A);
    a.set_condition("NetworkUnavailable", "True");
    let _daemon = a.daemon(&["--pod-network", "--conf-dir", &a.conf_dir()]);
    until("the Node says what drops", PATIENCE, || {
        let message = a.message_of("NetworkUnavailable")?;
        let rule = "meta mark & 0x00001000 == 0x00001000 accept";
        (message.contains("chain inet own forward has the policy drop") && message.contains(rule))
            .then_some(())
    });
    assert_eq!(a.condition("NetworkUnavailable"), Some("True".into()));
    owner.kill();
    until("the Node's condition is cleared", PATIENCE, || {
        (a.condition("NetworkUnavailable") == Some("False".into())).then_some(())
    });
}
