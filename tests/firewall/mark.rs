//! The bit of the mark is Catena's between its own chains, and nowhere else.

use serde_json::json;

use crate::Node;
use crate::filters::load;
use crate::{Filter, Pod, addresses_of, filtered, firewall, on_a_bridge, reach, reach_nothing};

/// All packets come with this mark, and are counted by what mark they leave with.
fn marking(mark: &str) -> String {
    format!(
        "table inet marks {{
            counter kept {{
            }}
            counter catena {{
            }}
            chain prerouting {{
                type filter hook prerouting priority mangle; policy accept;
                meta mark set {mark}
            }}
            chain postrouting {{
                type filter hook postrouting priority mangle; policy accept;
                meta mark & 0xffffefff == {mark} counter name kept
                meta mark & 0x00001000 == 0x00001000 counter name catena
            }}
        }}"
    )
}

fn packets(node: &Node, counter: &str) -> u64 {
    let listing = node.json(["nft", "-j", "list", "counter", "inet", "marks", counter]);
    listing["nftables"][1]["counter"]["packets"].as_u64().unwrap()
}

#[test]
fn the_marks_of_others_stay_and_they_never_see_the_bit() {
    let (node, _running, outside, _page) = filtered(Filter::PolicyDrop);
    load(&node, &marking("0xabcd0234"));
    let pod = Pod::add(&node, &on_a_bridge(1, &[firewall(&json!({}))]), "pod", None);
    reach("a pod to a host outside", &pod.container, addresses_of(&outside), 80, "outside");
    assert!(packets(&node, "kept") > 0);
    assert_eq!(packets(&node, "catena"), 0);
}

#[test]
fn a_packet_that_comes_with_the_bit_is_not_let_through_for_it() {
    let (node, _running, outside, _page) = filtered(Filter::PolicyDrop);
    let beyond = node.neighbour("beyond", "198.51.100.2/24", "2001:db8:1::2/64");
    let pod = Pod::add(&node, &on_a_bridge(1, &[firewall(&json!({}))]), "pod", None);
    load(&node, &marking("0x00001000"));
    reach("a pod to a host outside", &pod.container, addresses_of(&outside), 80, "outside");
    reach_nothing(&[
        ("one host to another", &beyond, addresses_of(&outside), 80),
        ("a host outside to a pod itself", &outside, pod.addresses, 80),
    ]);
}

#[test]
fn pods_of_a_network_without_the_plugin_get_nothing_from_it() {
    let (node, _running, _, _) = filtered(Filter::Docker);
    let with = Pod::add(&node, &on_a_bridge(1, &[firewall(&json!({}))]), "with", None);
    let without = Pod::add(&node, &on_a_bridge(2, &[]), "without", None);
    reach_nothing(&[("one pod to another", &without.container, with.addresses, 80)]);
}
