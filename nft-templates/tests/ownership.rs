//! Elements belong to an owner, and only the owner's removal takes them away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use nft_templates::{
    Condition, Conflict, Element, Error, Key, Owner, Problem, Resolution, Subject, Transaction,
};
use node::{Node, adding, egress, hairpin, nft, open, owner, port, port_under, removing};

/// For commits that must not meet another owner.
fn none(conflict: &Conflict) -> Resolution {
    panic!("unexpected conflict: {conflict:?}");
}

fn take_over(_: &Conflict) -> Resolution {
    Resolution::TakeOver
}

fn refuse(_: &Conflict) -> Resolution {
    Resolution::Refuse
}

#[test]
fn elements_show_their_owner_and_value_in_nfts_listing() {
    let node = Node::new();
    let elements = [
        port(8080, "10.1.0.2:80"),
        Element::HostPort {
            protocol: nft_templates::Protocol::Udp,
            host_ip: Some("192.0.2.1".parse().unwrap()),
            host_port: 53,
            to: "10.1.0.2:5353".parse().unwrap(),
            conditions: vec![],
        },
        port(8443, "[fd00::2]:443"),
        Element::HostPort {
            protocol: nft_templates::Protocol::Sctp,
            host_ip: Some("2001:db8::1".parse().unwrap()),
            host_port: 9,
            to: "[fd00::2]:9".parse().unwrap(),
            conditions: vec![],
        },
        hairpin("10.1.0.2"),
        hairpin("fd00::2"),
        egress("10.1.0.2", &["10.1.0.0/24"]),
        egress("fd00::2", &[]),
        Element::Bridge { ifname: "cni0".into() },
        Element::Masqueraded { address: "10.1.0.2".parse().unwrap() },
        Element::Masqueraded { address: "fd00::2".parse().unwrap() },
        Element::SpoofCheck { port: "veth0123abcd".into(), mac: [2, 0, 0, 0, 0, 0xff] },
    ];
    let mut ruleset = open(&node);
    ruleset.commit(&adding(&elements, &owner("c0ffee")), &mut none).unwrap();
    let listing = nft(&node, &["list", "ruleset"]);
    let shown: Vec<_> = listing
        .lines()
        .filter(|line| line.contains("comment") || line.trim_start().starts_with("elements"))
        .map(str::trim)
        .collect();
    insta::assert_snapshot!("elements", shown.join("\n"));
    let wanted: Vec<_> = elements.iter().map(|e| (e.clone(), owner("c0ffee"))).collect();
    assert!(ruleset.check(&wanted).unwrap().is_empty());

    // What the kernel holds reads back as what was put there; shared elements are no one's.
    let held = ruleset.owned_by(&owner("c0ffee")).unwrap();
    let mut keys: Vec<Key> = elements.iter().map(Element::key).filter(|k| !k.is_shared()).collect();
    keys.sort();
    assert_eq!(held.iter().map(|held| held.key.clone()).collect::<Vec<_>>(), keys);
    assert!(held.iter().any(|held| held.to == Some("[fd00::2]:443".parse().unwrap())));
    assert_eq!(ruleset.owners().unwrap().into_iter().collect::<Vec<_>>(), [owner("c0ffee")]);
}

#[test]
fn a_late_del_takes_nothing_from_who_has_the_address_by_now() {
    let node = Node::new();
    let (first, second) = (owner("first"), owner("second"));
    let elements = [port(8080, "10.1.0.2:80"), hairpin("10.1.0.2"), egress("10.1.0.2", &[])];
    let mut ruleset = open(&node);
    ruleset.commit(&adding(&elements, &first), &mut none).unwrap();

    // The first container dies; its address goes to the second before its DEL comes.
    let mut asked = Vec::new();
    let done = ruleset
        .commit(&adding(&elements, &second), &mut |conflict| {
            asked.push((conflict.holder.clone(), conflict.wanted_by.clone()));
            Resolution::TakeOver
        })
        .unwrap();
    assert_eq!(asked, vec![(first.clone(), second.clone()); 3]);
    assert_eq!(done.taken_over.len(), 3);
    let before = nft(&node, &["list", "ruleset"]);
    let done = ruleset.commit(&removing(&elements, &first), &mut none).unwrap();
    let left: Vec<_> = done.left.iter().map(|(_, holder)| holder.clone()).collect();
    assert_eq!(left, vec![second.clone(); 3]);
    assert_eq!(ruleset.remove_owned(&first).unwrap(), []);
    assert_eq!(nft(&node, &["list", "ruleset"]), before);

    let done = ruleset.commit(&removing(&elements, &second), &mut none).unwrap();
    assert!(done.left.is_empty());
    assert!(ruleset.held().unwrap().is_empty());
    assert!(!nft(&node, &["list", "ruleset"]).contains("egress_"), "the unused policy chain stays");
    // And once more: what is gone is no error.
    ruleset.commit(&removing(&elements, &second), &mut none).unwrap();
}

#[test]
fn a_refused_conflict_leaves_everything_as_it_was() {
    let node = Node::new();
    let mut ruleset = open(&node);
    ruleset.commit(&adding(&[port(8080, "10.1.0.2:80")], &owner("a")), &mut none).unwrap();
    let before = nft(&node, &["list", "ruleset"]);
    let wanted =
        [port(8079, "10.1.0.3:80"), port(8080, "10.1.0.3:80"), egress("10.1.0.3", &["10.0.0.0/8"])];
    let error = ruleset.commit(&adding(&wanted, &owner("b")), &mut refuse).unwrap_err();
    assert_eq!(
        error.to_string(),
        "host port 0.0.0.0:8080/tcp to 10.1.0.3:80 is held by \"web a/eth0\""
    );
    assert!(matches!(error, Error::Held { holder, .. } if holder == owner("a")));
    assert_eq!(nft(&node, &["list", "ruleset"]), before);
}

#[test]
fn conditions_come_and_go_with_their_port() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let from =
        |net: &str| Condition { subject: Subject::Source(net.parse().unwrap()), negated: false };
    let under = |number, to: &str| port_under(number, to, &[from("192.0.2.0/24")]);
    let chains = || nft(&node, &["list", "ruleset"]).matches("chain ports_").count();
    let map = || nft(&node, &["list", "map", "inet", "catena", "conditions4"]);
    let elements = [under(8080, "10.1.0.2:80"), under(8081, "10.1.0.2:81")];
    ruleset.commit(&adding(&elements, &owner("a")), &mut none).unwrap();
    assert_eq!((chains(), map().matches("goto ports_").count()), (1, 2));
    assert_eq!(ruleset.held().unwrap().len(), 2, "conditions are no elements of their own");

    // The owner changes them; another takes over the port, and has none.
    ruleset
        .commit(
            &adding(&[port_under(8080, "10.1.0.2:80", &[from("10.0.0.0/8")])], &owner("a")),
            &mut none,
        )
        .unwrap();
    assert_eq!(chains(), 2);
    let done =
        ruleset.commit(&adding(&[port(8080, "10.1.0.3:80")], &owner("b")), &mut take_over).unwrap();
    assert_eq!(done.taken_over.len(), 1);
    assert_eq!((chains(), map().matches("goto ports_").count()), (1, 1));
    // A late removal takes neither; that of the port takes both.
    ruleset.commit(&removing(&elements, &owner("a")), &mut none).unwrap();
    assert_eq!((chains(), map().matches("goto ports_").count()), (0, 0));
    let done = ruleset
        .commit(&adding(&[under(8080, "10.1.0.4:80")], &owner("c")), &mut take_over)
        .unwrap();
    assert_eq!(done.taken_over.len(), 1);
    assert_eq!(chains(), 1);
    let wanted = [(under(8080, "10.1.0.4:80"), owner("c"))];
    assert!(ruleset.check(&wanted).unwrap().is_empty());
    nft(&node, &["delete", "element", "inet", "catena", "conditions4", "{ tcp . 8080 }"]);
    let missing = ruleset.check(&wanted).unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!(ruleset.collect_unused_policies().unwrap(), 1);
}

#[test]
fn an_owner_may_repeat_and_change_its_elements() {
    let node = Node::new();
    let owner = owner("a");
    let mut ruleset = open(&node);
    let old = [port(8080, "10.1.0.2:80"), egress("10.1.0.2", &["10.0.0.0/8"])];
    let new = [port(8080, "10.1.0.2:81"), egress("10.1.0.2", &["10.0.0.0/9"])];
    for elements in [&old, &old, &new] {
        ruleset.commit(&adding(elements, &owner), &mut none).unwrap();
        let wanted: Vec<_> = elements.iter().map(|e| (e.clone(), owner.clone())).collect();
        assert!(ruleset.check(&wanted).unwrap().is_empty());
    }
    let listing = nft(&node, &["list", "ruleset"]);
    assert_eq!(
        listing.matches("chain egress_").count(),
        1,
        "the old policy's chain stays: {listing}"
    );

    // Removed and added in one transaction: replaced.
    let mut transaction = removing(&new, &owner);
    transaction.add(old[0].clone(), owner.clone());
    ruleset.commit(&transaction, &mut none).unwrap();
    assert!(ruleset.check(&[(old[0].clone(), owner.clone())]).unwrap().is_empty());
    let missing = ruleset.check(&[(new[1].clone(), owner)]).unwrap();
    assert_eq!(missing[0].problem, Problem::Absent);
}

#[test]
fn check_says_what_is_wrong() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let (a, b) = (owner("a"), owner("b"));
    let problem = |ruleset: &mut nft_templates::Ruleset, element: Element, owner: &Owner| {
        let missing = ruleset.check(&[(element, owner.clone())]).unwrap();
        missing.first().map(|missing| missing.problem.clone())
    };
    assert_eq!(problem(&mut ruleset, hairpin("10.1.0.2"), &a), Some(Problem::NoTable));
    let elements = [port(80, "10.1.0.2:80"), egress("10.1.0.2", &[])];
    ruleset.commit(&adding(&elements, &a), &mut none).unwrap();
    assert_eq!(problem(&mut ruleset, elements[0].clone(), &a), None);
    assert_eq!(problem(&mut ruleset, port(81, "10.1.0.2:80"), &a), Some(Problem::Absent));
    assert_eq!(problem(&mut ruleset, port(80, "10.1.0.2:81"), &a), Some(Problem::OtherValue));
    assert_eq!(
        problem(&mut ruleset, elements[0].clone(), &b),
        Some(Problem::OtherOwner(a.clone()))
    );
    let other = egress("10.1.0.2", &["10.0.0.0/8"]);
    assert_eq!(problem(&mut ruleset, other, &a), Some(Problem::OtherValue));
    let spoof_check = Element::SpoofCheck { port: "veth0".into(), mac: [2; 6] };
    let missing = ruleset.check(&[(spoof_check, a.clone())]).unwrap();
    assert_eq!(missing.len(), 1);
    assert_eq!(missing[0].problem, Problem::NoTable);
}

#[test]
fn an_element_that_someone_made_by_hand_is_not_ours_to_remove() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let element = port(8080, "10.1.0.2:80");
    ruleset.commit(&adding(&[hairpin("10.1.0.9")], &owner("a")), &mut none).unwrap();
    nft(
        &node,
        &["add", "element", "inet", "catena", "hostports4", "{ tcp . 8080 : 10.9.9.9 . 80 }"],
    );
    let done =
        ruleset.commit(&removing(std::slice::from_ref(&element), &owner("a")), &mut none).unwrap();
    assert_eq!(done.left[0].1.as_str(), "");
    let error = ruleset.commit(&adding(&[element], &owner("a")), &mut refuse).unwrap_err();
    assert!(
        error.to_string().ends_with("is held by \"(an element without a comment)\""),
        "{error}"
    );
}

#[test]
fn an_owner_too_long_for_a_comment_works_like_any_other() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let (long, other) = (owner(&"a".repeat(200)), owner(&format!("{}b", "a".repeat(199))));
    let element = port(8080, "10.1.0.2:80");
    ruleset.commit(&adding(std::slice::from_ref(&element), &long), &mut none).unwrap();
    assert!(nft(&node, &["list", "ruleset"]).contains(&format!("comment \"{long}\"")));
    assert_eq!(ruleset.commit(&removing(&[element], &other), &mut none).unwrap().left.len(), 1);
    assert_eq!(ruleset.remove_owned(&long).unwrap().len(), 1);
    // The longest that fits, too.
    let fits = owner(&"a".repeat(127 - "web /eth0".len()));
    ruleset.commit(&adding(&[hairpin("10.1.0.2")], &fits), &mut none).unwrap();
    assert!(nft(&node, &["list", "ruleset"]).contains(&format!("comment \"{fits}\"")));
    assert_eq!(ruleset.owners().unwrap().into_iter().collect::<Vec<_>>(), [fits]);
}

#[test]
fn shared_elements_have_many_users_and_no_conflicts() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let bridge = Element::Bridge { ifname: "cni0".into() };
    for id in ["a", "b"] {
        let elements = [bridge.clone(), hairpin(if id == "a" { "10.1.0.2" } else { "10.1.0.3" })];
        ruleset.commit(&adding(&elements, &owner(id)), &mut none).unwrap();
    }
    assert!(ruleset.check(&[(bridge.clone(), owner("c"))]).unwrap().is_empty());
    ruleset.remove_owned(&owner("a")).unwrap();
    assert!(ruleset.check(&[(bridge.clone(), owner("b"))]).unwrap().is_empty());
    ruleset.commit(&removing(std::slice::from_ref(&bridge), &owner("c")), &mut none).unwrap();
    assert_eq!(ruleset.check(&[(bridge, owner("b"))]).unwrap()[0].problem, Problem::Absent);
}

#[test]
fn pods_of_one_policy_share_its_chain_to_the_last() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let chains = || nft(&node, &["list", "ruleset"]).matches("chain egress_").count();
    // Written differently, but the same.
    let a = egress("10.1.0.2", &["10.1.0.0/24", "10.0.0.0/9", "10.128.0.0/9"]);
    let b = egress("10.1.0.3", &["10.0.0.0/8"]);
    let other = egress("10.2.0.2", &["10.2.0.0/24"]);
    ruleset.commit(&adding(std::slice::from_ref(&a), &owner("a")), &mut none).unwrap();
    ruleset.commit(&adding(&[b.clone(), other.clone()], &owner("b")), &mut none).unwrap();
    assert_eq!(chains(), 2);
    ruleset.commit(&removing(&[a], &owner("a")), &mut none).unwrap();
    assert_eq!(chains(), 2);
    ruleset.commit(&removing(&[b, other.clone()], &owner("b")), &mut none).unwrap();
    assert_eq!(chains(), 0);

    // What others take away leaves the chain to garbage collection, which leaves what is used.
    ruleset.commit(&adding(&[egress("10.1.0.2", &[]), other], &owner("a")), &mut none).unwrap();
    nft(&node, &["delete", "element", "inet", "catena", "egress4", "{ 10.1.0.2 }"]);
    assert_eq!(ruleset.collect_unused_policies().unwrap(), 1);
    assert_eq!(chains(), 1);
    assert_eq!(ruleset.collect_unused_policies().unwrap(), 0);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let a = owner("a");
    let mut refused = |elements: &[Element], text: &str| {
        let error = ruleset.commit(&adding(elements, &a), &mut none).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(
        &[port(80, "10.1.0.2:80"), port(80, "10.1.0.2:81")],
        "host port 0.0.0.0:80/tcp to 10.1.0.2:81 is asked for twice",
    );
    refused(&[port(0, "10.1.0.2:80")], "port 0 cannot be mapped");
    refused(&[port(80, "10.1.0.2:0")], "port 0 cannot be mapped");
    refused(
        &[Element::HostPort {
            protocol: nft_templates::Protocol::Tcp,
            host_ip: Some("::1".parse().unwrap()),
            host_port: 80,
            to: "10.1.0.2:80".parse().unwrap(),
            conditions: vec![],
        }],
        "different families",
    );
    refused(&[Element::Bridge { ifname: "a name that is too long".into() }], "not a name");
    assert_eq!(nft(&node, &["list", "ruleset"]), "");

    // The last of two policies for one pod is the one that counts.
    let twice = [egress("10.1.0.2", &[]), egress("10.1.0.2", &["10.0.0.0/8"])];
    ruleset.commit(&adding(&twice, &a), &mut none).unwrap();
    assert!(ruleset.check(&[(twice[1].clone(), a)]).unwrap().is_empty());
    assert!(ruleset.commit(&Transaction::new(), &mut take_over).is_ok());
}
