//! Servers, clients and measured transfers.

use std::net::SocketAddr;

use testnode::{
    HttpServer, Measure, Node, Sink, UdpClient, UdpServer, assert_rate, http_get, throughput,
};

#[test]
fn a_page_tells_whom_it_was_served_to() {
    let node = Node::new();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let server = HttpServer::start(&node, 8080, "the node's page");
    let v4 = http_get(&outside, "http://192.0.2.1:8080/").unwrap();
    assert_eq!(v4.text, "the node's page");
    assert_eq!(v4.from.ip(), outside.v4());
    let v6 = http_get(&outside, "http://[2001:db8::1]:8080/").unwrap();
    assert_eq!(v6.from.ip(), outside.v6());
    assert_eq!(server.peers(), [v4.from, v6.from]);

    drop(server);
    let refused = http_get(&outside, "http://192.0.2.1:8080/").unwrap_err().to_string();
    assert!(refused.contains("exit status: 7"), "{refused}");
}

#[test]
fn a_server_does_not_keep_its_namespace() {
    let node = Node::new();
    let container = node.container("c1");
    container.ip("link set lo up\n");
    let server = HttpServer::start(&container, 80, "inside");
    assert_eq!(http_get(&container, "http://127.0.0.1/").unwrap().text, "inside");
    node.ip("link add here type veth peer name there netns c1\n");
    drop(server);
    container.delete();
    testnode::until("the cable is gone", std::time::Duration::from_secs(5), || {
        (!node.try_run(["ip", "link", "show", "here"]).is_success()).then_some(())
    });
}

#[test]
fn a_datagram_is_answered_and_a_lost_one_is_not() {
    let node = Node::new();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let server = UdpServer::start(&outside, 5353, "outside");
    let client = UdpClient::v4(&node, 4000);
    for _ in 0..2 {
        let answer = client.ask((outside.v4(), 5353)).unwrap();
        assert_eq!(answer.text, "outside");
        assert_eq!(answer.from, SocketAddr::new(outside.node_v4(), 4000));
    }
    let answer = UdpClient::v6(&node, 0).ask((outside.v6(), 5353)).unwrap();
    assert_eq!(answer.from.ip(), outside.node_v6());
    assert_eq!(server.peers().len(), 3);
    assert!(client.ask((outside.v4(), 5354)).is_err());
}

#[test]
fn a_transfer_is_measured_at_the_rate_of_the_bucket() {
    let node = Node::new();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let sink = Sink::start(&node, 5001);
    let back = Sink::start(&outside, 5001);
    let shape = |rate: u64, burst: u64| {
        outside.run([
            "tc",
            "qdisc",
            "replace",
            "dev",
            "eth0",
            "root",
            "tbf",
            "rate",
            &format!("{rate}bit"),
            "burst",
            &burst.to_string(),
            "latency",
            "25ms",
        ]);
    };
    for (rate, burst, to) in [
        (8_000_000, 20_000, outside.node_v6()),
        (8_000_000, 500_000, outside.node_v4()),
        (200_000_000, 1_000_000, outside.node_v4()),
    ] {
        shape(rate, burst);
        assert_rate(&outside, SocketAddr::new(to, 5001), &sink, rate, burst);
    }
    let to = SocketAddr::new(outside.v4(), 5001);
    let free = throughput(&node, to, &back, Measure::default());
    assert!(free > 400e6, "only {free:.0} bit/s against the direction that is shaped");
}

#[test]
#[should_panic(expected = "not 12000000 within 10 %")]
fn a_rate_that_is_measured_wrong_fails_the_test() {
    let node = Node::new();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    let sink = Sink::start(&node, 5001);
    let tbf = "tc qdisc add dev eth0 root tbf rate 8mbit burst 100000 latency 25ms";
    outside.run(tbf.split_whitespace());
    let to = SocketAddr::new(outside.node_v4(), 5001);
    assert_rate(&outside, to, &sink, 12_000_000, 100_000);
}
