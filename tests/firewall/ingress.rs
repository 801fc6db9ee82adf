//! `ingressPolicy`: which pods reach which.

use serde_json::{Value, json};
use testnode::PluginOutput;

use crate::{
    Node, Pod, addresses_of, catena, firewall, on_a_bridge, outside, point_to_point, reach,
    reach_nothing, told_by_check,
};

fn policy(policy: &str) -> [Value; 1] {
    [firewall(&json!({ "ingressPolicy": policy }))]
}

/// Two pods on one bridge, one each on two others, with these policies.
fn pods(node: &Node, policies: [&str; 3]) -> [Pod; 4] {
    let lists =
        [1, 2, 3].map(|number| on_a_bridge(number, &policy(policies[usize::from(number) - 1])));
    [
        Pod::add(node, &lists[0], "first", Some(8080)),
        Pod::add(node, &lists[0], "neighbour", None),
        Pod::add(node, &lists[1], "second", Some(8082)),
        Pod::add(node, &lists[2], "third", None),
    ]
}

#[test]
fn open_takes_packets_from_everywhere() {
    let node = Node::new();
    let [first, neighbour, second, _third] = pods(&node, ["open", "open", "open"]);
    reach("on one bridge", &first.container, neighbour.addresses, 80, "neighbour");
    reach("to another bridge", &first.container, second.addresses, 80, "second");
}

#[test]
fn same_bridge_keeps_bridges_with_a_policy_apart() {
    for bridge_nf in [false, true] {
        let node = Node::new();
        node.bridge_nf(bridge_nf);
        let (outside, _page) = outside(&node);
        let [first, neighbour, second, third] = pods(&node, ["same-bridge", "isolated", "open"]);
        let node_at = [outside.node_v4(), outside.node_v6()];
        reach("on one bridge", &first.container, neighbour.addresses, 80, "neighbour");
        reach("to a host outside", &first.container, addresses_of(&outside), 80, "outside");
        reach("from a host outside", &outside, node_at, 8080, "first");
        reach("from the node", &node, first.addresses, 80, "first");
        reach("from a bridge without a policy", &third.container, first.addresses, 80, "first");
        reach("to a bridge without a policy", &first.container, third.addresses, 80, "third");
        reach("a published port of a neighbour", &neighbour.container, node_at, 8080, "first");
        reach_nothing(&[
            ("to another bridge", &first.container, second.addresses, 80),
            ("from another bridge", &second.container, first.addresses, 80),
            ("a published port on another bridge", &first.container, node_at, 8082),
        ]);
    }
}

#[test]
fn isolated_keeps_pods_of_one_bridge_apart_as_well() {
    for bridge_nf in [false, true] {
        let node = Node::new();
        node.bridge_nf(bridge_nf);
        let (outside, _page) = outside(&node);
        let [first, neighbour, second, third] = pods(&node, ["isolated", "same-bridge", "open"]);
        let node_at = [outside.node_v4(), outside.node_v6()];
        reach("to a host outside", &first.container, addresses_of(&outside), 80, "outside");
        reach("from a host outside", &outside, node_at, 8080, "first");
        reach("from the node", &node, first.addresses, 80, "first");
        reach("from a bridge without a policy", &third.container, first.addresses, 80, "first");
        reach_nothing(&[
            ("on one bridge", &neighbour.container, first.addresses, 80),
            ("on one bridge", &first.container, neighbour.addresses, 80),
            ("a published port of a neighbour", &neighbour.container, node_at, 8080),
            ("to another bridge", &first.container, second.addresses, 80),
            ("from another bridge", &second.container, first.addresses, 80),
        ]);
    }
}

#[test]
fn point_to_point_pods_with_a_policy_are_apart() {
    let node = Node::new();
    let (outside, _page) = outside(&node);
    let list = point_to_point(1, &policy("same-bridge"));
    let (first, second) =
        (Pod::add(&node, &list, "first", None), Pod::add(&node, &list, "second", None));
    reach("to a host outside", &first.container, addresses_of(&outside), 80, "outside");
    reach_nothing(&[("to another pod", &first.container, second.addresses, 80)]);
}

#[test]
fn a_policy_holds_for_a_pod_as_long_as_it_has_one() {
    let node = Node::new();
    let lists = [1, 2].map(|number| on_a_bridge(number, &policy("same-bridge")));
    let [first, second] = [("first", &lists[0]), ("second", &lists[1])]
        .map(|(name, list)| Pod::add(&node, list, name, None));
    reach_nothing(&[("to another bridge", &first.container, second.addresses, 80)]);
    catena(&node, None).del(&lists[1], &second.container);
    let open = on_a_bridge(2, &policy("open"));
    let again = Pod::add(&node, &open, "again", None);
    reach("to a pod without a policy", &first.container, again.addresses, 80, "again");
}

#[test]
fn a_bridge_is_kept_apart_no_longer_than_a_pod_on_it_has_a_policy() {
    let del = |node: &Node, list: &Value, pod: Pod| catena(node, None).del(list, &pod.container);
    let del_without_a_record = |node: &Node, list: &Value, pod: Pod| {
        node.run(["rm", "-r", "/var/lib/catena/attachments/net1"]);
        catena(node, None).del(list, &pod.container);
    };
    let gc = |node: &Node, list: &Value, pod: Pod| {
        pod.container.delete();
        catena(node, None).gc(list, &[]).success();
    };
    for leave in [del, del_without_a_record, gc] {
        let node = Node::new();
        let second = Pod::add(&node, &on_a_bridge(2, &policy("same-bridge")), "second", None);
        let closed = ["isolated", "same-bridge"].map(|of| on_a_bridge(1, &policy(of)));
        let pods = [("first", &closed[0]), ("next", &closed[1])];
        let [first, next] = pods.map(|(name, list)| Pod::add(&node, list, name, None));
        let open = Pod::add(&node, &on_a_bridge(1, &policy("open")), "open", None);
        leave(&node, &closed[0], first);
        reach_nothing(&[("while one has it", &open.container, second.addresses, 80)]);
        del(&node, &closed[1], next);
        reach("after the last", &open.container, second.addresses, 80, "second");
    }
}

#[test]
fn check_misses_the_parts_of_a_policy() {
    let node = Node::new();
    let list = on_a_bridge(1, &policy("isolated"));
    let pod = Pod::add(&node, &list, "pod", None);
    catena(&node, None).check(&list, &pod.container);
    for (damage, told) in [
        ("nft delete element inet catena forwarded4 '{ 10.1.0.2 }'", "forwarding of 10.1.0.2"),
        ("nft delete element inet catena closed6 '{ fd00:1::2 }'", "ingress policy of fd00:1::2"),
        ("nft delete element inet catena closed_bridges '{ cni1 }'", "closed bridge cni1"),
        ("bridge link set dev $(ls /sys/class/net/cni1/brif) isolated off", "isolation of veth"),
    ] {
        node.run(["sh", "-c", damage]);
        let text = told_by_check(&node, &list, &pod.container);
        assert!(text.contains(told), "{told} is missing: {text}");
    }
}

#[test]
fn another_policy_is_refused() {
    let node = Node::new();
    let before = node.snapshot();
    let container = node.container("pod");
    let list = on_a_bridge(1, &policy("closed"));
    let add = PluginOutput::from(catena(&node, None).try_add(&list, &container));
    assert_eq!(add.error_code(), 6, "{add}");
    assert!(add.error_text().contains("closed"), "{add}");
    container.delete();
    let shared = testnode::Shared::none().catena("net1").device("cni1");
    testnode::assert_same(&before, &node.snapshot(), &shared);
}
