//! Leases that are kept: renewed, lost and got again, changed.

use serde_json::json;
use testnode::dhcp::Program;
use testnode::{Node, until};

use crate::PATIENCE;
use crate::lan::{self, Lan, address, await_address, list, list_with, short, state};

/// Leases are renewed after two seconds, and last.
fn renewed() -> testnode::dhcp::Pool {
    short(3600, [2, 3000])
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
fn a_lease_that_is_refused_is_replaced_by_another_address() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let (pod, first) = lan.not_the_first(&list());
    lan.serve_the_first(renewed());
    let expected = lan::FIRST;
    daemon.await_log(&format!("the lease of {first} is lost"));
    await_address(&pod, Some(expected));
    until("the routes are there again", PATIENCE, || {
        let routes = state(&pod, "eth0").1;
        let has = |route: &str| routes.contains(route);
        (has("10.9.0.0/16 via 10.7.0.3") && has("default via 10.7.0.1")).then_some(())
    });
    assert!(lan.server.refused(&first) > 0, "{}", lan.server.log());
    pod.ping("10.7.0.1");
    // The runtime was told of another one.
    let text = lan.catena().try_check(&list(), &pod).failure().stderr;
    assert!(text.contains(&format!("has no address {first}")), "{text}");
    lan.catena().del(&list(), &pod);
    lan.await_released(expected);
}

#[test]
fn an_expired_lease_leaves_the_interface_and_comes_back_with_the_server() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(6, [2, 4]));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    lan.await_granted(&first, 2);
    lan.server.stop();
    daemon.await_log(&format!("{first} is not extended yet"));
    await_address(&pod, None);
    daemon.await_log(&format!("the lease of {first} is lost: it has expired"));
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("10.7.0.1") && !routes.contains("10.9.0.0"), "{routes}");
    let text = lan.catena().try_check(&list(), &pod).failure().stderr;
    assert!(text.contains(&format!("has no address {first}")), "{text}");
    lan.server.resume();
    await_address(&pod, Some(&first));
    until("the routes are there again", PATIENCE, || {
        state(&pod, "eth0").1.contains("10.9.0.0/16 via 10.7.0.3").then_some(())
    });
    pod.ping("10.7.0.1");
    lan.catena().check(&list(), &pod);
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
fn a_pool_without_an_address_left_fails_add_and_serves_again_after_a_del() {
    let node = Node::new();
    let pool = testnode::dhcp::Pool { addresses: 1, ..renewed() };
    let lan = Lan::with(&node, Program::Isc, pool);
    let flags = ["-timeout", "500ms", "-resendmax", "500ms", "-resendtimeout", "2s"];
    let _daemon = lan::Daemon::catenas(&node, &flags);
    let [one, two] = ["one", "two"].map(|name| node.container(name));
    let (catena, list) = (lan.catena(), list());
    let address = address(&catena.add(&list, &one));
    let text = catena.try_add(&list, &two).failure().stderr;
    assert!(text.contains("no DHCP server answers"), "{text}");
    catena.del(&list, &one);
    lan.await_released(&address);
    assert_eq!(lan::address(&catena.add(&list, &two)), address);
}

#[test]
fn routes_have_the_metric_that_the_configuration_says_also_after_a_new_lease() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let list = list_with(json!({ "priority": 77 }));
    let (pod, first) = lan.not_the_first(&list);
    assert!(state(&pod, "eth0").1.contains("10.9.0.0/16 via 10.7.0.3 dev eth0 metric 77"));
    lan.serve_the_first(renewed());
    daemon.await_log(&format!("the lease of {first} is lost"));
    until("the routes are there again", PATIENCE, || {
        let routes = state(&pod, "eth0").1;
        routes.contains("10.9.0.0/16 via 10.7.0.3 dev eth0 metric 77").then_some(())
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
