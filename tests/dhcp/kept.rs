//! Leases that are kept: renewed, lost and got again, changed.

use serde_json::json;
use testnode::dhcp::Program;
use testnode::{Node, until};

use crate::PATIENCE;
use crate::lan::{Lan, address, list, list_with, short, state};

/// Leases are renewed after two seconds, and last. Where that goes by while the server begins anew, it is asked for again soon.
fn renewed() -> testnode::dhcp::Pool {
    short(3600, [2, 14])
}

#[test]
fn a_lease_is_renewed_and_no_descriptor_leads_into_the_pod_meanwhile() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    lan.await_granted(&address, 4);
    let before = state(&pod, "eth0");
    until("nothing is open that leads into the pod", PATIENCE, || {
        daemon.abroad().is_empty().then_some(())
    });
    assert_eq!(state(&pod, "eth0"), before);
    lan.catena().check(&list(), &pod);
    // What is asked of its server alone comes from the pod's address, in no broadcast.
    assert_eq!(lan.server.log().matches("DHCPDISCOVER from").count(), 1);
    // A namespace that nothing holds goes with its name, and its devices with it.
    let host = lan.node.json(["ip", "-json", "link", "show", "type", "veth"]);
    let veths = host.as_array().unwrap().len();
    pod.delete();
    until("the pod's devices are gone", PATIENCE, || {
        let now = lan.node.json(["ip", "-json", "link", "show", "type", "veth"]);
        (now.as_array().unwrap().len() < veths).then_some(())
    });
    lan.await_released(&address);
}

#[test]
fn a_server_that_comes_back_in_time_goes_on_with_the_lease() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(20, [2, 4]));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    lan.server.stop();
    daemon.await_log(&format!("{first} is not extended yet"));
    let granted = lan.server.granted(&first);
    lan.server.resume();
    lan.await_granted(&first, granted + 2);
    assert_eq!(state(&pod, "eth0").0, [first]);
    assert!(!daemon.log().contains("is lost"), "{}", daemon.log());
}

#[test]
fn routes_have_the_metric_that_the_configuration_says_also_after_a_new_lease() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let list = list_with(json!({ "priority": 77 }));
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list, &pod));
    assert!(state(&pod, "eth0").1.contains("10.9.0.0/16 via 10.7.0.3 dev eth0 metric 77"));
    lan.server.lease_to_another(&first);
    daemon.await_log(&format!("the lease of {first} is lost"));
    until("another lease's routes are there", PATIENCE, || {
        let (addresses, routes) = state(&pod, "eth0");
        let has = routes.contains("10.9.0.0/16 via 10.7.0.3 dev eth0 metric 77");
        (has && addresses != [first.as_str()]).then_some(())
    });
}

#[test]
fn a_lease_that_comes_back_with_another_route_changes_the_interface() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    // One that somebody else has made stays.
    pod.ip("route add 10.99.0.0/16 via 10.7.0.7 dev eth0\n");
    lan.server.serve(testnode::dhcp::Pool { via: 4, ..renewed() });
    lan.server.resume();
    let routes = until("the route is the new one", PATIENCE, || {
        let routes = state(&pod, "eth0").1;
        routes.contains("10.9.0.0/16 via 10.7.0.4").then_some(routes)
    });
    assert!(!routes.contains("10.7.0.3"), "{routes}");
    assert!(routes.contains("10.99.0.0/16 via 10.7.0.7"), "{routes}");
    assert!(routes.contains("default via 10.7.0.1"), "{routes}");
    assert_eq!(state(&pod, "eth0").0, [first]);
    assert!(!daemon.log().contains("is lost"), "{}", daemon.log());
}
