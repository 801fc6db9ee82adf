//! What goes wrong leaves nothing: an ADD that fails or is killed, a DEL of what is gone or damaged.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testnode::{Attachment, Node, assert_same, links};

use crate::{BACKUPS, CATENA, Inside, all, backups, ours, run, run_with, shared, with_interface};

/// A kill is tried at every so many system calls.
const STEP: usize = 5;

#[test]
fn an_add_that_fails_leaves_nothing() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let plugins = ours(&node);
    let with = |field: &str, value: Value| {
        let mut conf = all();
        conf[field] = value;
        conf
    };
    let sysctl = |key: &str, value: &str| {
        let mut conf = all();
        conf["sysctl"][key] = json!(value);
        conf
    };
    for (conf, code, told) in [
        (sysctl("net.ipv4.absent", "1"), 5, "/proc/sys/net/ipv4/absent"),
        (sysctl("net.ipv4.tcp_timestamps", "much"), 5, "cannot write \"much\" to"),
        (sysctl("kernel.core_pattern", "x"), 7, "\"kernel.core_pattern\" is not one of net"),
        (sysctl("net/../kernel/core_pattern", "x"), 5, "/proc/sys/net/kernel/core_pattern"),
        (
            sysctl("net/core/somaxconn", "1"),
            7,
            "net.core.somaxconn and net/core/somaxconn are the same",
        ),
        (with("sysctl", json!({ "net.core.somaxconn": 1 })), 6, "write it as a string, \"1\""),
        (with("mac", json!("here")), 7, "MAC address \"here\" is not six bytes"),
        (with("mtu", json!(60)), 7, "mtu 60 is out of range"),
        (with("mtu", json!(-1)), 7, "mtu -1 is out of range"),
        (with("txQLen", json!(-1)), 7, "txQLen -1 is out of range"),
        (with("dataDir", json!("here")), 7, "dataDir \"here\" is not an absolute path"),
        (
            with("dataDir", json!("/proc/self/none")),
            5,
            "cannot write tuning's backup /proc/self/none/id-c1_eth0.json",
        ),
    ] {
        let output = run(&plugins, "ADD", &conf, &c1);
        assert!(output.error_text().contains(told), "{output}");
        assert_eq!(output.error_code(), code, "{output}");
        inside.assert_same(&c1);
        assert_same(&before, &node.snapshot(), &shared());
    }
    c1.ip("link del eth0\n");
    let output = run(&plugins, "ADD", &all(), &c1);
    assert!(output.error_text().contains("no interface eth0"), "{output}");
    assert!(backups().is_empty());
}

/// Killed at every so many of its system calls.
#[test]
fn an_add_that_is_killed_is_undone_by_del() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let plugins = ours(&node);
    let links = links(&node, CATENA, &["tuning"]);
    let program = links.join("tuning").display().to_string();
    let mut conf = all();
    conf["name"] = json!("web");
    conf["cniVersion"] = json!("1.0.0");
    conf["prevResult"] =
        json!({ "cniVersion": "1.0.0", "interfaces": [{ "name": "eth0", "sandbox": c1.path() }] });
    let mut point = 1;
    loop {
        let run_killed = node
            .cmd([&program])
            .stdin(conf.to_string())
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "id-c1")
            .env("CNI_NETNS", c1.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &links)
            .killed_at(point);
        run(&plugins, "DEL", &all(), &c1).success();
        inside.assert_same(&c1);
        assert_same(&before, &node.snapshot(), &shared());
        if let Some(ended) = run_killed {
            ended.success();
            break;
        }
        point += STEP;
    }
    println!("killed at each {STEP}th of {point} system calls");
    assert!(point > 20 * STEP, "{point} system calls are too few: what was killed?");
}

#[test]
fn del_works_with_what_is_gone_or_damaged() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let plugins = ours(&node);
    let file = Path::new(BACKUPS).join("id-c1_eth0.json");
    let elsewhere = "{\"sysctl\":{\"../kernel/x\":\"1\",\"net/../kernel/x\":\"1\"}}";
    for (text, understood) in
        [("", false), ("{", false), ("[]", true), ("{\"mtu\":-1}", false), (elsewhere, true)]
    {
        run(&plugins, "ADD", &all(), &c1).result();
        node.write(&file, text);
        run(&plugins, "DEL", &all(), &c1).success();
        // It is kept for whoever can read it.
        let aside = file.with_file_name("id-c1_eth0.json.corrupt");
        assert_eq!(fs::read_to_string(&aside).ok().as_deref(), (!understood).then_some(text));
        let _ = fs::remove_file(aside);
        assert!(backups().is_empty());
    }
    // Another container of the same id and interface does not get what this one had.
    run(&plugins, "ADD", &all(), &c1).result();
    let saved = fs::read_to_string(&file).unwrap();
    run(&plugins, "DEL", &all(), &c1).success();
    let c2 = node.container("c2");
    c2.ip("link add eth0 type veth peer name other\n");
    let inside = Inside::of(&c2);
    node.write(&file, &saved);
    let as_c1 = Attachment::new(&c2).container_id("id-c1");
    run_with(&plugins, "DEL", &all(), &as_c1).success();
    inside.assert_same(&c2);
    assert!(backups().is_empty());
    // A namespace that is gone.
    run(&plugins, "ADD", &all(), &c1).result();
    let attachment = Attachment::new(&c1);
    c1.delete();
    run_with(&plugins, "DEL", &all(), &attachment).success();
    assert!(backups().is_empty());
}
