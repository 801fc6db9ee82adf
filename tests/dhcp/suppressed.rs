//! What a network's configuration has a container not take from servers.

use serde_json::json;
use testnode::dhcp::Program;
use testnode::{Attachment, Node, PluginOutput, Plugins, Runtime, until};

use crate::PATIENCE;
use crate::lan::{Lan, list_with, short, state};

#[test]
fn a_gateway_that_is_suppressed_is_in_no_result_and_its_route_does_not_come_with_another_lease() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(3600, [2, 14]));
    let daemon = lan.daemon();
    let list = list_with(json!({ "suppress": ["gateway"] }));
    let pod = node.container("pod");
    lan.catena().status(&list).success();
    let result = lan.catena().add(&list, &pod);
    assert_eq!(result["ips"][0]["gateway"], json!(null), "{result}");
    let routes = result["routes"].as_array().unwrap();
    assert!(routes.len() == 1 && routes[0]["dst"] == "10.9.0.0/16", "{result}");
    let (addresses, routes) = state(&pod, "eth0");
    assert!(!routes.contains("default") && routes.contains("10.9.0.0/16"), "{routes}");
    lan.catena().check(&list, &pod);
    lan.server.lease_to_another(&addresses[0]);
    let another = until("another address is there", PATIENCE, || {
        state(&pod, "eth0").0.into_iter().find(|address| *address != addresses[0])
    });
    daemon.await_log(&format!("has {another} of 10.7.0.1 now"));
    let routes = state(&pod, "eth0").1;
    assert!(routes.contains("10.9.0.0/16"), "{routes}");
    assert!(!routes.contains("default"), "{routes}");
}

#[test]
fn a_gateway_is_suppressed_with_the_references_daemon_as_well() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.reference();
    let list = list_with(json!({ "suppress": ["gateway"], "request": [{ "option": "121" }] }));
    let pod = node.container("pod");
    let result = lan.catena().add(&list, &pod);
    assert_eq!(result["ips"][0]["gateway"], json!(null), "{result}");
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("default") && routes.contains("10.9.0.0/16"), "{routes}");
}

#[test]
fn a_gateway_is_suppressed_for_the_references_plugins_as_well() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let mut list = list_with(json!({ "suppress": ["gateway"] }));
    list["cniVersion"] = json!("1.0.0");
    let runtime = Runtime::new(Plugins::debian(&node), list);
    let result = runtime.add(&Attachment::new(&pod)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(result["ips"][0]["gateway"], json!(null), "{result}");
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("default") && routes.contains("10.9.0.0/16"), "{routes}");
}

#[test]
fn what_cannot_be_suppressed_is_an_error_of_the_configuration() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let list = list_with(json!({ "suppress": ["dns"] }));
    let add = lan.catena().try_add(&list, &node.container("pod"));
    for output in [lan.catena().status(&list), add] {
        let output = PluginOutput::from(output);
        assert_eq!(output.error_code(), 7, "{output}");
        let text = output.error_text();
        assert!(
            text.contains("ipam: suppress: unknown variant `dns`, expected `gateway`"),
            "{text}"
        );
    }
}
