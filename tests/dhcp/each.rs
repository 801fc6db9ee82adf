//! The daemon beside each server: a lease's life, and many at once.

use std::collections::HashSet;
use std::thread;

use serde_json::json;
use testnode::dhcp::{Family, Pool, Program};
use testnode::{Container, Node, Output, until};

use crate::PATIENCE;
use crate::lan::{Lan, address, await_address, list, short};

const MANY: u8 = 200;

/// A lease is got, with all that goes with it, renewed, kept over the daemon's death and over the server's, and given back when the
/// container is gone.
fn a_lease_lives(program: Program) {
    let node = Node::new();
    // dnsmasq takes no shorter lease, and no shorter times.
    let mut lan = Lan::with(&node, program, short(120, [3, 6]));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let catena = lan.catena();
    let result = catena.add(&list(), &pod);
    let address = address(&result);
    let route = |dst, gw| json!({ "dst": dst, "gw": gw, "mtu": 1400 });
    let routes = [route("10.9.0.0/16", "10.7.0.3"), route("0.0.0.0/0", "10.7.0.1")];
    assert_eq!(result["routes"], json!(routes));
    assert_eq!(result["dns"], json!({ "nameservers": ["10.7.0.2"], "domain": "example.org" }));
    assert!(pod.run(["ip", "route"]).contains("10.9.0.0/16 via 10.7.0.3 dev eth0 mtu 1400"));
    lan.await_granted(&address, 3);
    daemon.kill();
    daemon = lan.daemon();
    daemon.await_log(&format!("{address} is confirmed"));
    lan.await_granted(&address, lan.server.granted(&address) + 1);
    lan.server.stop();
    daemon.await_log(&format!("{address} is not extended yet"));
    lan.server.resume();
    lan.await_granted(&address, lan.server.granted(&address) + 1);
    await_address(&pod, Some(&address));
    catena.check(&list(), &pod);
    assert!(!daemon.log().contains("is lost"), "{}", daemon.log());
    // The kernel has not even begun to take its devices away.
    let path = pod.path().to_owned();
    pod.delete();
    let gone = testnode::Netns::at("gone", path);
    catena.del(&list(), &gone);
    lan.await_released(&address);
}

/// Many containers at once have a lease each, which the next daemon takes up and DEL gives back.
fn many_have_a_lease_each(program: Program) {
    let node = Node::new();
    let lan = Lan::with(&node, program, Pool { addresses: MANY, ..Pool::new(Family::V4) });
    let mut daemon = lan.daemon();
    let list = node.json_file("leased.conflist", &list());
    let pods: Vec<_> = (0..MANY).map(|n| node.container(&format!("pod{n}"))).collect();
    let catena = lan.catena();
    let at_once = |verb: &str, pods: &[Container]| -> Vec<Output> {
        let (catena, list) = (&catena, &list);
        thread::scope(|scope| {
            let run = |pod: &Container| {
                let words = [verb.as_ref(), list.as_os_str(), pod.path().as_os_str()];
                let run = catena.cmd(words);
                scope.spawn(|| run.output())
            };
            let running: Vec<_> = pods.iter().map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let leased: Vec<_> =
        at_once("add", &pods).into_iter().map(|out| address(&out.json())).collect();
    assert_eq!(leased.iter().collect::<HashSet<_>>().len(), usize::from(MANY));
    // All of them are taken up again.
    daemon.kill();
    let daemon = lan.daemon();
    until("all are confirmed", PATIENCE, || {
        (daemon.log().matches("is confirmed").count() == usize::from(MANY)).then_some(())
    });
    // Nobody answers a RELEASE, so nobody repeats it where the server's socket is full.
    for some in pods.chunks(25) {
        at_once("del", some).into_iter().for_each(|out| drop(out.success()));
    }
    for address in leased {
        lan.await_released(&address);
    }
}

#[test]
fn a_lease_of_dnsmasq_lives() {
    a_lease_lives(Program::Dnsmasq);
}

#[test]
fn a_lease_of_kea_lives() {
    a_lease_lives(Program::Kea);
}

#[test]
fn a_lease_of_dhcpd_lives() {
    a_lease_lives(Program::Isc);
}

#[test]
fn two_hundred_attachments_at_once_have_a_lease_of_dnsmasq_each() {
    many_have_a_lease_each(Program::Dnsmasq);
}

#[test]
fn two_hundred_attachments_at_once_have_a_lease_of_kea_each() {
    many_have_a_lease_each(Program::Kea);
}

#[test]
fn two_hundred_attachments_at_once_have_a_lease_of_dhcpd_each() {
    many_have_a_lease_each(Program::Isc);
}
