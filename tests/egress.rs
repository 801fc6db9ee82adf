//! What a server outside sees as the source of a pod's packets.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::net::IpAddr;
use std::thread;

use serde_json::{Value, json};
use testnode::{
    HttpServer, Neighbour, Netns, Network, Node, Pod, UdpClient, UdpServer, http_get, url,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// A node whose way out has no route back to pods: only what comes from an address of the node is
/// answered.
fn node_with_uplink() -> (Node, Neighbour) {
    let node = Node::new();
    let uplink = node.uplink("uplink", "192.0.2.254/24", "2001:db8::254/64");
    (node, uplink)
}

/// Two families of a network: `10.<number>.0.0/24` and `fd00:<number>::/64`.
fn interface(plugin: &str, number: u8) -> Value {
    let ipam = json!({
        "type": "host-local",
        "ranges": [
            [{ "subnet": format!("10.{number}.0.0/24") }],
            [{ "subnet": format!("fd00:{number}::/64") }]
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
    });
    let mut conf = json!({ "type": plugin, "ipam": ipam });
    if plugin == "bridge" {
        conf["bridge"] = json!(format!("cni{number}"));
        conf["isGateway"] = json!(true);
    }
    conf
}

fn masquerading(plugin: &str, number: u8) -> Value {
    let mut conf = interface(plugin, number);
    conf["ipMasq"] = json!(true);
    conf
}

fn snat(fields: &Value) -> Value {
    let mut conf = fields.clone();
    conf["type"] = json!("snat");
    conf
}

/// A server that remembers whom it saw.
struct Witness(UdpServer, IpAddr);

impl Witness {
    fn at(netns: &Netns, address: IpAddr) -> Self {
        Self(UdpServer::start_at(netns, (address, 5000).into(), "seen"), address)
    }

    /// The address under which a datagram from `client` arrives; whether it can be answered does
    /// not matter.
    #[track_caller]
    fn sees(&self, client: &Netns) -> IpAddr {
        let socket = match self.1 {
            IpAddr::V4(_) => UdpClient::v4(client, 0),
            IpAddr::V6(_) => UdpClient::v6(client, 0),
        };
        let before = self.0.peers().len();
        // A busy machine may lose a datagram.
        let arrived = (0..3).find_map(|_| {
            let _ = socket.ask((self.1, 5000));
            self.0.peers().get(before).map(|peer| peer.ip())
        });
        arrived.unwrap_or_else(|| panic!("nothing from {} has come to {}", client.name(), self.1))
    }
}

/// Servers outside at `addresses`, and at the uplink's own ones.
fn witnesses<'a>(uplink: &Neighbour, addresses: impl IntoIterator<Item = &'a str>) -> Vec<Witness> {
    let addresses: Vec<_> = addresses.into_iter().collect();
    for address in &addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        uplink.ip(&format!("addr add {address} dev lo {nodad}\n"));
    }
    addresses.iter().map(|address| Witness::at(uplink, address.parse().unwrap())).collect()
}

fn addresses_of(pod: &Pod<'_>) -> [IpAddr; 2] {
    [pod.v4(), pod.v6()]
}

fn node_of(uplink: &Neighbour) -> [IpAddr; 2] {
    [uplink.node_v4(), uplink.node_v6()]
}

fn of_both(witnesses: &[Witness], client: &Netns) -> Vec<IpAddr> {
    // At once, since each may wait for an answer in vain.
    thread::scope(|scope| {
        let asked: Vec<_> =
            witnesses.iter().map(|witness| scope.spawn(|| witness.sees(client))).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn is_masqueraded(chain: &[Value]) {
    let (node, uplink) = node_with_uplink();
    let uplink = uplink.with_address("198.51.100.7/32").with_address("2001:db8:1::7/128");
    let network = Network::new(&node, CATENA, "web", chain);
    let pod = network.pod("pod");
    let _server = HttpServer::start(&uplink, 80, "outside");
    let far = ["198.51.100.7", "2001:db8:1::7"].map(|a| a.parse().unwrap());
    for (address, node_at) in far.into_iter().zip(node_of(&uplink)) {
        let answer = http_get(&pod, &url(address, 80)).unwrap();
        assert_eq!(answer.from.ip(), node_at);
    }
    pod.del();
    let again = network.pod("again");
    assert_eq!(http_get(&again, &url(far[0], 80)).unwrap().from.ip(), uplink.node_v4());
}

#[test]
fn a_masqueraded_bridge_pod_is_seen_as_the_node() {
    is_masqueraded(&[masquerading("bridge", 1)]);
}

#[test]
fn a_masqueraded_point_to_point_pod_is_seen_as_the_node() {
    is_masqueraded(&[masquerading("ptp", 1)]);
}

#[test]
fn a_pod_with_snat_is_seen_as_the_node() {
    is_masqueraded(&[interface("bridge", 1), snat(&json!({}))]);
}

#[test]
fn a_point_to_point_pod_with_snat_is_seen_as_the_node() {
    is_masqueraded(&[interface("ptp", 1), snat(&json!({}))]);
}

#[test]
fn without_snat_a_pod_is_seen_as_itself() {
    for plugin in ["bridge", "ptp"] {
        let (node, uplink) = node_with_uplink();
        let network = Network::new(&node, CATENA, "web", &[interface(plugin, 1)]);
        let pod = network.pod("pod");
        let outside = witnesses(&uplink, ["198.51.100.7", "2001:db8:1::7"]);
        assert_eq!(of_both(&outside, &pod), addresses_of(&pod));
    }
}

#[test]
fn after_del_nobody_inherits_the_masquerade() {
    let (node, uplink) = node_with_uplink();
    let masqueraded = Network::new(&node, CATENA, "web", &[masquerading("bridge", 1)]);
    let outside = witnesses(&uplink, ["198.51.100.7", "2001:db8:1::7"]);
    let pod = masqueraded.pod("pod");
    assert_eq!(of_both(&outside, &pod), node_of(&uplink));
    let address = pod.v4();
    pod.del();
    let mut plain = interface("bridge", 1);
    plain["capabilities"] = json!({ "ips": true });
    let plain = Network::new(&node, CATENA, "plain", &[plain]);
    let heir = plain.pod_with("heir", &json!({ "ips": [format!("{address}/24")] }));
    assert_eq!(outside[0].sees(&heir), address);
}

#[test]
fn what_stays_in_the_cluster_keeps_its_source() {
    for plugin in ["bridge", "ptp"] {
        let (node, uplink) = node_with_uplink();
        let conf = snat(&json!({ "nonMasqueradeCIDRs": ["198.51.100.0/25", "2001:db8:1::/64"] }));
        let network = Network::new(&node, CATENA, "web", &[interface(plugin, 1), conf]);
        let pod = network.pod("pod");
        let inside = witnesses(&uplink, ["198.51.100.7", "2001:db8:1::7"]);
        let outside = witnesses(&uplink, ["198.51.100.207", "2001:db8:2::7"]);
        assert_eq!(of_both(&inside, &pod), addresses_of(&pod));
        assert_eq!(of_both(&outside, &pod), node_of(&uplink));
    }
}

#[test]
fn each_network_has_a_list_of_its_own() {
    let (node, uplink) = node_with_uplink();
    let conf = |cidrs: [&str; 2]| snat(&json!({ "nonMasqueradeCIDRs": cidrs }));
    let web = [interface("bridge", 1), conf(["198.51.100.0/24", "2001:db8:1::/64"])];
    let web = Network::new(&node, CATENA, "web", &web);
    let db = [interface("ptp", 2), conf(["203.0.113.0/24", "2001:db8:2::/64"])];
    let db = Network::new(&node, CATENA, "db", &db);
    let (in_web, in_db) = (web.pod("web"), db.pod("db"));
    let first = witnesses(&uplink, ["198.51.100.7", "2001:db8:1::7"]);
    let second = witnesses(&uplink, ["203.0.113.7", "2001:db8:2::7"]);
    assert_eq!(of_both(&first, &in_web), addresses_of(&in_web));
    assert_eq!(of_both(&second, &in_web), node_of(&uplink));
    assert_eq!(of_both(&first, &in_db), node_of(&uplink));
    assert_eq!(of_both(&second, &in_db), addresses_of(&in_db));
    in_web.del();
    assert_eq!(of_both(&second, &in_db), addresses_of(&in_db));
    assert_eq!(of_both(&first, &in_db), node_of(&uplink));
}

#[test]
fn pods_of_a_network_see_each_other_as_they_are() {
    for bridge_nf in [false, true] {
        for chain in [
            vec![masquerading("bridge", 1)],
            vec![masquerading("ptp", 1)],
            vec![interface("bridge", 1), snat(&json!({}))],
            vec![interface("ptp", 1), snat(&json!({}))],
        ] {
            let (node, _uplink) = node_with_uplink();
            node.bridge_nf(bridge_nf);
            let network = Network::new(&node, CATENA, "web", &chain);
            let (client, server) = (network.pod("client"), network.pod("server"));
            let seen = addresses_of(&server).map(|address| Witness::at(&server, address));
            assert_eq!(of_both(&seen, &client), addresses_of(&client), "{chain:?}");
        }
    }
}

#[test]
fn the_source_address_may_be_fixed() {
    for plugin in ["bridge", "ptp"] {
        let (node, uplink) = node_with_uplink();
        node.ip("addr add 192.0.2.77/24 dev uplink\naddr add 2001:db8::77/64 dev uplink nodad\n");
        let fixed = ["192.0.2.77", "2001:db8::77"];
        let conf = snat(&json!({
            "sourceAddress": fixed,
            "nonMasqueradeCIDRs": ["203.0.113.0/24", "2001:db8:2::/64"]
        }));
        let network = Network::new(&node, CATENA, "web", &[interface(plugin, 1), conf]);
        let (pod, other) = (network.pod("pod"), network.pod("other"));
        let outside = witnesses(&uplink, ["198.51.100.7", "2001:db8:1::7"]);
        let inside = witnesses(&uplink, ["203.0.113.7", "2001:db8:2::7"]);
        let fixed = fixed.map(|address| address.parse::<IpAddr>().unwrap());
        assert_eq!(of_both(&outside, &pod), fixed);
        assert_eq!(of_both(&outside, &other), fixed);
        assert_eq!(of_both(&inside, &pod), addresses_of(&pod));
    }
}
