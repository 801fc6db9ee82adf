//! `catena daemon` is the DHCP daemon, too.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use testnode::{Attachment, Node, NodeDaemon, Plugins, Runtime, links, until};

use crate::lan::{self, Lan, address, list, list_with};
use crate::{CATENA, PATIENCE, SOCKET};

/// The network in a chain of the meta plugin, whose calls the daemon serves.
fn chain() -> serde_json::Value {
    let plugins = list()["plugins"].clone();
    json!({ "cniVersion": "1.1.0", "name": "leased", "plugins": [{ "type": "catena", "plugins": plugins }] })
}

fn await_socket(path: impl AsRef<Path>) {
    until("the DHCP daemon listens", PATIENCE, || UnixStream::connect(&path).ok());
}

#[test]
fn the_node_daemon_keeps_leases_and_takes_them_up_again_after_it_was_killed() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = NodeDaemon::start(&node, CATENA, &[]);
    await_socket(SOCKET);
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["catena"])]);
    let runtime = Runtime::new(plugins, chain());
    let pod = node.container("pod");
    let attachment = Attachment::new(&pod);
    let address = address(&runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}")));
    assert_eq!(daemon.served("ADD", 0), 1);
    pod.ping("10.7.0.1");
    daemon.process.kill();
    let mut daemon = NodeDaemon::start(&node, CATENA, &[]);
    until("the lease is confirmed", PATIENCE, || {
        daemon.log().contains(&format!("{address} is confirmed")).then_some(())
    });
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    lan.await_released(&address);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.process.wait(PATIENCE), 0, "{}", daemon.log());
    assert!(!Path::new(SOCKET).exists());
}

#[test]
fn with_a_folder_of_its_own_the_socket_is_there_and_the_plugin_finds_it() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let dir = node.fresh_path("run");
    let _daemon = NodeDaemon::start_in(&node, CATENA, &dir, &[]);
    await_socket(dir.join("dhcp.sock"));
    let pod = node.container("pod");
    let text = lan.catena().try_add(&list(), &pod).failure().stderr;
    assert!(text.contains("no DHCP daemon listens on /run/cni/dhcp.sock"), "{text}");
    let catena = lan.catena().env("CATENA_RUN_DIR", &dir);
    let address = address(&catena.add(&list(), &pod));
    catena.del(&list(), &pod);
    lan.await_released(&address);
}

#[test]
fn another_daemon_at_the_socket_is_left_alone_until_it_is_gone() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut reference = lan.reference();
    let daemon = NodeDaemon::start(&node, CATENA, &[]);
    let said = "another DHCP daemon answers on /run/cni/dhcp.sock";
    until(said, PATIENCE, || daemon.log().contains(said).then_some(()));
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    assert!(reference.log().contains("acquired") || lan.server.granted(&first) > 0);
    let records = "/var/lib/catena/dhcp";
    assert!(!Path::new(records).exists(), "the lease is the other daemon's");
    reference.kill();
    until("the node's daemon serves", PATIENCE, || {
        daemon.log().contains("serving DHCP").then_some(())
    });
    assert_eq!(daemon.log().matches(said).count(), 1);
    let other = node.container("other");
    let address = address(&lan.catena().add(&list(), &other));
    assert_eq!(fs::read_dir(Path::new(records).join("run-cni-dhcp.sock")).unwrap().count(), 1);
    lan.catena().del(&list(), &other);
    lan.await_released(&address);
}

#[test]
fn the_socket_is_where_the_flag_says_or_nowhere() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = NodeDaemon::start(&node, CATENA, &["--no-dhcp"]);
    drop(daemon);
    assert!(!Path::new("/run/cni").exists());
    let socket = node.fresh_path("dhcp.sock");
    let _daemon = NodeDaemon::start(&node, CATENA, &["--dhcp-socket", socket.to_str().unwrap()]);
    await_socket(&socket);
    let pod = node.container("pod");
    lan.catena().add(&list_with(json!({ "daemonSocketPath": socket })), &pod);
    for wrong in [&["--dhcp-socket", "dhcp.sock"][..], &["--dhcp-socket", "/run/x", "--no-dhcp"]] {
        let text = lan.catena().cmd(["daemon"]).args(wrong).output().failure().stderr;
        assert!(text.contains("--dhcp-socket"), "{text}");
    }
}

#[test]
fn a_socket_that_somebody_removes_is_made_anew_and_the_leases_stay() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = NodeDaemon::start(&node, CATENA, &[]);
    await_socket(SOCKET);
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    fs::remove_file(SOCKET).unwrap();
    await_socket(SOCKET);
    assert!(daemon.log().contains("/run/cni/dhcp.sock was removed"), "{}", daemon.log());
    assert_eq!(lan.server.released(&address), 0);
    lan.catena().check(&list(), &pod);
    lan.catena().del(&list(), &pod);
    lan.await_released(&address);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.process.wait(PATIENCE), 0, "{}", daemon.log());
    assert!(!Path::new(SOCKET).exists());
}

#[test]
fn a_daemon_that_systemd_starts_at_the_same_path_takes_the_leases_over() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = NodeDaemon::start(&node, CATENA, &[]);
    await_socket(SOCKET);
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    // As systemd does it with a socket that is there already.
    fs::remove_file(SOCKET).unwrap();
    let run =
        node.cmd(["systemd-socket-activate", "--listen", SOCKET, "--setenv=CATENA_LOG=debug"]);
    let run = run.args([lan::program(&node).as_os_str(), "daemon".as_ref()]);
    let other = run.spawn(node.fresh_path("dhcp.log"));
    await_socket(SOCKET);
    let confirmed = format!("{first} is confirmed");
    until(&confirmed, PATIENCE, || other.log().contains(&confirmed).then_some(()));
    assert_eq!(lan.server.released(&first), 0);
    let second = node.container("second");
    let second_has = address(&lan.catena().add(&list(), &second));
    for (pod, address) in [(pod, first), (second, second_has)] {
        lan.catena().del(&list(), &pod);
        lan.await_released(&address);
    }
    let said = "another DHCP daemon answers on /run/cni/dhcp.sock";
    until(said, PATIENCE, || daemon.log().contains(said).then_some(()));
}

#[test]
fn a_daemon_that_hangs_is_not_waited_for() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = NodeDaemon::start(&node, CATENA, &[]);
    await_socket(SOCKET);
    let pod = node.container("pod");
    lan.catena().add(&list(), &pod);
    daemon.signal(Signal::SIGSTOP);
    for out in [lan.catena().status(&list()), lan.catena().try_check(&list(), &pod)] {
        let text = out.failure().stderr;
        assert!(text.contains("/run/cni/dhcp.sock: it does not answer within 5 s"), "{text}");
    }
    daemon.signal(Signal::SIGCONT);
    lan.catena().check(&list(), &pod);
}

#[test]
fn servers_are_asked_to_broadcast_where_the_flag_says_so() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let neighbour = node.container("neighbour");
    node.ip(
        "link add veth1 type veth peer name eth0 netns neighbour\nlink set veth1 master cni1 up\n",
    );
    neighbour.ip("addr add 10.7.0.9/24 dev eth0\nlink set eth0 up\n");
    // Others hear what is broadcast.
    let hears = neighbour.enter(|| UdpSocket::bind("0.0.0.0:68").unwrap());
    hears.set_nonblocking(true).unwrap();
    let add = |name: &str, flags: &[&str]| {
        let _daemon = NodeDaemon::start(&node, CATENA, flags);
        await_socket(SOCKET);
        address(&lan.catena().add(&list(), &node.container(name)))
    };
    add("one", &[]);
    let mut message = [0; 1500];
    let nothing = hears.recv(&mut message).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    let leased: Ipv4Addr = add("two", &["--dhcp-broadcast"]).parse().unwrap();
    // The address that is offered (RFC 2131, figure 1); the daemon also asks whether it still has the first one.
    until("the answer is broadcast", PATIENCE, || {
        hears.recv(&mut message).is_ok_and(|_| message[16..20] == leased.octets()).then_some(())
    });
}
