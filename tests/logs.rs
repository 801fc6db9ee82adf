//! The log goes where the configuration says, and a log that is full or cannot be written keeps nobody from a network.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testnode::{Attachment, Call, Node, NodeDaemon, PluginOutput, Plugins, Scripts, links};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// ADD and DEL of a chain whose only plugin writes `noise` to its standard error, with these logging keys.
fn run(node: &Node, kind: &str, keys: &Value) -> [PluginOutput; 2] {
    let scripts = Scripts::new(node);
    scripts.plugin(
        "noisy",
        "echo noise >&2\n[ $CNI_COMMAND = ADD ] && echo '{\"cniVersion\":\"1.0.0\"}'\nexit 0",
    );
    let plugins = Plugins::new(node, [links(node, CATENA, &[kind]), scripts.dir().to_owned()]);
    let mut conf = json!({ "cniVersion": "1.0.0", "name": "web", "type": kind, "delegates": [{ "cniVersion": "1.0.0", "name": "web", "type": "noisy" }] });
    conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let c1 = node.container("c1");
    let attachment = Attachment::new(&c1);
    let outputs = ["ADD", "DEL"]
        .map(|verb| plugins.call(kind, &Call::of(verb, &attachment), &conf.to_string()));
    c1.delete();
    outputs
}

/// A folder of this test's own: the node's files are the machine's elsewhere.
fn folder(node: &Node) -> PathBuf {
    node.dir("log")
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_configuration_says_what_is_logged_and_where_to() {
    let node = Node::new();
    let file = folder(&node).join("sub/multus.log");
    for kind in ["catena", "multus"] {
        let [add, del] = run(&node, kind, &json!({}));
        assert!(!add.stderr.contains("noise") && !del.stderr.contains("noise"), "{}", add.stderr);
        let [add, _] = run(&node, kind, &json!({ "logLevel": "verbose" }));
        assert!(add.stderr.contains("noise"), "{}", add.stderr);
        let keys = json!({ "logLevel": "verbose", "logFile": file, "logToStderr": false });
        let _ = fs::remove_file(&file);
        let [add, del] = run(&node, kind, &keys);
        assert_eq!((add.stderr.as_str(), del.stderr.as_str()), ("", ""));
        // ADD's and DEL's.
        assert_eq!(text(&file).matches("noise").count(), 2, "{}", text(&file));
        assert!(!text(&file).contains('\u{1b}'), "{}", text(&file));
        // A level that nobody knows is told, and the file is written to as ever.
        run(&node, kind, &json!({ "logLevel": "loud", "logFile": file }));
        assert!(text(&file).contains("logLevel \"loud\" is unknown"), "{}", text(&file));
    }
}

#[test]
fn a_full_file_is_set_aside() {
    let node = Node::new();
    let dir = folder(&node);
    let file = dir.join("multus.log");
    fs::write(&file, vec![b'x'; 1 << 20]).unwrap();
    let options = json!({ "maxSize": 1, "maxBackups": 1, "maxAge": 1, "compress": true });
    run(&node, "multus", &json!({ "logLevel": "verbose", "logFile": file, "logOptions": options }));
    assert!(text(&file).contains("noise"));
    let entries =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside: Vec<_> = entries.filter(|name| name != "multus.log").collect();
    assert!(
        aside.len() == 1 && aside[0].starts_with("multus-20") && aside[0].ends_with(".log.gz"),
        "{aside:?}"
    );
}

#[test]
fn a_log_that_cannot_be_written_is_told_on_stderr_and_stops_nothing() {
    let node = Node::new();
    let dir = folder(&node);
    let keys = json!({ "logFile": dir, "logToStderr": false });
    for output in run(&node, "multus", &keys) {
        assert!(output.stderr.contains("Is a directory"), "{}", output.stderr);
        assert!(output.json.is_none_or(|json| json["code"].is_null()));
    }
}

#[test]
fn a_failed_call_stands_in_the_file_with_its_reason() {
    let node = Node::new();
    let file = folder(&node).join("multus.log");
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["multus"])]);
    let c1 = node.container("c1");
    let attachment = Attachment::new(&c1);
    let call = |verb: &str, keys: &Value| {
        let _ = fs::remove_file(&file);
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "web", "type": "multus", "logFile": file,
            "logToStderr": false,
        });
        conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        plugins.call("multus", &Call::of(verb, &attachment), &conf.to_string())
    };
    let check = |keys: &Value, texts: &[&str]| {
        for verb in ["ADD", "CHECK", "GC", "STATUS"] {
            let output = call(verb, keys);
            assert_eq!(output.stderr, "");
            let text = text(&file);
            let failed = format!("{verb} failed: ");
            for part in [&failed, "ERROR"].into_iter().chain(texts.iter().copied()) {
                assert!(text.contains(part), "{part} is missing in {text}\n{output}");
            }
            assert!(text.contains(&output.error_text()), "{text}\n{output}");
            assert_eq!(text.matches(&failed).count(), 1, "{text}");
        }
    };
    let delegates = json!({ "delegates": [{ "cniVersion": "1.1.0", "type": "absent" }] });
    check(&delegates, &["absent"]);
    // A configuration that cannot be read otherwise.
    check(&json!({ "clusterNetwork": 1 }), &["clusterNetwork"]);
    // Nothing is missing where nothing failed.
    call("DEL", &json!({ "delegates": [{ "type": "loopback" }] })).success();
    assert!(!fs::read_to_string(&file).unwrap_or_default().contains("failed"));
    let _daemon = NodeDaemon::start(&node, CATENA, &[]);
    check(&delegates, &["absent"]);
}

#[test]
fn logging_keys_that_are_none_are_told_and_stop_nothing() {
    let node = Node::new();
    let file = folder(&node).join("multus.log");
    for (keys, told) in [
        (json!({ "logOptions": { "maxSize": -1 } }), "logOptions.maxSize -1"),
        (json!({ "logOptions": { "maxAge": "long" } }), "logOptions.maxAge \"long\""),
        (json!({ "logOptions": 5 }), "logOptions 5"),
        (json!({ "logLevel": 5 }), "logLevel 5"),
        (json!({ "logToStderr": "no" }), "logToStderr \"no\""),
    ] {
        let _ = fs::remove_file(&file);
        let mut all = json!({ "logFile": file });
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        for output in run(&node, "multus", &all) {
            output.success();
        }
        assert_eq!(text(&file).matches(told).count(), 2, "{told} is missing in {}", text(&file));
    }
    for output in run(&node, "multus", &json!({ "logFile": ["a"] })) {
        assert!(output.stderr.contains("logFile [\"a\"]"), "{output}");
        output.success();
    }
}

/// Opening a pipe for writing waits for a reader.
#[test]
fn a_pipe_that_nobody_reads_holds_nobody() {
    let node = Node::new();
    let pipe = folder(&node).join("pipe");
    node.run(["mkfifo", pipe.to_str().unwrap()]);
    for output in run(&node, "multus", &json!({ "logFile": pipe })) {
        assert!(output.stderr.contains("the log goes to standard error"), "{output}");
        output.success();
    }
}
