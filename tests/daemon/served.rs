//! The daemon serves every verb, and plugin and daemon go on from what the other did.

use std::{path::Path, thread};

use serde_json::json;
use testnode::{
    HttpServer, Node, NodeDaemon, PluginOutput, Scripts, Snapshot, assert_same, http_get,
};

use super::{CATENA, Plugin, shared, start};

#[test]
fn every_verb_is_served_by_the_daemon_as_by_the_plugin() {
    let node = Node::new();
    let c1 = node.container("c1");
    let scripts = Scripts::new(&node);
    scripts.device("mark");
    let mut plugin = Plugin::new(&node, &scripts, &["mark"]);
    plugin.conf["runtimeConfig"] =
        json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] });
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let alone = plugin.add(&c1);
    plugin.del(&c1);

    let daemon = start(&node, &[]);
    let result = plugin.add(&c1);
    assert_eq!(result["dns"], alone["dns"]);
    let names = |result: &serde_json::Value| -> Vec<_> {
        let interfaces = result["interfaces"].as_array().unwrap().clone();
        interfaces.into_iter().map(|interface| interface["name"].clone()).collect()
    };
    assert_eq!(names(&result), names(&alone));
    let _server = HttpServer::start(&c1, 80, "page");
    assert_eq!(http_get(&node, "http://127.0.0.1:8080/").unwrap().text, "page");
    plugin.call("CHECK", &c1).success();
    plugin.call("STATUS", &c1).success();
    assert_eq!(plugin.call("ADD", &c1).error_code(), 999);
    plugin.del(&c1);
    plugin.del(&c1);
    for (verb, code, count) in
        [("ADD", 0, 1), ("ADD", 999, 1), ("CHECK", 0, 1), ("STATUS", 0, 1), ("DEL", 0, 2)]
    {
        assert_eq!(daemon.served(verb, code), count, "{verb} {code}");
    }
    assert_eq!(daemon.metric("catena_requests_refused_total"), 0);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &shared());
}

#[test]
fn plugin_and_daemon_go_on_from_what_the_other_did() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let scripts = Scripts::new(&node);
    let plugin = Plugin::new(&node, &scripts, &[]);
    let before = node.snapshot();
    plugin.add(&c1);
    let mut daemon = start(&node, &[]);
    plugin.add(&c2);
    plugin.call("CHECK", &c1).success();
    plugin.del(&c1);
    assert_eq!((daemon.served("ADD", 0), daemon.served("DEL", 0)), (1, 1));
    daemon.process.kill();
    plugin.call("CHECK", &c2).success();
    plugin.del(&c2);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn forty_at_once_are_attached_and_detached_by_one_daemon() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.plugin("pass", "[ $CNI_COMMAND != ADD ] || printf %s \"$prev\"");
    let plugin = Plugin::new(&node, &scripts, &["pass"]);
    let containers: Vec<_> = (0..40).map(|n| node.container(&format!("c{n}"))).collect();
    let before = node.snapshot();
    let daemon = start(&node, &[]);
    let addresses = thread::scope(|scope| {
        let adds: Vec<_> = containers
            .iter()
            .map(|container| scope.spawn(|| plugin.add(container)["ips"][0]["address"].to_string()))
            .collect();
        let mut addresses: Vec<_> = adds.into_iter().map(|add| add.join().unwrap()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    });
    assert_eq!((addresses.len(), daemon.served("ADD", 0)), (40, 40));
    thread::scope(|scope| {
        for container in &containers {
            scope.spawn(|| {
                plugin.call("CHECK", container).success();
                plugin.del(container);
            });
        }
    });
    assert_eq!((daemon.served("CHECK", 0), daemon.served("DEL", 0)), (40, 40));
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn two_calls_for_one_attachment_come_one_after_the_other() {
    let node = Node::new();
    let c1 = node.container("c1");
    let scripts = Scripts::new(&node);
    let gate = super::Gate::new(&node, &scripts);
    let plugin = Plugin::new(&node, &scripts, &["gate"]);
    let before = node.snapshot();
    let daemon = start(&node, &[]);
    thread::scope(|scope| {
        let add = scope.spawn(|| plugin.add(&c1));
        gate.await_begun();
        let del = scope.spawn(|| plugin.del(&c1));
        testnode::until("the DEL is there", super::SOON, || {
            (daemon.metric("catena_requests_at_work") == 2).then_some(())
        });
        gate.open();
        add.join().unwrap();
        del.join().unwrap();
    });
    assert_eq!(scripts.calls(), ["ADD gate", "DEL gate"]);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn several_daemons_run_on_one_machine_each_in_folders_of_its_own() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let scripts = Scripts::new(&node);
    let plugin = Plugin::new(&node, &scripts, &[]);
    let (run, state) = (node.fresh_path("run"), node.fresh_path("state"));
    let first = start(&node, &[]);
    let state_dir = state.display().to_string();
    let second = NodeDaemon::start_in(&node, CATENA, &run, &["--state-dir", &state_dir]);
    assert_eq!(second.page("readyz").as_deref(), Some("ok\n"));
    plugin.add(&c1);
    // A plugin that has the second one's folders at their usual places.
    let there = format!(
        "mount --bind {} /run/catena; mount --bind {state_dir} /var/lib/catena; exec {CATENA}",
        run.display()
    );
    let argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &there];
    let call = |verb: &str| -> PluginOutput { plugin.cmd_by(&argv, verb, &c2).output().into() };
    call("ADD").result();
    assert_eq!((first.served("ADD", 0), second.served("ADD", 0)), (1, 1));
    let records = |dir: &Path| {
        let names = std::fs::read_dir(dir.join("attachments/web")).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let usual = Path::new("/var/lib/catena");
    for (dir, own, other) in [(usual, &c1, &c2), (&state, &c2, &c1)] {
        let names = records(dir).concat();
        assert!(names.contains(own.name()) && !names.contains(other.name()), "{names}");
    }
    call("DEL").success();
    plugin.del(&c1);
    assert_eq!((first.served("DEL", 0), second.served("DEL", 0)), (1, 1));
    let error = node.cmd([CATENA, "daemon", "--run-dir", "run"]).output().failure();
    assert!(error.stderr.contains("--run-dir run: it must be an absolute path"), "{error}");
}
