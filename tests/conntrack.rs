//! When a port's mapping changes, tracked connections of that mapping are forgotten, and no others.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};
use testnode::conf::{bridge, portmap};
use testnode::{Neighbour, Netns, Network, Node, Pod, UdpClient, UdpServer};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// Further addresses of the node.
const FURTHER: [&str; 2] = ["198.51.100.1", "2001:db8:7::1"];

/// Tracked connections by their number: protocol, destination and port as they were asked for.
type Tracked = BTreeMap<String, String>;

fn tracked(node: &Node) -> Tracked {
    let mut all = Tracked::new();
    for family in ["ipv4", "ipv6"] {
        for line in node.run(["conntrack", "-L", "-f", family, "-o", "id"]).lines() {
            let of = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
            if let (Some(id), Some(to), Some(port)) = (of("id="), of("dst="), of("dport=")) {
                let protocol = line.split_whitespace().next().unwrap();
                all.insert(format!("{family} {id}"), format!("{protocol} {to} {port}"));
            }
        }
    }
    all
}

/// What is not tracked any more, sorted.
fn forgotten(before: &Tracked, after: &Tracked) -> Vec<String> {
    let gone = before.iter().filter(|(id, _)| !after.contains_key(*id));
    let mut gone: Vec<_> = gone.map(|(_, to)| to.clone()).collect();
    gone.sort();
    gone
}

/// Mappings of one container: address of the node, protocol and port. All lead to its port 53.
fn ports(mappings: &[(&str, &str, u16)]) -> Value {
    let mappings: Vec<_> = mappings
        .iter()
        .map(|(host_ip, protocol, port)| {
            json!({ "hostIP": host_ip, "protocol": protocol, "hostPort": port, "containerPort": 53 })
        })
        .collect();
    json!({ "portMappings": mappings })
}

fn ask(from: &Netns, to: IpAddr, port: u16) -> UdpClient {
    let client = match to {
        IpAddr::V4(_) => UdpClient::v4(from, 0),
        IpAddr::V6(_) => UdpClient::v6(from, 0),
    };
    client.answer(SocketAddr::new(to, port));
    client
}

fn serve(pod: &Pod<'_>) -> [UdpServer; 2] {
    [pod.v4(), pod.v6()].map(|address| UdpServer::start_at(pod, (address, 53).into(), "pod"))
}

/// Connections that no change of the mapping of UDP port 53 is about, and all that they need.
struct Others<'n> {
    _pods: [Pod<'n>; 2],
    _servers: Vec<UdpServer>,
    _clients: Vec<UdpClient>,
    _streams: Vec<TcpStream>,
}

impl<'n> Others<'n> {
    /// To another pod's port, to the port of one address, by TCP to the port itself, and DNS to the outside by a pod and
    /// the node.
    fn connect(network: &'n Network<'n>, node: &Node, outside: &Neighbour) -> Self {
        let neighbour = network.pod_with("neighbour", &ports(&[("", "udp", 54), ("", "tcp", 53)]));
        let of_one_address = FURTHER.map(|address| (address, "udp", 53));
        let particular = network.pod_with("particular", &ports(&of_one_address));
        let mut servers: Vec<_> = serve(&neighbour).into_iter().chain(serve(&particular)).collect();
        let (mut clients, mut streams) = (Vec::new(), Vec::new());
        let listener = neighbour.enter(|| TcpListener::bind("[::]:53").unwrap());
        for (to, further) in [outside.node_v4(), outside.node_v6()].into_iter().zip(FURTHER) {
            clients.push(ask(outside, to, 54));
            clients.push(ask(outside, further.parse().unwrap(), 53));
            streams.push(outside.enter(|| TcpStream::connect((to, 53)).unwrap()));
            streams.push(listener.accept().unwrap().0);
        }
        for resolver in [outside.v4(), outside.v6()] {
            servers.push(UdpServer::start_at(outside, (resolver, 53).into(), "resolver"));
            clients.push(ask(node, resolver, 53));
            clients.push(ask(&neighbour, resolver, 53));
        }
        let _pods = [neighbour, particular];
        Self { _pods, _servers: servers, _clients: clients, _streams: streams }
    }
}

#[test]
fn only_entries_of_the_mapping_that_changes_are_forgotten() {
    let node = Node::new();
    let outside = node.uplink("up0", "192.0.2.2/24", "2001:db8::2/64");
    let [v4, v6] = FURTHER;
    node.ip(&format!("addr add {v4}/32 dev lo\naddr add {v6}/128 dev lo nodad\n"));
    outside.ip(&format!(
        "route add default via {}\nroute add default via {}\n",
        outside.node_v4(),
        outside.node_v6()
    ));
    let chain = [bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]), portmap()];
    let network = Network::new(&node, CATENA, "dns", &chain);
    let _others = Others::connect(&network, &node, &outside);
    let others = tracked(&node);
    let own = [outside.node_v4(), outside.node_v6()];
    let of_mapping = own.map(|address| format!("udp {address} 53"));
    let mapping = ports(&[("", "udp", 53)]);

    // DEL.
    let first = network.pod_with("first", &mapping);
    let servers = serve(&first);
    let clients = own.map(|address| ask(&outside, address, 53));
    let before = tracked(&node);
    first.del();
    assert_eq!(forgotten(&before, &tracked(&node)), of_mapping);
    drop(servers);

    // ADD: who asked meanwhile is tracked as a client of the node itself.
    for (client, address) in clients.iter().zip(own) {
        client.ask(SocketAddr::new(address, 53)).unwrap_err();
    }
    let before = tracked(&node);
    let second = network.pod_with("second", &mapping);
    assert_eq!(forgotten(&before, &tracked(&node)), of_mapping);

    // Another one takes the port over from a container that is gone without a DEL.
    let servers = serve(&second);
    for (client, address) in clients.iter().zip(own) {
        client.answer(SocketAddr::new(address, 53));
    }
    drop(servers);
    node.run(["ip", "netns", "del", "second"]);
    let before = tracked(&node);
    let third = network.pod_with("third", &mapping);
    assert_eq!(forgotten(&before, &tracked(&node)), of_mapping);
    let _servers = serve(&third);
    for (client, address) in clients.iter().zip(own) {
        assert_eq!(client.answer(SocketAddr::new(address, 53)).text, "pod");
    }
    assert_eq!(forgotten(&others, &tracked(&node)), [""; 0]);
}

/// Datagrams that came while the ruleset was gone were tracked as the node's own, and would be for as long as they come.
#[test]
fn what_came_while_the_ruleset_was_gone_finds_its_way_when_it_is_back() {
    let node = Node::new();
    let outside = node.uplink("up0", "192.0.2.2/24", "2001:db8::2/64");
    let chain = [bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]), portmap()];
    let network = Network::new(&node, CATENA, "dns", &chain);
    let pod = network.pod_with("pod", &ports(&[("", "udp", 5353)]));
    let _servers = serve(&pod);
    let own = [outside.node_v4(), outside.node_v6()];
    let clients = own.map(|address| ask(&outside, address, 5353));
    let back: [&dyn Fn(); 2] = [&|| drop(node.run([CATENA, "repair"])), &|| {
        drop(network.pod_with("another", &ports(&[("", "udp", 5354)])))
    }];
    for back in back {
        node.run(["nft", "flush", "ruleset"]);
        // Those that are tracked go on.
        node.run(["conntrack", "-F"]);
        // Somebody has to track connections where no table of ours does.
        node.run(["nft", "add table inet t; add chain inet t c { type filter hook input priority 0; }; add rule inet t c ct state new accept"]);
        for (client, address) in clients.iter().zip(own) {
            client.ask(SocketAddr::new(address, 5353)).unwrap_err();
        }
        back();
        for (client, address) in clients.iter().zip(own) {
            assert_eq!(client.answer(SocketAddr::new(address, 5353)).text, "pod");
        }
    }
}
