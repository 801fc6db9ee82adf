//! Where the time of a call went is told: by `catena try --trace`, and by the log at level `debug`.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, portmap};
use testnode::{Attachment, Call, Catena, Node, NodeDaemon, PluginOutput, Plugins, links, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/full-chain.conflist");

/// Where foreign plugins are: a throw-away node has a `/run` of its own.
const PLUGINS: &str = "/opt/plugins";

/// How long a test waits for what has to come.
const SOON: Duration = Duration::from_secs(30);

/// A line of the tree that `--trace` prints.
#[derive(Debug)]
struct Line {
    depth: usize,
    name: String,
    milliseconds: f64,
}

/// The trees that were printed, one for each verb.
fn trees(report: &str) -> Vec<Vec<Line>> {
    let mut trees = Vec::new();
    for (at, _) in report.match_indices(" STEP ") {
        let rows = report[at..].lines().skip(1).take_while(|line| line.contains(" ms "));
        trees.push(rows.map(row).collect());
    }
    trees
}

fn row(line: &str) -> Line {
    let (before, _) = line.split_once(" ms ").unwrap_or_else(|| panic!("no time in {line:?}"));
    let (name, time) = before.trim_end().rsplit_once(' ').unwrap();
    let spaces = name.len() - name.trim_start().len();
    assert_eq!(spaces % 2, 1, "{line:?}");
    Line {
        depth: spaces / 2,
        name: name.trim().to_owned(),
        milliseconds: time.parse().unwrap_or_else(|e| panic!("{time:?} in {line:?}: {e}")),
    }
}

/// Whether the tree has these steps, each right within the one before.
fn has(tree: &[Line], path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return true };
    let depth = tree.first().map_or(0, |line| line.depth);
    tree.iter().enumerate().any(|(at, line)| {
        let within = &tree[at + 1..];
        let end = within.iter().position(|one| one.depth <= depth).unwrap_or(within.len());
        line.depth == depth && line.name == *first && has(&within[..end], rest)
    })
}

/// The paths of the steps that are in the log, each with its time in milliseconds.
fn logged(log: &str) -> Vec<(&str, f64)> {
    let lines = log.lines().filter_map(|line| line.split_once("DEBUG step: ")?.1.split_once(" ms"));
    lines
        .map(|(step, _)| step.rsplit_once(' ').unwrap_or_else(|| panic!("no time in {step:?}")))
        .map(|(path, time)| (path, time.parse().unwrap_or_else(|e| panic!("{path} {time}: {e}"))))
        .collect()
}

#[track_caller]
fn assert_logged(log: &str, paths: &[&str]) {
    let logged = logged(log);
    for path in paths {
        assert!(logged.iter().any(|(one, _)| one == path), "no step {path} in\n{log}");
    }
}

fn plugin(node: &Node, name: &str, body: &str) {
    let path = Path::new(PLUGINS).join(name);
    node.write(&path, &format!("#!/bin/sh\nconf=$(cat)\n{body}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_trial_shows_what_each_step_of_the_chain_took() {
    let node = Node::new();
    let catena = Catena::new(&node, CATENA);
    let output = catena.cmd(["try", EXAMPLE, "--trace"]).output();
    assert_eq!(output.stderr, "", "nothing is logged for it");
    let told = output.success();
    let trees = trees(&told);
    let [add, check, del] = &trees[..] else { panic!("no three trees in\n{told}") };
    let steps: [(&[Line], &[&[&str]]); 3] = [
        (
            add,
            &[
                &["ADD", "take lock"],
                &["ADD", "write record"],
                &["ADD", "bridge", "bridge device"],
                &["ADD", "bridge", "veth"],
                &["ADD", "bridge", "sysctls"],
                &["ADD", "bridge", "host-local"],
                &["ADD", "bridge", "addresses"],
                &["ADD", "bridge", "wait for carrier"],
                &["ADD", "bridge", "wait for addresses"],
                &["ADD", "portmap"],
                &["ADD", "bandwidth", "qdiscs"],
                &["ADD", "snat"],
                &["ADD", "flush", "ruleset"],
            ],
        ),
        (
            check,
            &[&["CHECK", "read record"], &["CHECK", "bridge", "host-local"], &["CHECK", "snat"]],
        ),
        (
            del,
            &[
                &["DEL", "bridge", "host-local"],
                &["DEL", "flush", "ruleset"],
                &["DEL", "flush", "devices"],
                &["DEL", "remove record"],
            ],
        ),
    ];
    for (tree, paths) in steps {
        for path in paths {
            assert!(has(tree, path), "no {path:?} in {tree:#?}");
        }
        for (at, line) in tree.iter().enumerate() {
            let within = tree[at + 1..].iter().take_while(|one| one.depth > line.depth);
            let parts = within.filter(|one| one.depth == line.depth + 1);
            let count = parts.clone().count() as f64;
            let sum: f64 = parts.map(|one| one.milliseconds).sum();
            // Each is rounded.
            assert!(sum <= line.milliseconds + 0.005 * (count + 1.0), "{line:?}: {sum} in\n{told}");
        }
    }
    assert!(told.contains("100 %") && told.contains("interface=eth0"), "{told}");
    assert!(told.contains("Nothing is left"), "{told}");
    let plain = catena.cmd(["try", EXAMPLE]).output().success();
    assert!(!plain.contains("STEP") && !plain.contains('%'), "{plain}");
}

#[test]
fn a_trial_that_fails_shows_its_steps_and_what_undoing_took() {
    let node = Node::new();
    plugin(&node, "fail", "[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"code\":117}'; exit 1");
    let chain = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "fail" })]);
    let file = node.json_file("web.conflist", &chain);
    let catena = Catena::new(&node, CATENA).cni_path(PLUGINS);
    let failed = catena.cmd(["try", file.to_str().unwrap(), "--trace"]).output().failure();
    let trees = trees(&failed.stdout);
    let [add] = &trees[..] else { panic!("no tree in {failed}") };
    for path in [&["ADD", "fail", "exec"][..], &["ADD", "undo", "bridge", "host-local"]] {
        assert!(has(add, path), "no {path:?} in {add:#?}");
    }
}

/// The script goes on when the test lets it, so it takes as long as the test has waited, at least.
#[test]
fn a_slow_plugin_is_seen_under_its_name() {
    let node = Node::new();
    let fifo = Path::new(PLUGINS).join("go");
    let begun = Path::new(PLUGINS).join("begun");
    plugin(
        &node,
        "slow",
        &format!(
            "[ $CNI_COMMAND = ADD ] || exit 0\necho > {}\ncat {}\necho '{{\"cniVersion\":\"1.1.0\"}}'",
            begun.display(),
            fifo.display()
        ),
    );
    node.run(["mkfifo", fifo.to_str().unwrap()]);
    let chain = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "slow" })]);
    let file = node.json_file("web.conflist", &chain);
    let _c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA).cni_path(PLUGINS);
    let add = catena.cmd(["--verbose", "add", file.to_str().unwrap(), "c1"]);
    let mut add = add.spawn(node.fresh_path("add.log"));
    until("the plugin has begun", SOON, || begun.exists().then_some(()));
    let waiting = Instant::now();
    node.run(["true"]);
    let waited = waiting.elapsed().as_secs_f64() * 1e3;
    fs::write(&fifo, "").unwrap();
    assert_eq!(add.wait(SOON), 0, "{}", add.log());
    let log = add.log();
    let logged = logged(&log);
    for path in ["ADD", "ADD/slow", "ADD/slow/exec"] {
        let slow = logged.iter().find(|(one, _)| *one == path);
        let (_, time) = slow.unwrap_or_else(|| panic!("no {path} in\n{log}"));
        assert!(*time >= waited - 0.01, "{path} took {time} ms of {waited} ms in\n{log}");
    }
    assert!(log.contains(&format!("program={PLUGINS}/slow")), "{log}");
}

#[test]
fn a_lock_that_another_has_is_seen_where_it_was_waited_for() {
    let node = Node::new();
    let _c1 = node.container("c1");
    node.run(["mkdir", "-p", "/run/catena"]);
    let lock = fs::File::create("/run/catena/nft.lock").unwrap();
    lock.lock().unwrap();
    let chain = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), portmap()]);
    let file = node.json_file("web.conflist", &chain);
    let catena = Catena::new(&node, CATENA).cap_args(&testnode::conf::port_and_rates(8080));
    let add = catena.cmd(["--verbose", "add", file.to_str().unwrap(), "c1"]);
    let mut add = add.spawn(node.fresh_path("add.log"));
    let inode = format!(":{} ", lock.metadata().unwrap().ino());
    until("the lock is waited for", SOON, || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&inode)).then_some(())
    });
    drop(lock);
    assert_eq!(add.wait(SOON), 0, "{}", add.log());
    assert_logged(&add.log(), &["ADD/flush/ruleset/wait for lock"]);
    assert!(add.log().contains(" path=/run/catena/nft.lock (network=web"), "{}", add.log());
}

/// ADD and DEL of a network with ports and rates, as a runtime calls the meta plugin.
fn add_and_del(node: &Node, container: &str, conf: &Value) -> [PluginOutput; 2] {
    let plugins = Plugins::new(node, [links(node, CATENA, &["catena"])]);
    let container = node.container(container);
    let attachment = Attachment::new(&container);
    let call = |verb| plugins.call("catena", &Call::of(verb, &attachment), &conf.to_string());
    ["ADD", "DEL"].map(call)
}

fn meta(keys: &Value) -> Value {
    let chain = [bridge("cni0", &["10.1.0.0/24"]), portmap(), bandwidth()];
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "web", "type": "catena", "plugins": chain,
        "runtimeConfig": testnode::conf::port_and_rates(8080),
    });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    conf
}

#[test]
fn the_log_of_the_meta_plugin_has_a_line_for_each_step_at_debug_alone() {
    let node = Node::new();
    let file = node.fresh_path("catena.log");
    let keys = |level: &str| json!({ "logFile": file, "logToStderr": false, "logLevel": level });
    for level in ["verbose", "warn"] {
        for output in add_and_del(&node, level, &meta(&keys(level))) {
            output.success();
        }
        let log = fs::read_to_string(&file).unwrap();
        assert!(!log.contains("step"), "{level}: {log}");
        // It is not in a span either: none is made.
        assert_eq!(
            log.contains(" INFO installing the nf_tables table"),
            level == "verbose",
            "{log}"
        );
        fs::remove_file(&file).unwrap();
    }
    for output in add_and_del(&node, "c1", &meta(&keys("debug"))) {
        assert_eq!(output.stderr, "");
        output.success();
    }
    let log = fs::read_to_string(&file).unwrap();
    assert_logged(
        &log,
        &[
            "catena/ADD/bridge/veth",
            "catena/ADD/bridge/host-local",
            "catena/ADD/bandwidth/qdiscs",
            "catena/ADD/flush/ruleset",
            "catena/ADD/write record",
            "catena/ADD",
            "catena",
            "catena/DEL/flush/devices",
        ],
    );
    let veth = log.lines().find(|line| line.contains("/veth ")).unwrap();
    assert!(veth.contains(" interface=veth"), "{veth}");
    assert!(veth.ends_with("(network=web container=id-c1 interface=eth0)"), "{veth}");
}

/// A call of a plugin with this log filter; what it logs.
#[track_caller]
fn log_of(node: &Node, (kind, conf): (&str, &Value), verb: &str, filter: &str) -> String {
    let dir = links(node, CATENA, &[kind]);
    let variables = [
        ("CNI_COMMAND", verb),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", dir.to_str().unwrap()),
        ("CATENA_LOG", filter),
    ];
    let run = node.cmd([dir.join(kind)]).env_clear().stdin(conf.to_string());
    let run = variables.into_iter().fold(run, |run, (name, value)| run.env(name, value));
    let output = run.output();
    assert!(output.is_success(), "{output}");
    output.stderr
}

#[test]
fn the_variable_has_plugins_log_their_steps_and_says_of_which_crate() {
    let node = Node::new();
    let _c1 = node.container("c1");
    let mut conf = json!({ "cniVersion": "1.1.0", "name": "web" });
    let bridge = bridge("cni0", &["10.1.0.0/24"]);
    conf.as_object_mut().unwrap().extend(bridge.as_object().unwrap().clone());
    let call = |verb: &str, filter: &str| log_of(&node, ("bridge", &conf), verb, filter);
    assert_logged(&call("ADD", "debug"), &["ADD/bridge/veth", "ADD/bridge/host-local", "ADD"]);
    let of_chain = call("CHECK", "warn,chain=debug");
    assert_logged(&of_chain, &["CHECK/bridge/host-local", "CHECK/bridge", "CHECK"]);
    assert!(!of_chain.contains("enter namespace"), "that is a step of delegates: {of_chain}");
    assert_eq!(call("DEL", "info"), "");
}

#[test]
fn a_daemon_logs_the_steps_of_the_calls_that_are_handed_over() {
    let node = Node::new();
    let daemon = NodeDaemon::start(&node, CATENA, &[]);
    let _c1 = node.container("c1");
    let conf = meta(&json!({}));
    for verb in ["ADD", "DEL"] {
        let log = log_of(&node, ("catena", &conf), verb, "debug");
        let steps: Vec<_> = logged(&log).into_iter().map(|(path, _)| path).collect();
        assert_eq!(steps, ["catena/hand over", "catena"], "{log}");
    }
    let log = daemon.log();
    assert_logged(
        &log,
        &["catena/take lock", "catena/ADD/bridge/veth", "catena/DEL/flush/devices", "catena"],
    );
    let veth = log.lines().find(|line| line.contains("/veth ")).unwrap();
    assert!(veth.ends_with("(network=web container=c1 interface=eth0)"), "{veth}");
}
