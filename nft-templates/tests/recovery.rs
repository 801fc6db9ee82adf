//! Others change the ruleset, too: what they do meanwhile, and what they take away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use std::sync::atomic::{AtomicBool, Ordering};

use nft_templates::{Cluster, Conflict, Element, Owner, Problem, Resolution, TEMPLATES};
use node::{Node, adding, egress, hairpin, nft, open, owner, port, removing};
use testnode::NftMonitor;

fn none(conflict: &Conflict) -> Resolution {
    panic!("unexpected conflict: {conflict:?}");
}

/// Tells threads to stop when the test is over, however it ends: a scope waits for them.
#[derive(Default)]
struct Stop(AtomicBool);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn at_the_end(&self) -> impl Drop {
        struct Set<'a>(&'a AtomicBool);
        impl Drop for Set<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Set(&self.0)
    }
}

/// The words of a listing: the order of chains and of elements within a set is no one's promise.
fn sorted(listing: &str) -> Vec<&str> {
    let mut words: Vec<_> = listing.split_whitespace().map(|w| w.trim_matches(',')).collect();
    words.sort_unstable();
    words
}

#[test]
fn a_change_by_others_between_reading_and_writing_is_noticed() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let wanted = [port(8080, "10.1.0.3:80"), hairpin("10.1.0.3")];
    ruleset.commit(&adding(&[port(8080, "10.1.0.2:80")], &owner("a")), &mut none).unwrap();

    // While b decides about a's port, a goes and c takes it: b must be asked about c.
    let mut asked = Vec::new();
    ruleset
        .commit(&adding(&wanted, &owner("b")), &mut |conflict| {
            asked.push(conflict.holder.clone());
            if asked.len() == 1 {
                nft(
                    &node,
                    &["delete", "element", "inet", "catena", "hostports4", "{ tcp . 8080 }"],
                );
                let element = "{ tcp . 8080 comment \"web c/eth0\" : 10.1.0.4 . 80 }";
                nft(&node, &["add", "element", "inet", "catena", "hostports4", element]);
            }
            Resolution::TakeOver
        })
        .unwrap();
    assert_eq!(asked, [owner("a"), owner("c")]);

    // A change that does not concern b makes it try again without asking again.
    ruleset.commit(&removing(&wanted, &owner("b")), &mut none).unwrap();
    ruleset.commit(&adding(&[port(8080, "10.1.0.2:80")], &owner("a")), &mut none).unwrap();
    let mut asked = 0;
    ruleset
        .commit(&adding(&wanted, &owner("b")), &mut |_| {
            asked += 1;
            nft(&node, &["add", "table", "ip", "others"]);
            Resolution::TakeOver
        })
        .unwrap();
    assert_eq!(asked, 1);
    let wanted: Vec<_> = wanted.into_iter().map(|element| (element, owner("b"))).collect();
    assert!(ruleset.check(&wanted).unwrap().is_empty());
}

#[test]
fn many_at_once_lose_nothing() {
    let node = Node::new();
    let lock = node.dir("run").join("nft.lock");
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let over = stop.at_the_end();
        // Someone else's table changes all the time, which makes every transaction that was read for stale.
        let others = scope.spawn(|| {
            while !stop.is_set() {
                nft(&node, &["add", "table", "ip", "others"]);
                nft(&node, &["delete", "table", "ip", "others"]);
            }
        });
        let workers: Vec<_> = (1..=8_u8)
            .map(|worker| {
                let lock = &lock;
                scope.spawn(move || {
                    let mut ruleset = nft_templates::Ruleset::open(lock).unwrap();
                    for round in 1..=10_u8 {
                        let owner = owner(&format!("c{worker}-{round}"));
                        let to = format!("10.1.{worker}.{round}");
                        let number = u16::from(worker) * 100 + u16::from(round);
                        let elements = [port(number, &format!("{to}:80")), egress(&to, &[])];
                        ruleset.commit(&adding(&elements, &owner), &mut none).unwrap();
                        if round % 2 == 0 {
                            ruleset.commit(&removing(&elements, &owner), &mut none).unwrap();
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        drop(over);
        others.join().unwrap();
    });
    let mut ruleset = nft_templates::Ruleset::open(&lock).unwrap();
    assert_eq!(ruleset.owners().unwrap().len(), 40);
    assert_eq!(ruleset.held().unwrap().len(), 80);
    assert_eq!(nft(&node, &["list", "ruleset"]).matches("chain egress_").count(), 1);
}

#[test]
fn a_listing_is_whole_while_others_change_what_is_listed() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let stay: Vec<_> = (1..=2000_u16).map(|n| port(n, "10.1.0.2:80")).collect();
    ruleset.commit(&adding(&stay, &owner("stays")), &mut none).unwrap();
    let stop = Stop::default();
    let lock = node.dir("run").join("nft.lock");
    std::thread::scope(|scope| {
        let over = stop.at_the_end();
        let changes = scope.spawn(|| {
            let mut ruleset = nft_templates::Ruleset::open(&lock).unwrap();
            let come_and_go: Vec<_> = (3000..3050_u16).map(|n| port(n, "10.1.0.3:80")).collect();
            while !stop.is_set() {
                ruleset.commit(&adding(&come_and_go, &owner("goes")), &mut none).unwrap();
                ruleset.commit(&removing(&come_and_go, &owner("goes")), &mut none).unwrap();
            }
        });
        for _ in 0..20 {
            assert_eq!(ruleset.owned_by(&owner("stays")).unwrap().len(), stay.len());
        }
        drop(over);
        changes.join().unwrap();
    });
}

#[test]
fn a_commit_after_a_flush_restores_what_is_on_record() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let record: Vec<(Element, Owner)> = vec![
        (port(8080, "10.1.0.2:80"), owner("a")),
        (egress("10.1.0.2", &["10.1.0.0/24"]), owner("a")),
        (Element::SpoofCheck { port: "veth0".into(), mac: [2; 6] }, owner("a")),
    ];
    for (element, owner) in &record {
        ruleset.commit(&adding(std::slice::from_ref(element), owner), &mut none).unwrap();
    }
    let one_more = [hairpin("10.1.0.3"), Element::SpoofCheck { port: "veth1".into(), mac: [3; 6] }];
    let mut expected = record.clone();
    expected.extend(one_more.iter().map(|element| (element.clone(), owner("b"))));

    nft(&node, &["flush", "ruleset"]);
    assert!(ruleset.check(&record).unwrap().iter().all(|m| m.problem == Problem::NoTable));
    // Without a record: the table and what is asked for.
    let done = ruleset.commit(&adding(&one_more, &owner("b")), &mut none).unwrap();
    assert!(done.installed);
    assert_eq!(ruleset.check(&expected).unwrap().len(), record.len());
    // With it: all.
    nft(&node, &["flush", "ruleset"]);
    let on_record = record.clone();
    ruleset.on_install(move || (on_record.clone(), Cluster::default()));
    ruleset.commit(&adding(&one_more, &owner("b")), &mut none).unwrap();
    assert!(ruleset.check(&expected).unwrap().is_empty());
    // A removal from a table that is gone is done already, and does not bring the table back.
    nft(&node, &["flush", "ruleset"]);
    ruleset.commit(&removing(&one_more, &owner("b")), &mut none).unwrap();
    ruleset.remove_owned(&owner("b")).unwrap();
    assert_eq!(ruleset.collect_unused_policies().unwrap(), 0);
    assert_eq!(nft(&node, &["list", "ruleset"]), "");
}

#[test]
fn another_version_of_the_table_is_replaced_with_all_its_elements() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let elements = [
        port(8080, "10.1.0.2:80"),
        hairpin("10.1.0.2"),
        egress("10.1.0.2", &["10.1.0.0/24", "172.16.0.0/12"]),
        egress("fd00::2", &["fd00::/64"]),
        Element::Bridge { ifname: "cni0".into() },
    ];
    let more = [port(8081, "10.1.0.3:80"), egress("10.1.0.3", &["10.1.0.0/24", "172.16.0.0/12"])];
    ruleset.commit(&adding(&elements, &owner("a")), &mut none).unwrap();
    ruleset.commit(&adding(&more, &owner("b")), &mut none).unwrap();
    let as_it_should_be = nft(&node, &["list", "ruleset"]);
    ruleset.commit(&removing(&more, &owner("b")), &mut none).unwrap();

    // An older program's table: other rules, fewer sets, another version.
    let listing = nft(&node, &["list", "ruleset"]);
    let (_, version) = TEMPLATES[0].1.split_once("0x00000001 : ").unwrap();
    let older = listing
        .replace(&version[..10], "0x00000bad")
        .replace("\t\tct status dnat ip6 saddr ::1 masquerade fully-random\n", "")
        .replace("\tset masqueraded6 {\n\t\ttype ipv6_addr\n\t}\n", "")
        .replace("\t\tct status dnat ip6 daddr @masqueraded6 masquerade fully-random\n", "");
    assert_ne!(older, listing);
    let path = node.dir("files").join("older.nft");
    std::fs::write(&path, older).unwrap();
    nft(&node, &["flush", "ruleset"]);
    nft(&node, &["-f", path.to_str().unwrap()]);

    let done = ruleset.commit(&adding(&more, &owner("b")), &mut none).unwrap();
    assert!(done.upgraded && !done.installed);
    let listing = nft(&node, &["list", "ruleset"]);
    assert_eq!(sorted(&listing), sorted(&as_it_should_be), "{listing}");
    // Replaced once, not again and again; and then like any other.
    assert!(!ruleset.commit(&removing(&more, &owner("b")), &mut none).unwrap().upgraded);
    ruleset.commit(&removing(&elements, &owner("a")), &mut none).unwrap();
    assert!(ruleset.held().unwrap().is_empty());
}

#[test]
fn a_table_that_lost_a_set_is_replaced() {
    let node = Node::new();
    let mut ruleset = open(&node);
    ruleset.commit(&adding(&[port(8080, "10.1.0.2:80")], &owner("a")), &mut none).unwrap();
    nft(&node, &["flush", "chain", "inet", "catena", "postrouting"]);
    nft(&node, &["delete", "set", "inet", "catena", "hairpin4"]);
    let done = ruleset.commit(&adding(&[hairpin("10.1.0.2")], &owner("a")), &mut none).unwrap();
    assert!(done.upgraded);
    assert_eq!(ruleset.owned_by(&owner("a")).unwrap().len(), 2);
    assert!(nft(&node, &["list", "ruleset"]).contains("@hairpin4 masquerade"));
}

#[test]
fn a_table_whose_sets_are_of_other_types_is_replaced() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let element = [port(8080, "10.1.0.2:80")];
    ruleset.commit(&adding(&element, &owner("a")), &mut none).unwrap();
    let ours = nft(&node, &["list", "table", "inet", "catena"]);
    nft(&node, &["delete", "table", "inet", "catena"]);
    nft(&node, &["add", "table", "inet", "catena"]);
    nft(&node, &["add", "map", "inet", "catena", "version", "{ type ifname : mark; }"]);
    ruleset.commit(&removing(&element, &owner("a")), &mut none).unwrap();
    ruleset.commit(&adding(&element, &owner("a")), &mut none).unwrap();
    assert_eq!(sorted(&nft(&node, &["list", "table", "inet", "catena"])), sorted(&ours));
}

#[test]
fn a_table_that_lost_rules_is_noticed_and_repaired() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let record = vec![(port(8080, "10.1.0.2:80"), owner("a"))];
    let spoof_check = Element::SpoofCheck { port: "veth0".into(), mac: [2; 6] };
    ruleset.commit(&adding(&[record[0].0.clone(), spoof_check], &owner("a")), &mut none).unwrap();
    let as_it_should_be = nft(&node, &["list", "ruleset"]);
    for (damage, lost) in [
        (&["flush", "table", "inet", "catena"][..], "postrouting"),
        (&["delete", "chain", "inet", "catena", "prerouting"], "prerouting"),
        (&["flush", "chain", "inet", "catena", "dnat6"], "dnat6"),
    ] {
        nft(&node, damage);
        let missing = ruleset.check(&record).unwrap();
        let Problem::Damaged(chains) = &missing[0].problem else { panic!("{missing:?}") };
        assert!(chains.iter().any(|chain| chain == lost), "{damage:?}: {chains:?}");
        assert_eq!(chains.len() == 1, damage[1] == "chain", "{chains:?}");
        assert!(ruleset.repair().unwrap().upgraded);
        assert_eq!(
            nft(&node, &["list", "table", "inet", "catena"]),
            as_it_should_be.split_once("table bridge").unwrap().0
        );
        assert!(ruleset.check(&record).unwrap().is_empty());
    }
    let done = ruleset.repair().unwrap();
    assert!(!done.upgraded && !done.installed);
    // A table that is gone comes back only for what is on record.
    nft(&node, &["flush", "ruleset"]);
    assert!(!ruleset.repair().unwrap().installed);
    let on_record = record.clone();
    ruleset.on_install(move || (on_record.clone(), Cluster::default()));
    assert!(ruleset.repair().unwrap().installed);
    assert!(ruleset.check(&record).unwrap().is_empty());
    assert!(!nft(&node, &["list", "ruleset"]).contains("table bridge"));
}

#[test]
fn a_commit_to_a_table_that_lost_rules_restores_them_and_what_is_on_record_in_one_transaction() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let pod = [port(8080, "10.1.0.2:80"), egress("10.1.0.2", &["10.1.0.0/24"])];
    ruleset.commit(&adding(&pod, &owner("a")), &mut none).unwrap();
    let on_record: Vec<_> = pod.iter().map(|element| (element.clone(), owner("a"))).collect();
    let recorded = on_record.clone();
    ruleset.on_install(move || (recorded.clone(), Cluster::default()));
    ruleset.commit(&adding(&[hairpin("10.1.0.3")], &owner("b")), &mut none).unwrap();
    let as_it_should_be = nft(&node, &["list", "ruleset"]);
    let mut monitor = NftMonitor::start(&node);
    for damage in [
        &["flush", "table", "inet", "catena"][..],
        &["flush", "ruleset"],
        &["delete", "table", "inet", "catena"],
    ] {
        nft(&node, &["delete", "element", "inet", "catena", "hostports4", "{ tcp . 8080 }"]);
        nft(&node, damage);
        monitor.transactions();
        ruleset.commit(&adding(&[hairpin("10.1.0.3")], &owner("b")), &mut none).unwrap();
        assert_eq!(monitor.transactions(), 1, "{damage:?}");
        let listed = nft(&node, &["list", "ruleset"]);
        assert_eq!(sorted(&listed), sorted(&as_it_should_be), "{damage:?}\n{listed}");
        assert!(ruleset.check(&on_record).unwrap().is_empty(), "{damage:?}");
    }
    // A removal has no use for the rules.
    nft(&node, &["flush", "table", "inet", "catena"]);
    ruleset.commit(&removing(&pod, &owner("a")), &mut none).unwrap();
    assert!(!nft(&node, &["list", "ruleset"]).contains("dnat ip to"));
}

#[test]
fn a_policy_that_lost_rules_is_noticed_by_who_has_it_and_repaired() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let record = [
        (port(8080, "10.1.0.2:80"), owner("a")),
        (egress("10.1.0.2", &["10.1.0.0/24"]), owner("a")),
    ];
    let elements: Vec<_> = record.iter().map(|(element, _)| element.clone()).collect();
    ruleset.commit(&adding(&elements, &owner("a")), &mut none).unwrap();
    let as_it_should_be = nft(&node, &["list", "ruleset"]);
    let mut words = as_it_should_be.split_whitespace();
    let policy = words.find(|word| word.starts_with("egress_")).unwrap();
    nft(&node, &["flush", "chain", "inet", "catena", policy]);
    let missing = ruleset.check(&record).unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0].element, record[1].0);
    assert_eq!(missing[0].problem, Problem::Damaged(vec![policy.to_owned()]));

    let on_record = record.to_vec();
    ruleset.on_install(move || (on_record.clone(), Cluster::default()));
    assert!(ruleset.repair().unwrap().upgraded);
    assert_eq!(nft(&node, &["list", "ruleset"]), as_it_should_be);
    let mut monitor = NftMonitor::start(&node);
    assert!(!ruleset.repair().unwrap().upgraded);
    assert_eq!(monitor.transactions(), 0);
}

#[test]
fn hundreds_of_elements_go_in_one_transaction() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let elements: Vec<_> = (1..=3000_u16).map(|n| port(n, "10.1.0.2:80")).collect();
    ruleset.commit(&adding(&elements, &owner("a")), &mut none).unwrap();
    assert_eq!(ruleset.owned_by(&owner("a")).unwrap().len(), elements.len());
    let wanted: Vec<_> = elements.iter().map(|e| (e.clone(), owner("a"))).collect();
    assert!(ruleset.check(&wanted).unwrap().is_empty());
    // Each of them is in the way of another owner, and each is named.
    let mut asked = 0;
    ruleset
        .commit(&adding(&elements, &owner("b")), &mut |_| {
            asked += 1;
            Resolution::TakeOver
        })
        .unwrap();
    assert_eq!(asked, elements.len());
    ruleset.commit(&removing(&elements, &owner("b")), &mut none).unwrap();
    assert!(ruleset.held().unwrap().is_empty());
}
