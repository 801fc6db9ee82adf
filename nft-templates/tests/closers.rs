//! A bridge is closed as long as any attachment wants it so, and no longer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use nft_templates::{Conflict, Element, Key, Resolution};
use node::{Node, adding, nft, open, owner, removing};

fn none(conflict: &Conflict) -> Resolution {
    panic!("unexpected conflict: {conflict:?}");
}

/// What a container on `cni0` has that wants it closed.
fn closing(address: &str) -> [Element; 2] {
    let bridge = "cni0".to_owned();
    [
        Element::Closed { address: address.parse().unwrap(), bridge: bridge.clone() },
        Element::ClosedBridge { ifname: bridge },
    ]
}

/// Whether the bridge is closed, and whose name is on it.
fn closed_by(node: &Node) -> Option<String> {
    let listing = nft(node, &["list", "set", "inet", "catena", "closed_bridges"]);
    let (_, comment) = listing.split_once("\"cni0\" comment \"web ")?;
    Some(comment.split_once('/')?.0.to_owned())
}

#[test]
fn it_is_open_when_the_last_has_gone_in_whichever_order() {
    let ids = ["a", "b", "c"];
    let addresses = ["10.1.0.2", "fd00::2", "10.1.0.3"];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
        for recorded in [true, false] {
            let node = Node::new();
            let mut ruleset = open(&node);
            for (id, address) in ids.iter().zip(addresses) {
                ruleset.commit(&adding(&closing(address), &owner(id)), &mut none).unwrap();
            }
            assert_eq!(closed_by(&node).as_deref(), Some("a"));
            for (gone, index) in order.into_iter().enumerate() {
                let who = owner(ids[index]);
                if recorded {
                    let removal = removing(&closing(addresses[index]), &who);
                    assert!(ruleset.commit(&removal, &mut none).unwrap().left.is_empty());
                } else {
                    let removed = ruleset.remove_owned(&who).unwrap();
                    assert!(matches!(&removed[..], [one] if matches!(one.key, Key::Closed { .. })));
                }
                let remain: Vec<_> = order[gone + 1..].iter().map(|left| ids[*left]).collect();
                match closed_by(&node) {
                    Some(id) => assert!(remain.contains(&&*id), "{id} is none of {remain:?}"),
                    None => assert!(remain.is_empty(), "open although {remain:?} close it"),
                }
            }
            assert!(!nft(&node, &["list", "ruleset"]).contains("comment \"web"));
        }
    }
}

#[test]
fn who_is_replaced_in_the_same_transaction_goes_on_closing_it() {
    let node = Node::new();
    let mut ruleset = open(&node);
    ruleset.commit(&adding(&closing("10.1.0.2"), &owner("a")), &mut none).unwrap();
    let mut again = removing(&closing("10.1.0.2"), &owner("a"));
    for element in closing("10.1.0.3") {
        again.add(element, owner("a"));
    }
    ruleset.commit(&again, &mut none).unwrap();
    assert_eq!(closed_by(&node).as_deref(), Some("a"));
    ruleset.commit(&removing(&closing("10.1.0.3"), &owner("a")), &mut none).unwrap();
    assert_eq!(closed_by(&node), None);
}

#[test]
fn garbage_collection_knows_for_whose_sake_it_is_closed() {
    let node = Node::new();
    let mut ruleset = open(&node);
    for (id, address) in [("a", "10.1.0.2"), ("b", "10.1.0.3")] {
        ruleset.commit(&adding(&closing(address), &owner(id)), &mut none).unwrap();
    }
    assert_eq!(ruleset.collect_bridges(&|_| true).unwrap(), 0);
    for (address, then) in [("10.1.0.2", Some("b")), ("10.1.0.3", None)] {
        let taken = format!("{{ {address} . \"cni0\" }}");
        nft(&node, &["delete", "element", "inet", "catena", "closers4", &taken]);
        assert!(ruleset.collect_bridges(&|_| true).unwrap() > 0);
        assert_eq!(closed_by(&node).as_deref(), then);
        assert_eq!(ruleset.collect_bridges(&|_| true).unwrap(), 0);
    }
    ruleset.commit(&adding(&closing("10.1.0.4"), &owner("c")), &mut none).unwrap();
    ruleset.collect_bridges(&|_| false).unwrap();
    assert_eq!(closed_by(&node), None, "the bridge is gone");
}
