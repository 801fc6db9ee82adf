//! A daemon may hang, and nothing is ever done twice.

use std::thread;

use nix::sys::signal::Signal;
use testnode::{Node, Scripts, assert_same, until};

use super::{Gated, Plugin, SOON, shared, start};

#[test]
fn a_call_that_a_hanging_daemon_has_not_begun_is_done_by_the_plugin_alone() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let scripts = Scripts::new(&node);
    scripts.plugin("pass", "[ $CNI_COMMAND != ADD ] || printf %s \"$prev\"");
    let plugin = Plugin::new(&node, &scripts, &["pass"]);
    let before = node.snapshot();
    let daemon = start(&node, &[]);
    daemon.signal(Signal::SIGSTOP);
    let added = plugin.call("ADD", &c1);
    assert!(added.stderr.contains("no answer from the daemon"), "{added}");
    added.success();
    daemon.signal(Signal::SIGCONT);
    // Its turn comes before this one's.
    until("the daemon has looked at the call", SOON, || {
        daemon.log().contains("the plugin has not waited").then_some(())
    });
    plugin.add(&c2);
    assert_eq!(scripts.calls(), ["ADD pass", "ADD pass"]);
    assert_eq!((daemon.served("ADD", 0), daemon.served("ADD", 999)), (1, 0));
    plugin.call("CHECK", &c1).success();
    plugin.del(&c1);
    plugin.del(&c2);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_call_that_a_hanging_daemon_is_at_work_on_fails_and_names_the_daemon() {
    let node = Node::new();
    let gated = Gated::new(&node);
    let Gated { c1, scripts, gate, plugin, .. } = &gated;
    let daemon = start(&node, &[]);
    thread::scope(|scope| {
        let add = scope.spawn(|| {
            let run = plugin.cmd("ADD", c1).env("CATENA_LOCK_TIMEOUT", "0.3");
            testnode::PluginOutput::from(run.output())
        });
        gate.await_begun();
        daemon.signal(Signal::SIGSTOP);
        let add = add.join().unwrap();
        assert_eq!(add.error_code(), 11, "{add}");
        let who = format!("held by process {} ", daemon.process.pid());
        assert!(add.error_text().contains(&who), "{who}: {add}");
        daemon.signal(Signal::SIGCONT);
        gate.open();
    });
    until("the daemon is through", SOON, || (daemon.served("ADD", 0) == 1).then_some(()));
    plugin.del(c1);
    assert_eq!(scripts.calls(), ["ADD gate", "DEL gate"]);
    gated.assert_as_before();
}

#[test]
fn the_answer_of_a_daemon_that_hung_for_a_while_is_taken() {
    let node = Node::new();
    let gated = Gated::new(&node);
    let Gated { c1, scripts, gate, plugin, .. } = &gated;
    let daemon = start(&node, &[]);
    let log = node.fresh_path("add.log");
    let mut add = plugin.cmd("ADD", c1).spawn(&log);
    gate.await_begun();
    daemon.signal(Signal::SIGSTOP);
    until("the plugin waits for the lock", SOON, || {
        add.log().contains("no answer from the daemon").then_some(())
    });
    daemon.signal(Signal::SIGCONT);
    gate.open();
    assert_eq!(add.wait(SOON), 0, "{}", add.log());
    assert!(add.log().contains("10.1.0."), "{}", add.log());
    assert_eq!(scripts.calls(), ["ADD gate"]);
    plugin.del(c1);
}
