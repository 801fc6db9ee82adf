//! The rule that lets packets of pods through gets into the chains that drop, and into no others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::{fs, time::Duration};

use nft_templates::{Element, Error, Resolution, Ruleset};
use node::{Node, adding, nft, open, owner};

const ACCEPT: &str = "meta mark & 0x00001000 == 0x00001000 accept";
const ADMIN: &str = "CNI-ADMIN";

fn load(node: &Node, text: &str) {
    node.cmd(["nft", "-f", "-"]).stdin(text).output().success();
}

/// What was missing, as it reads.
fn let_through(ruleset: &mut Ruleset) -> Vec<String> {
    ruleset.let_through(ADMIN).unwrap().iter().map(ToString::to_string).collect()
}

fn check(ruleset: &mut Ruleset) -> Vec<String> {
    ruleset.check_let_through(ADMIN).unwrap().iter().map(ToString::to_string).collect()
}

/// The first rule of a chain.
fn first_rule(node: &Node, chain: &str) -> String {
    let listing =
        nft(node, &[&["list", "chain"][..], &chain.split(' ').collect::<Vec<_>>()].concat());
    let mut rules =
        listing.lines().skip(2).map(str::trim).filter(|line| !line.starts_with("type "));
    rules.next().unwrap_or_default().to_owned()
}

/// Chains at the forward hook, and what drops in them (nothing: no rule is wanted).
const CHAINS: [(&str, &str, &str); 9] = [
    ("ip a dropping", "policy drop; ct state established accept", "has the policy drop"),
    ("ip6 b dropping", "policy drop;", "has the policy drop"),
    (
        "inet c rejects",
        "policy accept; iifname \"x\" accept; counter log reject",
        "ends in a rule that drops or rejects",
    ),
    ("inet c drops", "policy accept; counter drop", "ends in a rule that drops or rejects"),
    (
        "inet c jumps",
        "policy accept; jump on",
        "chain inet c over ends in a rule that drops or rejects",
    ),
    (
        "inet c goes",
        "policy accept; goto over",
        "chain inet c over ends in a rule that drops or rejects",
    ),
    ("inet c passes", "policy accept; iifname \"x\" drop", ""),
    ("inet c circles", "policy accept; jump passing", ""),
    ("ip a knows", "policy drop; meta mark & 0x1000 == 0x1000 counter accept", ""),
];

fn load_chains(node: &Node) {
    load(
        node,
        "table inet c {
            chain over { drop; }
            chain on { goto over; }
            chain passing { ct state new accept; }
            chain input { type filter hook input priority 0; policy drop; }
        }",
    );
    for (chain, rules, _) in CHAINS {
        let [family, table, name] = chain.split(' ').collect::<Vec<_>>()[..] else {
            unreachable!()
        };
        let rules = rules.replace("; ", ";\n");
        load(
            node,
            &format!(
                "table {family} {table} {{ chain {name} {{\ntype filter hook forward priority 0; {rules}\n}}\n}}"
            ),
        );
    }
}

#[test]
fn what_drops_by_default_gets_the_rule_first_and_nothing_else_does() {
    let node = Node::new();
    load_chains(&node);
    let before = nft(&node, &["list", "ruleset"]);
    let mut ruleset = open(&node);
    let missing = check(&mut ruleset);
    assert_eq!(let_through(&mut ruleset), missing);
    for (chain, _, why) in CHAINS {
        let named = missing.iter().find(|one| one.ends_with(&format!("in chain {chain}")));
        let first = first_rule(&node, chain);
        if why.is_empty() {
            assert_eq!(named, None);
            assert!(!first.ends_with("comment \"catena\""), "{chain}: {first}");
        } else {
            assert!(named.unwrap().contains(why), "{named:?}");
            assert!(named.unwrap().contains(ACCEPT), "{named:?}");
            assert_eq!(first, format!("{ACCEPT} comment \"catena\""), "{chain}");
        }
    }
    assert!(!nft(&node, &["list", "chain", "inet", "c", "input"]).contains("mark"));
    assert_eq!(check(&mut ruleset), [""; 0]);
    assert_eq!(let_through(&mut ruleset), [""; 0]);

    // A rule that somebody wrote for himself stays.
    ruleset.withdraw().unwrap();
    assert_eq!(nft(&node, &["list", "ruleset"]), before);
}

#[test]
fn a_node_where_nobody_filters_gets_nothing() {
    let node = Node::new();
    let mut ruleset = open(&node);
    assert_eq!(let_through(&mut ruleset), [""; 0]);
    assert_eq!(nft(&node, &["list", "ruleset"]), "");
}

const IPTABLES: [&str; 9] = [
    "-P INPUT ACCEPT",
    "-P FORWARD DROP",
    "-P OUTPUT ACCEPT",
    "-N CNI-ADMIN",
    "-N CNI-FORWARD",
    "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
    "-A FORWARD -i docker0 -j ACCEPT",
    "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
    "-A CNI-FORWARD -m mark --mark 0x1000/0x1000 -m comment --comment catena -j ACCEPT",
];

#[test]
fn iptables_lists_and_restores_the_rules_as_its_own() {
    let node = Node::new();
    let mut ruleset = open(&node);
    for iptables in ["iptables", "ip6tables"] {
        node.run([iptables, "-P", "FORWARD", "DROP"]);
        node.run([iptables, "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"]);
    }
    let listed = || ["iptables", "ip6tables"].map(|iptables| node.run([iptables, "-S"]));
    let before = listed();
    assert_eq!(let_through(&mut ruleset).len(), 6);
    for (iptables, listing) in ["iptables", "ip6tables"].into_iter().zip(listed()) {
        assert_eq!(listing.lines().collect::<Vec<_>>(), IPTABLES);
        // As the reference plugin asks whether its rule is there.
        node.run([
            iptables,
            "-C",
            "FORWARD",
            "-m",
            "comment",
            "--comment",
            "CNI firewall plugin rules",
            "-j",
            "CNI-FORWARD",
        ]);
        let saved = node.run([&format!("{iptables}-save")]);
        for options in [&["--noflush"][..], &[]] {
            let restore = format!("{iptables}-restore");
            node.cmd([&[&restore[..]], options].concat()).stdin(saved.clone()).output().success();
            let listing = node.run([iptables, "-S"]);
            assert!(IPTABLES.iter().all(|line| listing.contains(line)), "{listing}");
        }
    }
    assert_eq!(check(&mut ruleset), [""; 0], "what iptables made of the rules is known again");
    assert_eq!(let_through(&mut ruleset), [""; 0]);

    for iptables in ["iptables", "ip6tables"] {
        node.run([iptables, "-F", "FORWARD"]);
        node.run([iptables, "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"]);
    }
    let told = check(&mut ruleset);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[0],
        "chain ip filter FORWARD has the policy drop, and there is no rule \"jump CNI-FORWARD\" in chain ip filter \
         FORWARD"
    );
    assert_eq!(let_through(&mut ruleset), told);
    node.run(["iptables", "-A", "CNI-ADMIN", "-s", "10.88.0.9", "-j", "DROP"]);
    ruleset.withdraw().unwrap();
    assert!(node.run(["iptables", "-S"]).contains("-A CNI-ADMIN"), "what somebody wrote stays");
    node.run(["iptables", "-F", "CNI-ADMIN"]);
    node.run(["iptables", "-X", "CNI-ADMIN"]);
    assert_eq!(listed(), before);
}

#[test]
fn forward_of_iptables_gets_its_rules_before_its_policy_is_drop() {
    let node = Node::new();
    node.run(["iptables", "-P", "FORWARD", "ACCEPT"]);
    let mut ruleset = open(&node);
    assert_eq!(check(&mut ruleset), [""; 0], "nothing is dropped for want of them");
    assert_eq!(let_through(&mut ruleset).len(), 3);
    node.run(["iptables", "-P", "FORWARD", "DROP"]);
    assert_eq!(check(&mut ruleset), [""; 0]);
    assert_eq!(ruleset.let_through("OTHER-ADMIN").unwrap().len(), 1);
    let listing = node.run(["iptables", "-S", "CNI-FORWARD"]);
    let jumps: Vec<_> = listing.lines().filter_map(|line| line.split(" -j ").nth(1)).collect();
    assert_eq!(jumps, ["OTHER-ADMIN", "CNI-ADMIN", "ACCEPT"]);
}

#[test]
fn what_the_reference_plugin_has_in_its_chain_stays() {
    let theirs = [
        "-N CNI-FORWARD",
        "-N CNI-ADMIN",
        "-A FORWARD -m comment --comment CNI_firewall -j CNI-FORWARD",
        "-A CNI-FORWARD -m comment --comment CNI_admin -j CNI-ADMIN",
        "-A CNI-FORWARD -s 10.88.0.2/32 -j ACCEPT",
    ];
    withdrawing_leaves(&theirs);
}

#[test]
fn what_an_administrator_has_in_the_chain_stays() {
    withdrawing_leaves(&[
        "-N CNI-FORWARD",
        "-N CNI-ADMIN",
        "-N ADMINS",
        "-A ADMINS -s 10.9.9.9/32 -j DROP",
        "-A FORWARD -m comment --comment CNI_firewall -j CNI-FORWARD",
        "-A CNI-FORWARD -m comment --comment CNI_admin -j CNI-ADMIN",
        "-A CNI-FORWARD -j ADMINS",
    ]);
}

fn withdrawing_leaves(theirs: &[&str]) {
    let node = Node::new();
    for rule in theirs {
        node.run(["iptables"].into_iter().chain(rule.split(' ')));
    }
    let before = node.run(["iptables", "-S"]);
    let mut ruleset = open(&node);
    assert_eq!(let_through(&mut ruleset).len(), 1);
    let ours =
        "-A CNI-FORWARD -m mark --mark 0x1000/0x1000 -m comment --comment catena -j ACCEPT\n";
    assert_eq!(node.run(["iptables", "-S"]), format!("{before}{ours}"));
    ruleset.withdraw().unwrap();
    assert_eq!(node.run(["iptables", "-S"]), before);
}

#[test]
fn a_chain_that_cannot_be_changed_is_named_with_what_drops_and_a_way_out() {
    let node = Node::new();
    let table = "add table inet own { flags owner; }\n\
                 add chain inet own forward { type filter hook forward priority 0; policy drop; }";
    // The table lives as long as the process that made it.
    let fifo = node.fresh_path("nft.fifo");
    let script = format!("mkfifo $0; exec 3<>$0; printf '%s\\n' '{table}' >&3; exec nft -i <&3");
    let _owner =
        node.cmd(["sh", "-c", &script, fifo.to_str().unwrap()]).spawn(node.fresh_path("nft.log"));
    testnode::until("the table is there", Duration::from_secs(10), || {
        nft(&node, &["list", "chains"]).contains("forward").then_some(())
    });
    let mut ruleset = open(&node);
    let error = ruleset.let_through(ADMIN).unwrap_err();
    assert!(matches!(error, Error::Forward { .. }), "{error}");
    let text = error.to_string();
    for word in ["chain inet own forward has the policy drop", ACCEPT, "flag \"owner\"", "EPERM"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
}

#[test]
fn nothing_is_looked_at_again_until_others_change_something() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let seen = node.dir("run").join("nft.seen");
    assert_eq!(let_through(&mut ruleset), [""; 0]);
    let generation = || {
        let text = fs::read_to_string(&seen).unwrap();
        text.split(' ').nth(1).unwrap().parse::<u32>().unwrap()
    };
    let first = generation();
    let pod = Element::Forwarded { address: "10.1.0.2".parse().unwrap() };
    let transaction = adding(&[pod], &owner("c1"));
    ruleset.commit(&transaction, &mut |_| Resolution::Refuse).unwrap();
    assert_eq!(generation(), first + 1, "what this program does itself changes nothing for it");
    assert_eq!(let_through(&mut ruleset), [""; 0]);
    load(
        &node,
        "add table ip a; add chain ip a f { type filter hook forward priority 0; policy drop; }",
    );
    ruleset.withdraw().unwrap();
    assert_eq!(generation(), first + 1);
    assert_eq!(let_through(&mut ruleset).len(), 1);
    assert_eq!(generation(), first + 3);
}
