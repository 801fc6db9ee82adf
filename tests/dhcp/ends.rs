//! How leases end: with DEL, with the namespace, and with whoever asked for them.

use std::io::Write;
use std::os::unix::net::UnixStream;

use testnode::dhcp::Program;
use testnode::{Node, until};

use crate::lan::{Daemon, Lan, address, list, short, state};
use crate::{PATIENCE, SOCKET};

#[test]
fn del_after_the_namespace_is_gone_gives_the_lease_back() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let path = pod.path().to_owned();
    let address = address(&lan.catena().add(&list(), &pod));
    pod.delete();
    lan.catena().try_del(&list(), &path).success();
    lan.await_released(&address);
    assert_eq!(lan.server.released(&address), 1, "{}", daemon.log());
    lan.catena().try_del(&list(), &path).success();
}

#[test]
fn a_namespace_that_disappears_without_del_ends_its_lease() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = lan.daemon();
    let [one, two] = ["one", "two"].map(|name| node.container(name));
    let [gone, stays] = [&one, &two].map(|pod| address(&lan.catena().add(&list(), pod)));
    one.delete();
    lan.await_released(&gone);
    daemon.await_log("is gone without DEL");
    assert_eq!(lan.server.released(&stays), 0);
    assert_eq!(state(&two, "eth0").0, [stays]);
}

#[test]
fn a_namespace_that_disappears_while_its_server_is_silent_is_not_held() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(3600, [2, 3000]));
    // It waits for each answer for longer than this test for anything.
    let daemon = Daemon::catenas(&node, &["-timeout", "10m"]);
    let pod = node.container("pod");
    lan.catena().add(&list(), &pod);
    lan.server.stop();
    let veths = || node.json(["ip", "-json", "link", "show", "type", "veth"]);
    let count = |shown: serde_json::Value| shown.as_array().unwrap().len();
    let before = count(veths());
    until("the server is asked in vain", PATIENCE, || (!daemon.abroad().is_empty()).then_some(()));
    pod.delete();
    daemon.await_log("is gone without DEL");
    until("nothing is open that leads into the pod", PATIENCE, || {
        daemon.abroad().is_empty().then_some(())
    });
    until("the pod's devices are gone", PATIENCE, || (count(veths()) < before).then_some(()));
}

#[test]
fn without_the_bridge_the_lease_is_given_back_by_the_hosts_routes() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    node.ip("link del cni1\naddr add 10.7.0.2/24 dev lan\n");
    pod.delete();
    lan.await_released(&address);
}

#[test]
fn an_interface_that_disappears_without_del_ends_its_lease_when_it_is_to_be_renewed() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, short(3600, [2, 3000]));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    pod.ip("link del eth0\n");
    daemon.await_log("its interface is gone without DEL");
    lan.await_released(&address);
}

#[test]
fn an_add_that_is_killed_while_it_waits_leaves_nothing() {
    let node = Node::new();
    // A bridge without a server.
    node.ip("link add cni1 type bridge\nlink set cni1 up\n");
    let daemon = Daemon::catenas(&node, &[]);
    let pod = node.container("pod");
    let list = node.json_file("leased.conflist", &list());
    let catena = testnode::Catena::new(&node, crate::CATENA);
    let add = catena.cmd(["add".as_ref(), list.as_os_str(), pod.path().as_os_str()]);
    let mut add = add.spawn(node.fresh_path("add.log"));
    daemon.await_log("a lease is asked for");
    // The plugin is gone: what it asked for is given up.
    add.kill();
    daemon.await_log("whoever asked for the lease is gone");
}

#[test]
fn a_plugin_that_does_not_speak_keeps_nobody_waiting() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let mut silent: Vec<_> = (0..5).map(|_| UnixStream::connect(SOCKET).unwrap()).collect();
    for (stream, text) in
        silent.iter_mut().zip(["GET / HTTP/1.0\n\n", "CONNECT /_goRPC_ HTTP/1.0\n\n\x7f", "no"])
    {
        stream.write_all(text.as_bytes()).unwrap();
    }
    let pod = node.container("pod");
    lan.catena().add(&list(), &pod);
}
