//! The Go reference plugin beside this one.

use serde_json::json;
use testnode::{Attachment, Plugins, Runtime, http_get, url};

use crate::{Filter, Pod, addresses_of, catena, filtered, firewall, on_a_bridge, reach};

/// A network whose plugins are the reference's.
fn theirs() -> serde_json::Value {
    let mut list = on_a_bridge(2, &[firewall(&json!({ "backend": "iptables" }))]);
    list["cniVersion"] = json!("1.0.0");
    list["plugins"].as_array_mut().unwrap().remove(1);
    list
}

#[test]
fn both_live_on_one_node_whichever_was_first() {
    for ours_first in [true, false] {
        let (node, _running, outside, _page) = filtered(Filter::Docker);
        let our_list = on_a_bridge(1, &[firewall(&json!({}))]);
        let runtime = Runtime::new(Plugins::debian(&node), theirs());
        let container = node.container("theirs");
        let attachment = Attachment::new(&container);
        let pod = if ours_first {
            let pod = Pod::add(&node, &our_list, "ours", None);
            runtime.add(&attachment).unwrap();
            pod
        } else {
            runtime.add(&attachment).unwrap();
            Pod::add(&node, &our_list, "ours", None)
        };
        for tool in ["iptables", "ip6tables"] {
            let rules = node.run([tool, "-S"]);
            for (rule, of) in [("-j CNI-FORWARD", "FORWARD"), ("-j CNI-ADMIN", "CNI-FORWARD")] {
                let start = format!("-A {of} ");
                let found =
                    rules.lines().filter(|line| line.starts_with(&start) && line.ends_with(rule));
                assert_eq!(found.count(), 1, "neither says it twice: {rules}");
            }
        }
        catena(&node, None).check(&our_list, &pod.container);
        runtime.check(&attachment).unwrap();
        for pod in [&pod.container, &container] {
            reach("a pod to a host outside", pod, addresses_of(&outside), 80, "outside");
        }

        runtime.del(&attachment).unwrap();
        catena(&node, None).check(&our_list, &pod.container);
        reach("a pod to a host outside", &pod.container, addresses_of(&outside), 80, "outside");
        runtime.add(&attachment).unwrap();
        catena(&node, None).del(&our_list, &pod.container);
        runtime.check(&attachment).unwrap();
        http_get(&container, &url(outside.v4(), 80)).unwrap();
        runtime.del(&attachment).unwrap();
        node.ip("link del cni2\n");
    }
}
