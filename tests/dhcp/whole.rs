//! What a lease gives an interface is put back where it was lost, and stays away where others have taken it.

use std::fs;

use serde_json::{Value, json};
use testnode::dhcp::{Pool, Program};
use testnode::{Container, Node, until};

use crate::PATIENCE;
use crate::lan::{Daemon, Lan, address, await_address, list, short, state};

const RECORDS: &str = "/var/lib/catena/dhcp/run-cni-dhcp.sock";
const PODS: &str = "/var/lib/catena/pods";

/// Leases are renewed every two seconds.
fn renewed() -> Pool {
    short(3600, [2, 3000])
}

/// The only record there is.
fn record() -> Value {
    let file = fs::read_dir(RECORDS).unwrap().next().unwrap().unwrap();
    serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap()
}

fn await_look() {
    until("the interface was looked at", PATIENCE, || record().get("without").cloned());
}

/// Another daemon in the place of one that is gone, once it has looked at what there is.
fn restarted(lan: &Lan<'_>, mut daemon: Daemon) -> Daemon {
    daemon.kill();
    let daemon = lan.daemon();
    await_look();
    daemon
}

#[track_caller]
fn await_route(pod: &Container, route: &str) {
    until(&format!("{route} is there"), PATIENCE, || {
        state(pod, "eth0").1.contains(route).then_some(())
    });
}

#[test]
fn routes_that_went_with_a_link_that_was_down_come_back_with_a_renewal() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    await_look();
    let before = state(&pod, "eth0");
    pod.ip("link set eth0 down\nlink set eth0 up\n");
    until("all is as it was", PATIENCE, || (state(&pod, "eth0") == before).then_some(()));
    let routes = "the route to 10.9.0.0/16, the route to 0.0.0.0/0";
    daemon.await_log(&format!("eth0 had lost {routes}, and has it again"));
    pod.ip("addr flush dev eth0\n");
    until("all is as it was", PATIENCE, || (state(&pod, "eth0") == before).then_some(()));
    daemon.await_log(&format!("eth0 had lost {address}/24, {routes}, and has it again"));
    lan.catena().check(&list(), &pod);
}

#[test]
fn what_an_interface_loses_while_no_daemon_runs_comes_back_with_the_next_one() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    let mut daemon = restarted(&lan, daemon);
    daemon.kill();
    pod.ip("addr flush dev eth0\nlink set eth0 down\n");
    let _daemon = lan.daemon();
    await_address(&pod, Some(&address));
    await_route(&pod, "10.9.0.0/16 via 10.7.0.3");
    pod.ping("10.7.0.1");
}

/// It is on record for the next daemon, which begins with the server there or away.
fn what_is_left_goes_alone(is_served: bool) {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    let mut daemon = restarted(&lan, daemon);
    daemon.kill();
    let before = state(&pod, "eth0");
    // The kernel takes all that are later in its subnet with it.
    pod.ip(&format!(
        "addr flush dev eth0\naddr add 10.7.0.99/24 dev eth0\naddr add {address}/24 dev eth0\n"
    ));
    let path = fs::read_dir(RECORDS).unwrap().next().unwrap().unwrap().path();
    let mut known = record();
    known["left"] = json!({ "ips": [{ "address": "10.7.0.99/24" }] });
    fs::write(path, known.to_string()).unwrap();
    if !is_served {
        lan.server.stop();
    }
    let daemon = Daemon::catenas(&node, &["-timeout", "1s"]);
    until("all is as it was", PATIENCE, || (state(&pod, "eth0") == before).then_some(()));
    let confirmed = if is_served { "is confirmed" } else { "is not confirmed yet" };
    daemon.await_log(&format!("{address} {confirmed}"));
    daemon.await_log("what was left of the lease of 10.7.0.99/24 is off the interface");
    until("it is off the record", PATIENCE, || record().get("left").is_none().then_some(()));
}

#[test]
fn an_address_that_is_left_of_an_earlier_lease_goes_and_takes_nothing_of_this_one_with_it() {
    what_is_left_goes_alone(true);
}

#[test]
fn an_address_that_is_left_of_an_earlier_lease_goes_while_the_server_is_away() {
    what_is_left_goes_alone(false);
}

#[test]
fn a_route_that_others_have_taken_away_before_the_first_look_stays_away() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    lan.catena().add(&list(), &pod);
    pod.ip("route del default\n");
    let daemon = restarted(&lan, daemon);
    daemon.await_log("eth0 has no route to 0.0.0.0/0: it stays without");
    pod.ip("link set eth0 down\nlink set eth0 up\n");
    await_route(&pod, "10.9.0.0/16 via 10.7.0.3");
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("default"), "{routes}");
}

#[test]
fn a_default_route_that_is_another_networks_by_now_stays_away() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    lan.catena().add(&list(), &pod);
    let _daemon = restarted(&lan, daemon);
    let dhcp = record();
    let (container, network) = (&dhcp["containerId"], &dhcp["network"]);
    // As the pod's annotation has it.
    let one = json!({
        "name": "default/leased", "role": "selected", "network": network, "ifname": "eth0", "conf": {},
        "capabilityArgs": {}, "args": "",
        "putAway": { "families": [true, false], "kernel": [], "result": [] },
    });
    let of_pod = json!({
        "format": 1, "network": "pods", "containerID": container, "ifname": "eth0", "scope": "catena", "netns": null,
        "netnsID": null, "boot": "", "args": "", "attachments": [one],
    });
    fs::create_dir_all(PODS).unwrap();
    let name = format!("{}@eth0:pods.json", container.as_str().unwrap());
    let path = format!("{PODS}/{name}");
    fs::write(&path, of_pod.to_string()).unwrap();
    pod.ip("link set eth0 down\nlink set eth0 up\n");
    await_route(&pod, "10.9.0.0/16 via 10.7.0.3");
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("default"), "{routes}");
    fs::remove_file(&path).unwrap();
    await_route(&pod, "default via 10.7.0.1");
}

#[test]
fn an_interface_that_is_renamed_is_followed() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    let daemon = restarted(&lan, daemon);
    pod.ip("link set eth0 down\nlink set eth0 name other\nlink set other up\n");
    // Another one by the old name is not its own.
    pod.ip("link add eth0 type bridge\n");
    lan.await_granted(&address, lan.server.granted(&address) + 2);
    await_route(&pod, "10.9.0.0/16 via 10.7.0.3 dev other");
    assert_eq!(state(&pod, "other").0, [address]);
    assert_eq!(state(&pod, "eth0").0.len(), 0);
    assert!(!daemon.log().contains("is gone"), "{}", daemon.log());
}

#[test]
fn an_interface_that_is_made_a_port_of_a_bridge_gets_no_address_back() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, renewed());
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    let mut daemon = restarted(&lan, daemon);
    daemon.kill();
    // As KubeVirt does it: the virtual machine has the address.
    pod.ip("link add vm type bridge\naddr flush dev eth0\nlink set eth0 master vm\n");
    let daemon = Daemon::catenas(&node, &["-timeout", "1s"]);
    daemon.await_log(&format!("{address} is not confirmed yet"));
    // It was looked at in between.
    daemon.await_log(&format!("{address} is not extended yet"));
    assert_eq!(state(&pod, "eth0").0.len(), 0);
    assert!(!daemon.log().contains("had lost"), "{}", daemon.log());
}
