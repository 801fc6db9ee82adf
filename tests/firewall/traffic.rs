//! What passes, and what does not.

use serde_json::json;
use testnode::Netns;

use crate::{
    Filter, Pod, addresses_of, filtered, firewall, on_a_bridge, point_to_point, reach,
    reach_nothing,
};

/// Makes a test for each filter, with bridged packets passing the IP hooks and not.
macro_rules! with_each_filter {
    ($($name:ident: $filter:ident, $bridge_nf:literal;)*) => {
        mod pods_are_reached_and_reach_others {
            use super::{Filter, passes};

            $(#[test]
            fn $name() {
                passes(Filter::$filter, $bridge_nf);
            })*
        }
    };
}

with_each_filter! {
    beside_docker: Docker, false;
    beside_docker_with_bridge_netfilter: Docker, true;
    beside_firewalld: Firewalld, false;
    beside_firewalld_with_bridge_netfilter: Firewalld, true;
    beside_a_policy_of_drop: PolicyDrop, false;
    beside_a_policy_of_drop_with_bridge_netfilter: PolicyDrop, true;
    beside_early_policies_of_drop: EarlyDrop, false;
    beside_early_policies_of_drop_with_bridge_netfilter: EarlyDrop, true;
    beside_a_final_reject: FinalReject, false;
    beside_a_final_reject_with_bridge_netfilter: FinalReject, true;
    beside_the_iptables_from_before_nf_tables: Legacy, false;
    beside_the_iptables_from_before_nf_tables_with_bridge_netfilter: Legacy, true;
}

/// On a bridge and point to point, each with two pods, in one node.
fn passes(filter: Filter, bridge_nf: bool) {
    let (node, _running, outside, _page) = filtered(filter);
    node.bridge_nf(bridge_nf);
    let with = [firewall(&json!({}))];
    let (bridged, ptp) = (on_a_bridge(1, &with), point_to_point(2, &with));
    let pods = [
        Pod::add(&node, &bridged, "web", Some(8080)),
        Pod::add(&node, &bridged, "db", None),
        Pod::add(&node, &ptp, "ptp-web", Some(8081)),
        Pod::add(&node, &ptp, "ptp-db", None),
    ];
    let names = ["web", "db", "ptp-web", "ptp-db"];
    let node_at = [outside.node_v4(), outside.node_v6()];
    for (pod, name) in pods.iter().zip(names) {
        reach("a pod to a host outside", &pod.container, addresses_of(&outside), 80, "outside");
        reach("the node to a pod", &node, pod.addresses, 80, name);
        for (other, other_name) in pods.iter().zip(names).filter(|(_, other)| *other != name) {
            reach("a pod to another", &pod.container, other.addresses, 80, other_name);
        }
    }
    for (port, name) in [(8080, "web"), (8081, "ptp-web")] {
        reach("a host outside to a published port", &outside, node_at, port, name);
    }
    for pod in [&pods[1], &pods[3]] {
        reach("a pod to a published port", &pod.container, node_at, 8080, "web");
        reach("a pod to a published port", &pod.container, node_at, 8081, "ptp-web");
    }
    let cases =
        pods.iter().map(|pod| ("a host outside to a pod itself", &*outside, pod.addresses, 80));
    reach_nothing(&cases.collect::<Vec<(&str, &Netns, _, _)>>());
}

#[test]
fn without_the_plugin_nothing_passes() {
    for filter in
        [Filter::Docker, Filter::Firewalld, Filter::PolicyDrop, Filter::FinalReject, Filter::Legacy]
    {
        let (node, _running, outside, _page) = filtered(filter);
        let web = Pod::add(&node, &on_a_bridge(1, &[]), "web", Some(8080));
        let other = Pod::add(&node, &point_to_point(2, &[]), "other", None);
        println!("{filter:?}");
        reach_nothing(&[
            ("a pod to a host outside", &web.container, addresses_of(&outside), 80),
            ("a pod to another", &web.container, other.addresses, 80),
            ("a host outside to a pod itself", &outside, other.addresses, 80),
        ]);
        // What was DNATed firewalld lets pass by itself.
        if filter != Filter::Firewalld {
            let node_at = [outside.node_v4(), outside.node_v6()];
            reach_nothing(&[("a host outside to a published port", &outside, node_at, 8080)]);
        }
    }
}
