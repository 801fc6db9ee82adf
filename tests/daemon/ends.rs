//! A daemon may end at any time.

use std::{os::unix::fs::PermissionsExt, path::Path, thread};

use nix::sys::signal::Signal;
use testnode::{Node, Scripts, until};

use super::{Gated, Plugin, SOON, start};

#[test]
fn an_add_whose_daemon_is_killed_is_done_by_the_plugin() {
    let node = Node::new();
    let gated = Gated::new(&node);
    let Gated { c1, gate, plugin, .. } = &gated;
    let mut daemon = start(&node, &[]);
    thread::scope(|scope| {
        let add = scope.spawn(|| plugin.add(c1));
        gate.await_begun();
        daemon.process.kill();
        add.join().unwrap();
    });
    plugin.call("CHECK", c1).success();
    plugin.del(c1);
    gated.assert_as_before();
}

#[test]
fn a_del_removes_what_a_killed_daemon_and_a_killed_plugin_have_left() {
    let node = Node::new();
    let gated = Gated::new(&node);
    let Gated { c1, gate, plugin, .. } = &gated;
    for next in [true, false] {
        let mut daemon = start(&node, &[]);
        let mut add = plugin.cmd("ADD", c1).spawn(node.fresh_path("add.log"));
        gate.await_begun();
        add.kill();
        daemon.process.kill();
        assert_ne!(gated.before, node.snapshot(), "the ADD had not begun");
        let next = next.then(|| start(&node, &[]));
        plugin.del(c1);
        assert_eq!(next.map_or(1, |next| next.served("DEL", 0)), 1);
        gated.assert_as_before();
        std::fs::remove_dir(&gate.begun).unwrap();
    }
}

#[test]
fn a_daemon_that_is_told_to_stop_ends_what_it_began_and_takes_nothing_new() {
    let node = Node::new();
    let c2 = node.container("c2");
    let gated = Gated::new(&node);
    let Gated { c1, gate, plugin, .. } = &gated;
    let mut daemon = start(&node, &[]);
    thread::scope(|scope| {
        let add = scope.spawn(|| plugin.call("ADD", c1));
        gate.await_begun();
        daemon.signal(Signal::SIGTERM);
        let socket = Path::new("/run/catena/catena.sock");
        until("the socket is gone", SOON, || (!socket.exists()).then_some(()));
        assert_eq!(daemon.page("readyz").unwrap(), "takes no calls\n");
        let other = plugin.call("ADD", &c2);
        assert!(other.stderr.contains("without the daemon"), "{other}");
        other.success();
        daemon.process.assert_alive();
        gate.open();
        let add = add.join().unwrap();
        assert!(!add.stderr.contains("no answer"), "{add}");
        add.success();
    });
    assert_eq!(daemon.process.wait(SOON), 0, "{}", daemon.log());
    plugin.del(c1);
    plugin.del(&c2);
    gated.assert_as_before();
}

#[test]
fn a_daemon_that_is_told_to_stop_does_not_wait_for_ever() {
    let node = Node::new();
    let gated = Gated::new(&node);
    let Gated { c1, scripts, gate, plugin, .. } = &gated;
    let mut daemon = start(&node, &["--drain", "0"]);
    thread::scope(|scope| {
        // The plugin does it anew.
        let add = scope.spawn(|| plugin.add(c1));
        gate.await_begun();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.process.wait(SOON), 0, "{}", daemon.log());
        add.join().unwrap();
    });
    assert!(daemon.log().contains("still at work"), "{}", daemon.log());
    assert_eq!(scripts.calls(), ["ADD gate", "DEL gate", "ADD gate"]);
    plugin.del(c1);
}

#[test]
fn one_daemon_serves_a_node_and_its_successor_takes_over_what_it_left() {
    let node = Node::new();
    let mut first = start(&node, &[]);
    let socket = Path::new("/run/catena/catena.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let second = node.cmd([super::CATENA, "daemon"]).output().failure();
    let who = format!("held by process {}", first.process.pid());
    assert!(second.stderr.contains("another daemon serves this node"), "{second}");
    assert!(second.stderr.contains(&who), "{second}");
    first.process.kill();
    assert!(socket.exists(), "killed, it leaves its socket");
    let third = start(&node, &[]);
    let plugin = Plugin::new(&node, &Scripts::new(&node), &[]);
    let c1 = node.container("c1");
    plugin.add(&c1);
    assert_eq!(third.served("ADD", 0), 1);
}
