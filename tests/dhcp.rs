//! Addresses from DHCP servers, by the daemon of the reference plugins.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::{Background, Catena, Container, Node, PluginOutput, Shared, assert_same, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// Of Debian's containernetworking-plugins.
const REFERENCE: &str = "/usr/lib/cni/dhcp";
const SOCKET: &str = "/run/cni/dhcp.sock";
const PATIENCE: Duration = Duration::from_secs(20);

/// A bridge of the node's with a network behind it, in which dnsmasq serves.
struct Lan<'n> {
    node: &'n Node,
    server: Container,
    dnsmasq: Background,
}

impl<'n> Lan<'n> {
    fn new(node: &'n Node) -> Self {
        let server = node.container("server");
        node.ip("link add cni1 type bridge\nlink set cni1 up\n\
             link add lan type veth peer name eth0 netns server\nlink set lan master cni1 up\n");
        server.ip("link set lo up\naddr add 10.7.0.1/24 dev eth0\nlink set eth0 up\n");
        let leases = node.fresh_path("leases").display().to_string();
        let dnsmasq = server
            .cmd(["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"])
            .args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"])
            .args(["--dhcp-range=10.7.0.50,10.7.0.59,255.255.255.0,1h", "--log-dhcp", "--log-facility=-"])
            .args(["--dhcp-option=option:classless-static-route,10.9.0.0/16,10.7.0.3,0.0.0.0/0,10.7.0.1"])
            .args([format!("--dhcp-leasefile={leases}"), "--pid-file=".into()])
            .spawn(node.fresh_path("dnsmasq.log"));
        until("dnsmasq serves", PATIENCE, || {
            dnsmasq.log().contains("DHCP, IP range").then_some(())
        });
        Self { node, server, dnsmasq }
    }

    /// The daemon of the reference plugins.
    fn daemon(&self) -> Background {
        self.node.run(["mkdir", "-p", "/run/cni"]);
        let daemon = self
            .node
            .cmd([REFERENCE, "daemon", "-socketpath", SOCKET])
            .spawn(self.node.fresh_path("dhcp.log"));
        until("the DHCP daemon listens", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
        daemon
    }

    fn catena(&self) -> Catena<'n> {
        Catena::new(self.node, CATENA)
    }
}

fn list() -> Value {
    let bridge = json!({ "type": "bridge", "bridge": "cni1", "ipam": { "type": "dhcp", "request": [{ "option": "121" }] } });
    json!({ "cniVersion": "1.1.0", "name": "leased", "plugins": [bridge] })
}

#[test]
fn a_lease_gives_address_and_routes_and_is_given_back() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let (catena, list) = (lan.catena(), list());
    let before = node.snapshot();
    catena.status(&list).success();
    let result = catena.add(&list, &pod);
    let address = result["ips"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("10.7.0.5") && address.ends_with("/24"), "{result}");
    let routes = result["routes"].as_array().unwrap();
    let has = |dst: &str, gw: &str| routes.iter().any(|one| one["dst"] == dst && one["gw"] == gw);
    assert!(has("10.9.0.0/16", "10.7.0.3") && has("0.0.0.0/0", "10.7.0.1"), "{result}");
    pod.ping("10.7.0.1");
    assert!(pod.run(["ip", "route"]).contains("10.9.0.0/16 via 10.7.0.3"));
    catena.check(&list, &pod);
    lan.server.ping(address.split('/').next().unwrap());
    catena.del(&list, &pod);
    until("the lease is given back", PATIENCE, || {
        lan.dnsmasq.log().contains("DHCPRELEASE(eth0)").then_some(())
    });
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    // One that ended before its lease was given back ends in peace, too.
    catena.add(&list, &pod);
    daemon.kill();
    catena.del(&list, &pod);
}

#[test]
fn without_a_daemon_status_and_add_say_what_to_start_and_nothing_is_left() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let pod = node.container("pod");
    let before = node.snapshot();
    let catena = lan.catena();
    let add = catena.try_add(&list(), &pod);
    for output in [catena.status(&list()), add] {
        let output = PluginOutput::from(output);
        assert_eq!(output.error_code(), 50);
        let text = output.error_text();
        assert!(text.contains("no DHCP daemon listens on /run/cni/dhcp.sock"), "{text}");
        assert!(text.contains("start \"dhcp daemon\""), "{text}");
    }
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    // What answers there and is no such daemon.
    let odd = json!({ "cniVersion": "1.1.0", "name": "leased", "plugins": [{
        "type": "bridge", "bridge": "cni1",
        "ipam": { "type": "dhcp", "daemonSocketPath": node.fresh_path("odd.sock") } }] });
    let path = odd["plugins"][0]["ipam"]["daemonSocketPath"].as_str().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).unwrap();
        assert_eq!(asked, "CONNECT /_goRPC_ HTTP/1.0\n");
        stream.write_all(b"HTTP/1.0 404 Not Found\n\n").unwrap();
    });
    let text = PluginOutput::from(catena.try_add(&odd, &pod)).error_text();
    assert!(text.contains("it answers \"HTTP/1.0 404 Not Found\""), "{text}");
    answering.join().unwrap();
}

#[test]
fn what_the_server_refuses_is_an_error_of_add() {
    let node = Node::new();
    node.run(["mkdir", "-p", "/run/cni"]);
    // A bridge without a server.
    node.ip("link add cni1 type bridge\nlink set cni1 up\n");
    let daemon = node
        .cmd([REFERENCE, "daemon", "-socketpath", SOCKET, "-timeout", "200ms", "-resendmax", "1s"])
        .spawn(node.fresh_path("dhcp.log"));
    until("the DHCP daemon listens", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
    let pod = node.container("pod");
    let before = node.snapshot();
    let add = Catena::new(&node, CATENA).try_add(&list(), &pod);
    let text = PluginOutput::from(add).error_text();
    assert!(text.contains("the DHCP daemon on /run/cni/dhcp.sock: "), "{text}");
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    drop(daemon);
}
