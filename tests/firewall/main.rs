//! Pods' packets are forwarded whatever else filters on the node.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::net::IpAddr;
use std::thread;

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, host_local, portmap};
use testnode::{
    Catena, Container, HttpServer, Neighbour, Netns, Node, PluginOutput, http_get, url,
};

use filters::Filter;

mod chains;
mod filters;
mod ingress;
mod mark;
mod reference;
mod traffic;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// The addresses of the `number`th network.
fn subnets(number: u8) -> [String; 2] {
    [format!("10.{number}.0.0/24"), format!("fd00:{number}::/64")]
}

fn firewall(fields: &Value) -> Value {
    let mut conf = fields.clone();
    conf["type"] = json!("firewall");
    conf
}

/// A network on a bridge, `cni` and its number, with ports, and with these plugins after them.
fn on_a_bridge(number: u8, more: &[Value]) -> Value {
    let subnets = subnets(number);
    let bridge = bridge(&format!("cni{number}"), &subnets.each_ref().map(String::as_str));
    conflist(&format!("net{number}"), &[&[bridge, portmap()], more].concat())
}

/// The same, point to point.
fn point_to_point(number: u8, more: &[Value]) -> Value {
    let subnets = subnets(number);
    let ipam = host_local(&subnets.each_ref().map(String::as_str));
    let ptp = json!({ "type": "ptp", "ipam": ipam });
    conflist(&format!("net{number}"), &[&[ptp, portmap()], more].concat())
}

/// A container on a network, with a page on port 80.
struct Pod {
    container: Container,
    addresses: [IpAddr; 2],
    _server: HttpServer,
}

impl Pod {
    fn add(node: &Node, list: &Value, name: &str, host_port: Option<u16>) -> Self {
        let container = node.container(name);
        let result = catena(node, host_port).add(list, &container);
        let address = |index: usize| {
            let cidr = result["ips"][index]["address"].as_str().unwrap();
            cidr.split('/').next().unwrap().parse().unwrap()
        };
        let addresses = [address(0), address(1)];
        let server = HttpServer::start(&container, 80, name);
        Self { container, addresses, _server: server }
    }
}

fn catena(node: &Node, host_port: Option<u16>) -> Catena<'_> {
    let ports = host_port.map(|port| json!({ "hostPort": port, "containerPort": 80 }));
    let ports: Vec<_> = ports.into_iter().collect();
    Catena::new(node, CATENA).cap_args(&json!({ "portMappings": ports }))
}

/// A host outside that routes through the node, with a page on port 80.
fn outside(node: &Node) -> (Neighbour, HttpServer) {
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let server = HttpServer::start(&outside, 80, "outside");
    (outside, server)
}

fn addresses_of(host: &Neighbour) -> [IpAddr; 2] {
    [host.v4(), host.v6()]
}

/// Each of these reaches the page at each of its addresses.
#[track_caller]
fn reach(what: &str, from: &Netns, addresses: [IpAddr; 2], port: u16, page: &str) {
    for address in addresses {
        match http_get(from, &url(address, port)) {
            Ok(answer) => assert_eq!(answer.text, page, "{what}"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

/// None of these gets there. All at once, since each may wait in vain.
#[track_caller]
fn reach_nothing(cases: &[(&str, &Netns, [IpAddr; 2], u16)]) {
    let passed: Vec<String> = thread::scope(|scope| {
        let cases = cases.iter().flat_map(|(what, from, addresses, port)| {
            addresses.map(|address| (*what, *from, address, *port))
        });
        let tried: Vec<_> = cases
            .map(|(what, from, address, port)| {
                scope.spawn(move || {
                    let answer = http_get(from, &url(address, port)).ok()?;
                    Some(format!("{what}: {address}: {}", answer.text))
                })
            })
            .collect();
        tried.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(passed, [""; 0]);
}

/// The text of a CHECK that fails.
#[track_caller]
fn told_by_check(node: &Node, list: &Value, container: &Netns) -> String {
    PluginOutput::from(catena(node, None).try_check(list, container)).error_text()
}

/// A node with this filter, and a host outside.
fn filtered(filter: Filter) -> (Node, filters::Running, Neighbour, HttpServer) {
    let node = Node::new();
    let running = filter.start(&node);
    let (outside, server) = outside(&node);
    (node, running, outside, server)
}
