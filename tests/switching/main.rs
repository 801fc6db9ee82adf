//! Attachments that the Go plugins made (Debian's package, 1.1.1) are CHECKed and DELeted by Catena under the same names.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stdout, reason = "figures for docs/reliability.md")]

mod attachments;
mod nft;
mod old_iptables;
mod rules;
mod way_back;

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use serde_json::{Value, json};
use testnode::conf::host_local;
use testnode::{
    Attachment, Container, HttpServer, Neighbour, Node, Plugins, Runtime, Shared, Snapshot,
    UdpClient, UdpServer, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const SUBNETS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// Everything that the reference plugins of that release can do to a node.
const CHAINED: [&str; 4] = ["portmap", "bandwidth", "firewall", "tuning"];

fn conflist(version: &str, plugins: &[Value]) -> Value {
    json!({ "cniVersion": version, "name": "web", "plugins": plugins })
}

fn interface(kind: &str) -> Value {
    let mut conf = json!({ "type": kind, "ipMasq": true, "ipam": host_local(&SUBNETS) });
    if kind == "bridge" {
        conf["bridge"] = json!("cni0");
        conf["isGateway"] = json!(true);
        conf["macspoofchk"] = json!(true);
    }
    conf
}

fn chained(kind: &str) -> Value {
    match kind {
        "portmap" => {
            json!({ "type": kind, "capabilities": { "portMappings": true }, "snat": true })
        }
        "bandwidth" => json!({ "type": kind, "capabilities": { "bandwidth": true } }),
        "firewall" => json!({ "type": kind, "backend": "iptables" }),
        _ => {
            json!({ "type": kind, "mtu": 1400, "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } })
        }
    }
}

fn chain(kind: &str, others: &[&str]) -> Vec<Value> {
    [interface(kind)].into_iter().chain(others.iter().map(|kind| chained(kind))).collect()
}

/// A node with a way out that has no route back to containers, and both implementations of one network's plugins.
struct Switch<'n> {
    node: &'n Node,
    uplink: Rc<Neighbour>,
    go: Runtime<'n>,
    catena: Runtime<'n>,
}

impl<'n> Switch<'n> {
    fn new(node: &'n Node, plugins: &[Value]) -> Self {
        let uplink = node.uplink("uplink", "192.0.2.254/24", "2001:db8::254/64");
        Self::on(node, Rc::new(uplink), plugins)
    }

    /// The same with another chain.
    fn with(&self, plugins: &[Value]) -> Self {
        Self::on(self.node, Rc::clone(&self.uplink), plugins)
    }

    fn on(node: &'n Node, uplink: Rc<Neighbour>, plugins: &[Value]) -> Self {
        let ours = ["bridge", "ptp", "portmap", "bandwidth", "firewall", "tuning", "host-local"];
        let ours = Plugins::new(node, [links(node, CATENA, &ours)]);
        Self {
            node,
            uplink,
            go: Runtime::new(Plugins::debian(node), conflist("1.0.0", plugins)),
            catena: Runtime::new(ours, conflist("1.1.0", plugins)),
        }
    }

    /// The node as the Go plugins leave it when an attachment of theirs came and went: with chains for all containers.
    fn before(&self) -> Snapshot {
        let first = self.node.container("first");
        let attachment = attachment(&first, 7000);
        self.go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        self.go.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        self.node.snapshot()
    }

    /// ADD by the Go plugins; the result is the runtime's, which goes on with Catena.
    #[track_caller]
    fn add(&self, attachment: &Attachment) -> Value {
        let result = self.go.add(attachment).unwrap_or_else(|e| panic!("{e}"));
        self.catena.take_over(attachment, result.clone());
        result
    }

    #[track_caller]
    fn check(&self, attachment: &Attachment) {
        self.catena.check(attachment).unwrap_or_else(|e| panic!("{e}"));
    }

    /// What CHECK finds, of all plugins.
    fn findings(&self, attachment: &Attachment) -> String {
        let failures = self.catena.check_each(attachment);
        failures.iter().map(|failure| failure.output.error_text()).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn del(&self, attachment: &Attachment) {
        self.catena.del(attachment).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Ports of the node lead to the container, and what it sends out comes from the node's address.
    #[track_caller]
    fn assert_serves(&self, container: &Container, port: u16, text: &str) {
        for to in [self.uplink.node_v4(), self.uplink.node_v6()] {
            let get = http_get(&self.uplink, &format!("http://{}/", SocketAddr::new(to, port)));
            assert_eq!(get.unwrap_or_else(|e| panic!("{to}: {e}")).text, text, "{to}");
            let client = match to {
                IpAddr::V4(_) => UdpClient::v4(&self.uplink, 0),
                IpAddr::V6(_) => UdpClient::v6(&self.uplink, 0),
            };
            assert_eq!(client.answer((to, port + 1)).text, text, "{to}");
        }
        container.ping("192.0.2.254");
        container.ping("2001:db8::254");
    }
}

/// Two ports of TCP and one of UDP, the first ones also by an address, and both directions shaped.
fn attachment(container: &Container, port: u16) -> Attachment {
    let ports = json!([
        { "hostPort": port, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": port + 1, "containerPort": 53, "protocol": "udp" },
        { "hostPort": port + 2, "containerPort": 81, "protocol": "tcp", "hostIP": "127.0.0.1" },
    ]);
    let rates = json!({
        "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
        "egressRate": 100_000_000, "egressBurst": 10_000_000
    });
    Attachment::new(container).capability("portMappings", ports).capability("bandwidth", rates)
}

fn servers(container: &Container) -> (HttpServer, UdpServer) {
    let name = container.name();
    (HttpServer::start(container, 80, name), UdpServer::start(container, 53, name))
}

/// What both implementations keep of a network, and a control that the reference sets for the whole node.
fn shared() -> Shared {
    Shared::none().catena("web").device("cni0").sysctl("ipv4.conf.all.route_localnet")
}
