//! A call that cannot be meant is refused at the door, and the node stays as it was.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist};
use testnode::{Attachment, Call, Catena, Node, PluginOutput, Plugins, Shared, assert_same, links};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn web() -> Value {
    conflist("web", &[bridge("cni0", &DUAL)])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

#[test]
fn container_ids_and_interface_names_that_could_be_paths_are_refused() {
    let long = "x".repeat(300);
    let node = Node::new();
    let c1 = node.container("c1");
    let list = web();
    let before = node.snapshot();
    for (variable, values) in [
        ("CNI_CONTAINERID", &["../c1", "a/b", ".", "-c", "c 1", "c1\n", "é", "a;b"][..]),
        (
            "CNI_IFNAME",
            &[
                "../eth0",
                "a/b",
                ".",
                "..",
                "sixteen-bytes-xx",
                "eth 0",
                "eth:0",
                "e\tth0",
                "eth%d",
                "eth%",
                "ethà",
            ],
        ),
    ] {
        for value in values {
            let catena = Catena::new(&node, CATENA).env(variable, value);
            for output in [catena.try_add(&list, &c1), catena.try_del(&list, c1.path())] {
                let output = PluginOutput::from(output);
                assert_eq!(output.error_code(), 4, "{output}");
            }
        }
    }
    assert_eq!(before.diff(&node.snapshot()), "");
    // A long id is no error: it is a digest where it would be too long for a file's name.
    let catena = Catena::new(&node, CATENA).env("CNI_CONTAINERID", &long);
    catena.add(&list, &c1);
    catena.check(&list, &c1);
    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_namespace_that_is_none_is_refused() {
    let node = Node::new();
    let file = node.fresh_path("file");
    node.write(&file, "");
    let before = node.snapshot();
    let conf = node.json_file("web.conflist", &web());
    for (netns, code, part) in [
        ("/run/netns/absent".as_ref(), 3, "does not exist"),
        (file.as_path(), 8, "not a network namespace"),
        ("/proc/self/ns/mnt".as_ref(), 8, "not a network namespace"),
        (node.path(), 8, "of the plugin itself"),
        (Path::new("/proc/self/ns/net"), 8, "of the plugin itself"),
    ] {
        let words = ["add".as_ref(), conf.as_os_str(), netns.as_os_str()];
        let output = PluginOutput::from(Catena::new(&node, CATENA).cmd(words).output());
        assert_eq!(output.error_code(), code, "{output}");
        assert!(output.error_text().contains(part), "{part} is missing in {output}");
        assert_same(&before, &node.snapshot(), &shared());
    }
}

#[test]
fn capability_arguments_that_are_none_are_refused() {
    let node = Node::new();
    let c1 = node.container("c1");
    let before = node.snapshot();
    for wrong in ["{", "[]", "7"] {
        let catena = Catena::new(&node, CATENA).env("CAP_ARGS", wrong);
        let output = PluginOutput::from(catena.try_add(&web(), &c1));
        assert_eq!(output.error_code(), 6, "{output}");
        assert!(output.error_text().contains("CAP_ARGS"), "{output}");
    }
    for (wrong, part) in
        [("A", "KEY=VALUE"), ("A=1=2", "KEY=VALUE"), ("=1", "KEY=VALUE"), ("FOO=1", "FOO")]
    {
        let catena = Catena::new(&node, CATENA).cni_args(wrong);
        let output = PluginOutput::from(catena.try_add(&web(), &c1));
        assert_eq!(output.error_code(), 4, "{output}");
        assert!(output.error_text().contains("CNI_ARGS"), "{output}");
        assert!(output.error_text().contains(part), "{output}");
    }
    assert_same(&before, &node.snapshot(), &shared());
    // As the reference: unknown keys are passed over where the runtime says so.
    Catena::new(&node, CATENA).cni_args("IgnoreUnknown=1;FOO=1").add(&web(), &c1);
}

#[test]
fn a_plugin_that_is_called_without_what_it_needs_names_all_of_it() {
    let node = Node::new();
    let c1 = node.container("c1");
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["bridge", "host-local", "catena"])]);
    let conf = {
        let mut conf = bridge("cni0", &DUAL);
        conf["name"] = json!("web");
        conf["cniVersion"] = json!("1.1.0");
        conf
    };
    let before = node.snapshot();
    let attachment = Attachment::new(&c1);
    let full = Call::of("ADD", &attachment);
    let without = |change: fn(&mut Call)| {
        let mut call = full.clone();
        change(&mut call);
        call
    };
    let text = conf.to_string();
    for (call, stdin, code, parts) in [
        (Call::new("ADD"), text.as_str(), 4, &["CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME"][..]),
        (without(|call| call.netns.clear()), &text, 4, &["missing: CNI_NETNS"]),
        (
            without(|call| call.command = "HELP".into()),
            &text,
            4,
            &["\"HELP\"", "ADD, DEL, CHECK, GC, STATUS"],
        ),
        (without(|call| call.command = "add".into()), &text, 4, &["\"add\""]),
        (without(|call| call.ifname = "../x".into()), &text, 4, &["\"../x\""]),
        (
            without(|call| call.container_id = "a/b".into()),
            &text,
            4,
            &["\"a/b\"", "CNI_CONTAINERID"],
        ),
        (without(|call| call.args = "X".into()), &text, 4, &["CNI_ARGS", "\"X\""]),
        (full.clone(), "", 6, &["stdin", "line 1"]),
        (full.clone(), "{", 6, &["stdin", "line 1 column 1"]),
        (full.clone(), "[1]", 6, &["stdin"]),
        (full.clone(), r#"{"cniVersion":"1.1.0","type":"bridge"}"#, 7, &["network name"]),
        (
            full.clone(),
            r#"{"cniVersion":"2.0.0","name":"web","type":"bridge"}"#,
            1,
            &["2.0.0", "1.1.0"],
        ),
        (full.clone(), r#"{"cniVersion":"1.1.0","name":"../web","type":"bridge"}"#, 7, &["../web"]),
        (
            full.clone(),
            r#"{"cniVersion":"1.1.0","name":"web","type":"bridge","prevResult":7}"#,
            6,
            &["result"],
        ),
    ] {
        println!("{call:?} {stdin}");
        for name in ["bridge", "catena"] {
            let output = plugins.call(name, &call, stdin);
            assert_eq!((output.error_code(), output.code), (code, 1), "{output}");
            for part in parts {
                assert!(output.error_text().contains(part), "{part} is missing in {output}");
            }
        }
    }
    assert_eq!(before.diff(&node.snapshot()), "");
}

#[test]
fn a_file_with_broken_json_is_told_with_line_and_column() {
    let node = Node::new();
    let _c1 = node.container("c1");
    let file = node.fresh_path("web.conflist");
    for (text, part) in [
        ("{\n  \"name\": \"web\",\n  \"plugins\": [}\n", "line 3 column 15"),
        ("", "is empty"),
        ("\u{feff}{}", "not valid JSON"),
        ("{} {}", "not valid JSON"),
    ] {
        fs::write(&file, text).unwrap();
        let add = Catena::new(&node, CATENA).cmd(["add", file.to_str().unwrap(), "c1"]).output();
        let output = PluginOutput::from(add);
        assert_eq!(output.error_code(), 6, "{output}");
        for part in [part, file.to_str().unwrap()] {
            assert!(output.error_text().contains(part), "{part} is missing in {output}");
        }
    }
}

#[test]
fn a_name_that_is_no_plugins_is_refused_and_one_of_catenas_own_is_not() {
    let node = Node::new();
    let own = ["catena", "catena-1.2"];
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["brigde", own[0], own[1]])]);
    let c1 = node.container("c1");
    let before = node.snapshot();
    let conf = json!({
        "cniVersion": "0.4.0", "name": "web", "type": "catena", "plugins": [bridge("cni0", &DUAL)],
    });
    for verb in ["ADD", "DEL", "VERSION"] {
        let call = Call::of(verb, &Attachment::new(&c1));
        let output = plugins.call("brigde", &call, &conf.to_string());
        assert_eq!(output.error_code(), 7, "{output}");
        assert_eq!(output.json.as_ref().unwrap()["cniVersion"], "0.4.0");
        for part in ["\"brigde\"", "bridge, ", "catena"] {
            assert!(output.error_text().contains(part), "{part} is missing in {output}");
        }
    }
    assert_same(&before, &node.snapshot(), &Shared::none());
    for name in own {
        for verb in ["VERSION", "ADD", "DEL"] {
            let call = Call::of(verb, &Attachment::new(&c1));
            plugins.call(name, &call, &conf.to_string()).success();
        }
    }
    assert_same(&before, &node.snapshot(), &shared());
}
