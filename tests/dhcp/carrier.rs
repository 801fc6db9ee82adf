//! Interfaces without a carrier, and those that get one.

use delegates::ipam::dhcp::{result, rpc};
use testnode::dhcp::Program;
use testnode::{Container, Node, until};

use crate::PATIENCE;
use crate::lan::{Lan, address, list, short};
use crate::protocol::{self, Client};

/// How many containers the daemon visits at once.
const VISITS: usize = 16;

#[test]
fn attachments_without_a_carrier_keep_no_other_from_its_lease() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = lan.daemon();
    let unplugged: Vec<_> = (0..3 * VISITS)
        .map(|n| {
            let pod = node.container(&format!("pod{n}"));
            pod.ip("link add eth0 type veth peer name other\nlink set eth0 up\n");
            pod
        })
        .collect();
    let ask = |pods: &[Container]| {
        let mut client = Client::connect();
        (1..).zip(pods).for_each(|(number, pod)| client.begin(number, rpc::ALLOCATE, pod));
        client
    };
    let _clients: Vec<_> = unplugged.chunks(VISITS).map(ask).collect();
    until("all of them ask", PATIENCE, || {
        let all = daemon.log().matches("a lease is asked for").count() == unplugged.len();
        all.then_some(())
    });
    lan.catena().add(&list(), &node.container("pod"));
    // One that had to wait for its turn would have got it after two rounds of these.
    let gave_up = daemon.log().matches("has no carrier").count();
    assert!(gave_up < 2 * VISITS, "{gave_up}\n{}", daemon.log());
    daemon.await_log("pod0/eth0: eth0 has no carrier; servers are asked all the same");
}

#[test]
fn a_lease_is_given_back_from_an_interface_that_is_down() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = protocol::pod(&node, "veth1");
    let mut client = Client::connect();
    client.begin(1, rpc::ALLOCATE, &pod);
    let leased = result::of(&client.answer().unwrap().1.unwrap()).unwrap();
    // What is sent before the other end is there is lost.
    node.ip("link set veth1 down\n");
    pod.ip("link set eth0 down\n");
    client.begin(2, rpc::RELEASE, &pod);
    until("it is set up", PATIENCE, || pod.run(["ip", "link"]).contains(",UP").then_some(()));
    node.ip("link set veth1 up\n");
    assert_eq!(client.answer().unwrap().0, 2);
    lan.await_released(&leased.ips[0].address.addr().to_string());
}

#[test]
fn a_lease_is_renewed_on_an_interface_that_is_down() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, short(3600, [2, 3000]));
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    pod.ip("link set eth0 down\n");
    lan.await_granted(&address, lan.server.granted(&address) + 1);
}
