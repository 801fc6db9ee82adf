//! The sets of the cluster's addresses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use ipnet::IpNet;
use nft_templates::{Cluster, OtherVersion, Resolution};
use node::{Node, adding, nft, open, owner, port};

fn nets(all: &[&str]) -> Vec<IpNet> {
    all.iter().map(|net| net.parse().unwrap()).collect()
}

fn cluster(pods: &[&str]) -> Cluster {
    Cluster {
        pods: nets(pods),
        nodes: nets(&["192.168.1.11/32", "192.168.1.12/32", "fd01::b/128"]),
        services: nets(&["10.96.0.0/12", "fd96::/112"]),
        direct: nets(&["0.0.0.0/0", "::/0"]),
    }
}

fn set(node: &Node, name: &str) -> String {
    let listing = nft(node, &["list", "set", "inet", "catena", name]);
    let (_, elements) = listing.split_once("elements = {").unwrap_or_default();
    elements.split('}').next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn they_are_listed_as_nft_itself_would_have_made_them() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let pods = ["10.1.1.0/24", "10.1.3.0/24", "10.1.2.0/24", "fd10::/64"];
    assert!(ruleset.keep_cluster(&cluster(&pods), OtherVersion::Replace).unwrap());
    assert_eq!(set(&node, "cluster_pods4"), "10.1.1.0-10.1.3.255");
    assert_eq!(set(&node, "cluster_pods6"), "fd10::/64");
    assert_eq!(set(&node, "cluster_nodes4"), "192.168.1.11-192.168.1.12");
    assert_eq!(set(&node, "services6"), "fd96::/112");
    assert_eq!(set(&node, "direct4"), "0.0.0.0/0");
    let ours = nft(&node, &["list", "table", "inet", "catena"]);
    // nft takes its own listing, and makes the same of it.
    let path = node.fresh_path("listing.nft");
    node.write(&path, &format!("delete table inet catena\n{ours}"));
    nft(&node, &["-f", path.to_str().unwrap()]);
    assert_eq!(nft(&node, &["list", "table", "inet", "catena"]), ours);
    assert!(
        !ruleset.keep_cluster(&cluster(&pods), OtherVersion::Replace).unwrap(),
        "nothing is to be done"
    );
}

#[test]
fn they_are_replaced_at_once_and_by_nothing_but_what_differs() {
    let node = Node::new();
    let mut ruleset = open(&node);
    ruleset.keep_cluster(&cluster(&["10.1.1.0/24", "10.1.2.0/24"]), OtherVersion::Replace).unwrap();
    assert!(
        ruleset
            .keep_cluster(&cluster(&["10.1.2.0/24", "10.1.4.0/23"]), OtherVersion::Replace)
            .unwrap()
    );
    assert_eq!(set(&node, "cluster_pods4"), "10.1.2.0/24, 10.1.4.0/23");
    assert!(ruleset.keep_cluster(&Cluster::default(), OtherVersion::Replace).unwrap());
    for name in ["cluster_pods4", "cluster_nodes6", "services4", "direct6"] {
        assert_eq!(set(&node, name), "");
    }
    assert!(!ruleset.keep_cluster(&Cluster::default(), OtherVersion::Replace).unwrap());
}

#[test]
fn they_outlive_a_table_of_another_version_and_come_from_the_record_with_a_new_one() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let pods = ["10.1.1.0/24", "10.1.4.0/24", "10.1.6.0/24", "fd10::/64", "fd20::/64"];
    ruleset.keep_cluster(&cluster(&pods), OtherVersion::Replace).unwrap();
    let names = ["cluster_pods4", "cluster_pods6", "cluster_nodes4", "services4", "direct6"];
    let all = || names.map(|name| set(&node, name));
    let before = all();
    assert_eq!(before[1], "fd10::/64, fd20::/64");
    nft(&node, &["flush", "map", "inet", "catena", "version"]);
    let element = [port(8080, "10.1.0.2:80")];
    ruleset.commit(&adding(&element, &owner("c1")), &mut |_| Resolution::Refuse).unwrap();
    assert_eq!(all(), before);
    // A table with addresses of before, damaged: those count until they are said anew.
    ruleset.on_install(|| (Vec::new(), cluster(&["10.1.4.0/23", "10.9.0.0/16"])));
    nft(&node, &["flush", "chain", "inet", "catena", "prerouting"]);
    ruleset.repair().unwrap();
    assert_eq!(set(&node, "cluster_pods4"), "10.1.1.0/24, 10.1.4.0/24, 10.1.6.0/24");
    nft(&node, &["flush", "ruleset"]);
    ruleset.commit(&adding(&element, &owner("c1")), &mut |_| Resolution::Refuse).unwrap();
    assert_eq!(set(&node, "cluster_pods4"), "10.1.4.0/23, 10.9.0.0/16");
}

#[test]
fn they_are_kept_in_a_table_of_another_version_and_it_is_replaced_where_it_has_other_sets() {
    let node = Node::new();
    let mut ruleset = open(&node);
    let other = "add chain inet catena of_another; flush map inet catena version; \
                 add element inet catena version { 0x00000001 : 0x12345678 }";
    let is_other = || nft(&node, &["list", "ruleset"]).contains("chain of_another");
    ruleset.keep_cluster(&cluster(&["10.1.1.0/24"]), OtherVersion::Keep).unwrap();
    nft(&node, &[other]);
    let more = cluster(&["10.1.1.0/24", "10.1.4.0/24"]);
    assert!(ruleset.keep_cluster(&more, OtherVersion::Keep).unwrap());
    assert_eq!(set(&node, "cluster_pods4"), "10.1.1.0/24, 10.1.4.0/24");
    assert!(!ruleset.keep_cluster(&more, OtherVersion::Keep).unwrap());
    assert!(is_other());
    assert!(ruleset.keep_cluster(&more, OtherVersion::Replace).unwrap());
    assert!(!is_other());
    // One from before there were such sets.
    nft(
        &node,
        &["delete table inet catena; add table inet catena; add chain inet catena of_another"],
    );
    assert!(ruleset.keep_cluster(&more, OtherVersion::Keep).unwrap());
    assert!(!is_other());
    assert_eq!(set(&node, "cluster_pods4"), "10.1.1.0/24, 10.1.4.0/24");
}
