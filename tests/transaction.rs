//! A chain is a transaction: what fails leaves the node as it was, and says what failed.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist};
use testnode::{Catena, Node, Output, PluginOutput, Scripts, Shared, Snapshot, assert_same, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// A bridge, a foreign delegate that makes a device, and a third one.
fn chain_with(third: &str) -> Value {
    conflist(
        "web",
        &[
            bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]),
            json!({ "type": "before" }),
            json!({ "type": third }),
            json!({ "type": "after" }),
        ],
    )
}

fn scripts(node: &Node) -> Scripts<'_> {
    let scripts = Scripts::new(node);
    scripts.device("before");
    scripts.device("after");
    scripts
}

fn catena<'n>(node: &'n Node, scripts: &Scripts<'_>) -> Catena<'n> {
    Catena::new(node, CATENA).cni_path(scripts.dir())
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

/// The error object's code and text; standard output must have nothing else, and the exit code must tell.
#[track_caller]
fn error(output: Output) -> (u64, String) {
    let output = PluginOutput::from(output);
    (output.error_code(), output.error_text())
}

/// Runs a chain whose third delegate's ADD does what `add` says, and expects it to be rolled back.
#[track_caller]
fn rolled_back(add: &str) -> (u64, String) {
    let node = Node::new();
    let scripts = scripts(&node);
    scripts.plugin("third", &format!("[ $CNI_COMMAND = ADD ] || exit 0\n{add}"));
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let catena = catena(&node, &scripts).env("CATENA_DELEGATE_TIMEOUT", "0.7");
    let output = catena.try_add(&chain_with("third"), &c1);
    assert!(output.stderr.len() < 100_000, "the log is not flooded: {} bytes", output.stderr.len());
    let (code, text) = error(output);
    assert!(text.starts_with("delegate 3 of 4 failed: third: "), "{text}");
    assert!(text.contains("rolled back: third, before, bridge"), "{text}");
    assert_eq!(scripts.calls(), ["ADD before", "ADD third", "DEL third", "DEL before"]);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    (code, text)
}

#[test]
fn a_delegate_that_fails_is_told_in_its_own_words() {
    let (code, text) = rolled_back(
        r#"echo '{ "cniVersion": "1.1.0", "code": 117, "msg": "no luck", "details": "try a rabbit" }'; exit 1"#,
    );
    assert_eq!(code, 117);
    assert!(text.contains("third: no luck") && text.contains("try a rabbit"), "{text}");
}

#[test]
fn a_delegate_that_fails_without_an_error_object_is_told_by_its_status_and_outputs() {
    let (code, text) = rolled_back("echo oh; echo 'no such file' >&2; exit 3");
    assert_eq!(code, 999);
    for part in ["exited with status 3", "\"oh\"", "no such file"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_delegate_that_prints_garbage_is_not_taken_for_a_result() {
    let (code, text) = rolled_back("echo Done.");
    assert_eq!(code, 6);
    assert!(text.contains("its output is no result"), "{text}");
    let (code, text) = rolled_back(r#"echo '{"cniVersion":"9.9.9"}'"#);
    assert_eq!(code, 1);
    assert!(text.contains("9.9.9"), "{text}");
    let (code, text) = rolled_back(r#"echo '{"ips":[{"address":"10.1.0.300/24"}]}'"#);
    assert_eq!(code, 6);
    assert!(text.contains("ips[0].address"), "{text}");
}

#[test]
fn a_delegate_that_is_killed_is_told_by_the_signal() {
    let (code, text) = rolled_back("kill -KILL $$");
    assert_eq!(code, 999);
    assert!(text.contains("was killed by SIGKILL"), "{text}");
}

#[test]
fn a_delegate_that_hangs_is_killed_in_time() {
    let start = Instant::now();
    let (code, text) = rolled_back("sleep 1000 & wait");
    assert_eq!(code, 999);
    assert!(text.contains("did not end within 0.7 s and was killed"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_delegate_that_floods_is_killed() {
    for (stream, flood) in [("stdout", "exec yes"), ("stderr", "exec yes >&2")] {
        let (code, text) = rolled_back(flood);
        assert_eq!(code, 999);
        assert!(text.contains(&format!("bytes to {stream} and was killed")), "{text}");
        assert!(text.len() < 3000, "its flood is not passed on: {} bytes", text.len());
    }
}

#[test]
fn a_delegates_child_that_holds_its_pipes_is_not_waited_for() {
    let node = Node::new();
    let scripts = scripts(&node);
    let pid = node.fresh_path("pid");
    scripts.plugin(
        "third",
        &format!(
            "[ $CNI_COMMAND = ADD ] || exit 0\nsleep 1000 & echo $! > {}\nprintf %s \"$prev\"",
            pid.display()
        ),
    );
    let c1 = node.container("c1");
    let catena = catena(&node, &scripts).env("CATENA_DELEGATE_TIMEOUT", "20");
    let start = Instant::now();
    catena.add(&chain_with("third"), &c1);
    assert!(start.elapsed() < Duration::from_secs(10));
    // It is not the chain's to end: plugins may start daemons.
    let child = fs::read_to_string(&pid).unwrap();
    node.run(["kill", child.trim()]);
    catena.del(&chain_with("third"), &c1);
}

#[test]
fn a_delegate_does_not_outlive_its_caller() {
    let node = Node::new();
    let scripts = scripts(&node);
    let pid = node.fresh_path("pid");
    let hang = format!(
        "[ $CNI_COMMAND = ADD ] || exit 0\necho $$ > {0}.new; mv {0}.new {0}\nexec sleep 1000",
        pid.display()
    );
    scripts.plugin("third", &hang);
    let c1 = node.container("c1");
    let before = node.snapshot();
    let inside = Snapshot::of(&c1);
    let catena = catena(&node, &scripts);
    let file = node.json_file("web.conflist", &chain_with("third"));
    let mut add = catena
        .cmd(["add".as_ref(), file.as_os_str(), c1.path().as_os_str()])
        .spawn(node.fresh_path("add.log"));
    let pid = until("the third delegate hangs", Duration::from_secs(10), || {
        add.assert_alive();
        fs::read_to_string(&pid).ok()
    });
    add.kill();
    let delegate = Path::new("/proc").join(pid.trim());
    until("the delegate is gone", Duration::from_secs(10), || (!delegate.exists()).then_some(()));

    // What the killed ADD may have done is known from its record alone: as with any ADD that failed, all plugins are asked.
    assert!(Path::new("/sys/class/net/before").exists());
    fs::remove_file(&file).unwrap();
    catena.del(&conflist("web", &[json!({ "type": "after" })]), &c1);
    assert_eq!(scripts.calls()[2..], ["DEL after", "DEL third", "DEL before"]);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}

#[test]
fn a_chain_that_cannot_be_run_to_its_end_is_not_begun() {
    let node = Node::new();
    let scripts = scripts(&node);
    let c1 = node.container("c1");
    let before = node.snapshot();
    let (code, text) = error(catena(&node, &scripts).try_add(&chain_with("absent"), &c1));
    assert_eq!(code, 7);
    for part in ["delegate 3 of 4", "\"absent\" is not built in", &scripts.dir().to_string_lossy()]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(scripts.calls().is_empty());
    assert_eq!(before.diff(&node.snapshot()), "", "no trace at all");
}

#[test]
fn what_rolling_back_could_not_undo_the_next_del_does() {
    let node = Node::new();
    let scripts = scripts(&node);
    scripts.plugin("third", r#"echo '{"code":11,"msg":"the daemon is away"}'; exit 1"#);
    let c1 = node.container("c1");
    let before = node.snapshot();
    let catena = catena(&node, &scripts);
    let (code, text) = error(catena.try_add(&chain_with("third"), &c1));
    assert_eq!(code, 11);
    assert!(text.contains("rolling back was not complete"), "{text}");
    assert!(text.contains("/var/lib/catena/attachments/web/"), "where it is recorded: {text}");
    // The rest was undone all the same.
    assert!(!Path::new("/sys/class/net/before").exists());
    let (code, text) = error(catena.try_del(&chain_with("third"), c1.path()));
    assert_eq!((code, text.contains("third: the daemon is away")), (11, true), "{text}");

    scripts.plugin("third", "exit 0");
    scripts.forget();
    catena.del(&chain_with("third"), &c1);
    assert_eq!(scripts.calls(), ["DEL third"], "only what was left to do");
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn an_attachment_that_lives_is_not_added_again() {
    let node = Node::new();
    let scripts = scripts(&node);
    scripts.device("third");
    let c1 = node.container("c1");
    let catena = catena(&node, &scripts);
    let list = chain_with("third");
    let before = node.snapshot();
    catena.add(&list, &c1);
    let (added, inside) = (node.snapshot(), Snapshot::of(&c1));
    let (code, text) = error(catena.try_add(&list, &c1));
    assert_eq!(code, 999);
    assert!(text.contains("has interface eth0 on network web already"), "{text}");
    assert!(text.contains("DEL it first"), "{text}");
    assert_same(&added, &node.snapshot(), &Shared::none().device("cni0"));
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    catena.check(&list, &c1);
    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn what_a_killed_add_left_is_removed_by_the_next_add() {
    let node = Node::new();
    let scripts = scripts(&node);
    let mark = node.fresh_path("mark");
    scripts.plugin(
        "third",
        &format!("[ $CNI_COMMAND = ADD ] || exit 0\n> {}\nexec sleep 1000", mark.display()),
    );
    let c1 = node.container("c1");
    let before = node.snapshot();
    let catena = catena(&node, &scripts);
    let file = node.json_file("web.conflist", &chain_with("third"));
    let mut add = catena
        .cmd(["add".as_ref(), file.as_os_str(), c1.path().as_os_str()])
        .spawn(node.fresh_path("add.log"));
    until("the third delegate hangs", Duration::from_secs(10), || mark.exists().then_some(()));
    add.kill();
    scripts.device("third");
    // `before` would refuse: its device is there.
    let result = catena.add(&chain_with("third"), &c1);
    assert_eq!(result["ips"].as_array().unwrap().len(), 2);
    catena.check(&chain_with("third"), &c1);
    catena.del(&chain_with("third"), &c1);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_new_namespace_under_the_old_path_is_a_new_container() {
    let node = Node::new();
    let scripts = scripts(&node);
    scripts.device("third");
    let catena = catena(&node, &scripts);
    let list = chain_with("third");
    let before = node.snapshot();
    let c1 = node.container("c1");
    catena.add(&list, &c1);
    c1.delete();
    let c1 = node.container("c1");
    let inside = Snapshot::of(&c1);
    let result = catena.add(&list, &c1);
    // The first one's lease was released, and addresses go round.
    assert_eq!(result["ips"][0]["address"], "10.1.0.3/24");
    catena.check(&list, &c1);
    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}

#[test]
fn a_limit_that_is_no_number_is_told() {
    let node = Node::new();
    let scripts = scripts(&node);
    let c1 = node.container("c1");
    for wrong in ["soon", "-1", "0", "inf", ""] {
        let catena = catena(&node, &scripts).env("CATENA_DELEGATE_TIMEOUT", wrong);
        let (code, text) = error(catena.try_add(&chain_with("after"), &c1));
        assert_eq!(code, 4);
        assert!(text.contains("CATENA_DELEGATE_TIMEOUT") && text.contains("seconds"), "{text}");
    }
}

#[test]
fn del_knows_what_add_made_where_a_delegate_forgets_the_result() {
    let node = Node::new();
    let scripts = scripts(&node);
    scripts
        .plugin("forgets", "[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"cniVersion\":\"1.1.0\"}'");
    let catena = catena(&node, &scripts);
    let mut bridge = bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]);
    bridge["ipMasq"] = json!(true);
    bridge["macspoofchk"] = json!(true);
    let port = json!({ "hostPort": 8080, "containerPort": 80 });
    let portmap = json!({ "type": "portmap", "runtimeConfig": { "portMappings": [port] } });
    let list = conflist("web", &[bridge, portmap, json!({ "type": "forgets" })]);
    let before = node.snapshot();
    let c1 = node.container("c1");
    assert_eq!(catena.add(&list, &c1), json!({ "cniVersion": "1.1.0" }));

    // The same goes for what is restored.
    let rules = || node.run(["nft", "-s", "list", "ruleset"]);
    let elements = |rules: String| -> Vec<String> {
        let mut found: Vec<_> =
            rules.lines().filter(|line| line.contains("comment")).map(str::to_owned).collect();
        found.sort();
        found
    };
    let made = elements(rules());
    node.run(["nft", "flush", "ruleset"]);
    let c2 = node.container("c2");
    let mut other = list.clone();
    other["plugins"].as_array_mut().unwrap().truncate(1);
    catena.add(&other, &c2);
    catena.del(&other, &c2);
    assert_eq!(made, elements(rules()));

    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
}
