//! What a daemon takes at once has a limit.

use std::{fs, thread};

use testnode::{Node, Scripts, assert_same, until};

use super::{Gate, Plugin, SOON, shared, start};

#[test]
fn beyond_what_may_wait_the_runtime_is_told_to_try_again() {
    let node = Node::new();
    let containers: Vec<_> = ["c1", "c2", "c3"].map(|name| node.container(name)).into();
    let scripts = Scripts::new(&node);
    let gate = Gate::new(&node, &scripts);
    let plugin = Plugin::new(&node, &scripts, &["gate"]);
    let before = node.snapshot();
    let daemon = start(&node, &["--at-once", "1", "--waiting", "1"]);
    thread::scope(|scope| {
        let first = scope.spawn(|| plugin.add(&containers[0]));
        gate.await_begun();
        let second = scope.spawn(|| plugin.add(&containers[1]));
        until("the second waits", SOON, || {
            (daemon.metric("catena_requests_taken") == 2).then_some(())
        });
        assert_eq!(daemon.metric("catena_requests_at_work"), 1);
        let third = plugin.call("ADD", &containers[2]);
        assert_eq!(third.error_code(), 11, "{third}");
        assert!(third.error_text().contains("try again"), "{third}");
        gate.open();
        first.join().unwrap();
        second.join().unwrap();
    });
    assert_eq!((daemon.served("ADD", 0), daemon.served("ADD", 11)), (2, 1));
    containers.iter().for_each(|container| plugin.del(container));
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_call_that_takes_long_keeps_no_other_waiting() {
    let node = Node::new();
    let [c1, c2] = ["c1", "c2"].map(|name| node.container(name));
    let scripts = Scripts::new(&node);
    let gate = Gate::new(&node, &scripts);
    let plugin = Plugin::new(&node, &scripts, &["gate"]);
    let daemon = start(&node, &["--at-once", "1"]);
    let add = |container| plugin.cmd("ADD", container).spawn(node.fresh_path("add.log"));
    let mut first = add(&c1);
    gate.await_begun();
    assert_eq!(add(&c2).wait(SOON), 0);
    assert_eq!(daemon.served("ADD", 0), 1);
    assert_eq!(daemon.metric("catena_requests_taken"), 1);
    assert_eq!(daemon.metric("catena_requests_at_work"), 0);
    gate.open();
    assert_eq!(first.wait(SOON), 0);
    assert_eq!(daemon.served("ADD", 0), 2);
}

#[test]
fn what_many_calls_at_once_took_of_the_memory_is_given_back() {
    let node = Node::new();
    let containers: Vec<_> = (0..32).map(|n| node.container(&format!("c{n}"))).collect();
    let scripts = Scripts::new(&node);
    let open = node.fresh_path("open");
    let wait = format!("while [ ! -e {} ]; do sleep 0.1; done", open.display());
    scripts
        .plugin("wait", &format!("[ $CNI_COMMAND != ADD ] || {{ {wait}; printf %s \"$prev\"; }}"));
    let plugin = Plugin::new(&node, &scripts, &["wait"]);
    let daemon = start(&node, &[]);
    let kept = || {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap()
    };
    let most = thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| plugin.add(container));
        }
        until("all are at work", SOON, || (scripts.calls().len() == 32).then_some(()));
        let most = kept();
        fs::write(&open, "").unwrap();
        most
    });
    until("half of it is given back", 2 * SOON, || (kept() < most / 2).then_some(()));
}
