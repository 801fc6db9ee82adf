//! Nodes that drop what they forward: pods reach each other all the same, or the Node says what is in the way.

use testnode::{Node, until};

use crate::{A, B, PATIENCE, assert_without_nat, machines::Wires};

/// Drops what is forwarded, as Docker has it, and as a firewall of the node's own does.
pub const DROP: &str = "for tool in iptables ip6tables; do $tool -P FORWARD DROP || exit; done; \
                    nft 'table inet own { chain f { type filter hook forward priority 0; policy drop; }; }'";

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
