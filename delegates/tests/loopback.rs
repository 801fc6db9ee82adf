//! loopback against the kernel's own view.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

mod common;

use common::Case;
use serde_json::json;
use testnode::{Container, Node};

fn is_up(container: &Container) -> bool {
    let lo = container.json(["ip", "-j", "link", "show", "lo"]);
    lo[0]["flags"].as_array().unwrap().contains(&json!("UP"))
}

#[test]
fn lo_is_set_up_and_down_and_its_addresses_are_the_result() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let case = Case::new(json!({ "type": "loopback" }), &c1);
    assert!(!is_up(&c1));
    let result = case.add().unwrap();
    assert!(is_up(&c1));
    assert!(c1.pings("127.0.0.1"));
    assert!(c1.pings("::1"));
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1/8", "::1/128"]);
    assert_eq!(result.interfaces[0].name, "lo");
    assert_eq!(result.interfaces[0].mac, "00:00:00:00:00:00");
    case.check().unwrap();
    c1.ip("link set lo down\n");
    assert!(case.finding().contains("interface lo in /run/netns/c1 is off"));
    c1.ip("link set lo up\n");
    case.del().unwrap();
    assert!(!is_up(&c1));
    case.del().unwrap();
    c1.delete();
    case.del().unwrap();
}

#[test]
fn another_address_on_lo_is_an_error_and_lo_is_as_it_was() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    c1.ip("addr add 10.1.0.1/32 dev lo\n");
    let error = Case::new(json!({ "type": "loopback" }), &c1).add().unwrap_err();
    assert!(error.msg.contains("10.1.0.1/32, which is no loopback address"), "{error}");
    assert!(!is_up(&c1));
}

#[test]
fn in_a_chain_it_passes_the_result_on() {
    let outer = Node::new();
    let c1 = outer.container("c1");
    let bridge = json!({ "type": "bridge", "bridge": "br0" });
    let case = Case::chain(json!([bridge, { "type": "loopback" }]), &c1);
    let result = case.add().unwrap();
    assert_eq!(result.interfaces.len(), 3);
    assert!(is_up(&c1));
    case.check().unwrap();
    case.del().unwrap();
}
