//! What listens in a pod is reached through a port of the node, from everywhere.
//!
//! Each test runs for pods on a bridge and for point-to-point ones, and with bridged packets
//! passing the IP hooks of the kernel (`bridge-nf-call-iptables`, as Docker and Kubernetes have it)
//! and not (as podman has it).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use testnode::{HttpServer, Neighbour, Netns, Network, Node, Pod, http_get, url};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The plugin that makes the pods' interfaces, and whether bridged packets pass the IP hooks.
#[derive(Clone, Copy)]
struct Setting {
    plugin: &'static str,
    bridge_nf: bool,
}

/// Makes a test of each function for each setting.
macro_rules! in_each_setting {
    ($($promise:ident)*) => {
        $(mod $promise {
            use super::$promise;
            use crate::Setting;

            #[test]
            fn on_a_bridge() {
                $promise(Setting { plugin: "bridge", bridge_nf: false });
            }

            #[test]
            fn on_a_bridge_with_bridge_netfilter() {
                $promise(Setting { plugin: "bridge", bridge_nf: true });
            }

            #[test]
            fn point_to_point() {
                $promise(Setting { plugin: "ptp", bridge_nf: false });
            }

            #[test]
            fn point_to_point_with_bridge_netfilter() {
                $promise(Setting { plugin: "ptp", bridge_nf: true });
            }
        })*
    };
}

mod addresses;
mod conditions;
mod datagrams;
mod limits;
mod others;
mod pages;
mod services;

impl Setting {
    /// A node, and a host outside that routes through it.
    fn node(self) -> (Node, Neighbour) {
        let node = Node::new();
        node.bridge_nf(self.bridge_nf);
        let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
        (node, outside)
    }

    /// Where the node finds host ports on itself.
    ///
    /// Not at ::1 where bridged packets pass the IP hooks: the answer gets back its destination ::1
    /// while it is still on the bridge, and what comes to ::1 from a link the kernel drops (this
    /// has no exception, unlike IPv4's `route_localnet`). Clients that try ::1 first are refused
    /// then, and do not wait.
    fn localhost(self) -> impl Iterator<Item = IpAddr> {
        let v6 = self.plugin != "bridge" || !self.bridge_nf;
        LOCALHOST.into_iter().filter(move |address| address.is_ipv4() || v6)
    }

    fn network<'n>(self, node: &'n Node, name: &str, number: u8) -> Network<'n> {
        self.network_with(node, name, number, &json!({}))
    }

    /// A network with these fields of portmap's configuration.
    fn network_with<'n>(
        self,
        node: &'n Node,
        name: &str,
        number: u8,
        fields: &Value,
    ) -> Network<'n> {
        let ranges = json!([
            [{ "subnet": format!("10.{number}.0.0/24") }],
            [{ "subnet": format!("fd00:{number}::/64") }]
        ]);
        let ipam = json!({
            "type": "host-local",
            "ranges": ranges,
            "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
        });
        let mut interface =
            json!({ "type": self.plugin, "ipam": ipam, "capabilities": { "ips": true } });
        if self.plugin == "bridge" {
            interface["bridge"] = json!(format!("cni{number}"));
            interface["isGateway"] = json!(true);
        }
        let mut portmap = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        for (field, value) in fields.as_object().into_iter().flatten() {
            portmap[field] = value.clone();
        }
        Network::new(node, CATENA, name, &[interface, portmap])
    }
}

fn port(protocol: &str, host: u16, container: u16) -> Value {
    json!({ "hostPort": host, "containerPort": container, "protocol": protocol })
}

fn at(host_ip: impl ToString, mut mapping: Value) -> Value {
    mapping["hostIP"] = json!(host_ip.to_string());
    mapping
}

fn ports(mappings: impl IntoIterator<Item = Value>) -> Value {
    json!({ "portMappings": mappings.into_iter().collect::<Vec<_>>() })
}

/// A pod that serves its name on port 80, which is 8080 of the node.
fn web<'n>(network: &'n Network<'_>, name: &str) -> (Pod<'n>, HttpServer) {
    let pod = network.pod_with(name, &ports([port("tcp", 8080, 80)]));
    let server = HttpServer::start(&pod, 80, name);
    (pod, server)
}

fn both(host: &Neighbour) -> [IpAddr; 2] {
    [host.v4(), host.v6()]
}

/// The addresses of the node.
fn node_at(host: &Neighbour) -> [IpAddr; 2] {
    [host.node_v4(), host.node_v6()]
}

#[track_caller]
fn assert_page(from: &Netns, address: IpAddr, port: u16, expected: &str) {
    assert_eq!(http_get(from, &url(address, port)).unwrap().text, expected);
}

#[track_caller]
fn assert_refused(from: &Netns, address: IpAddr, port: u16) {
    let error = http_get(from, &url(address, port)).unwrap_err().to_string();
    assert!(error.contains("exit status: 7"), "not refused but: {error}");
}
