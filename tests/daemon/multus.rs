//! A node of thick Multus is switched as it is: its shim's name and configuration, its daemon's configuration and socket.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, portmap};
use testnode::{Attachment, Container, Node, PluginOutput, Plugins, Scripts, assert_same, links};

use super::{CATENA, Plugin, shared, start};

const SOCKET: &str = "/run/multus/multus.sock";
const DAEMON_CONFIG: &str = "/etc/cni/net.d/multus.d/daemon-config.json";

/// What Multus's daemon generates for its shim.
fn shim() -> Value {
    json!({
        "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim",
        "clusterNetwork": "/host/etc/cni/net.d/10-web.conflist", "logLevel": "verbose", "logToStderr": true,
        "capabilities": { "portMappings": true }, "daemonSocketDir": "/run/multus",
    })
}

/// A node whose cluster network is a file of another implementation.
fn node() -> Node {
    let node = Node::new();
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), portmap()]);
    node.write("/etc/cni/net.d/10-web.conflist", &list.to_string());
    node
}

/// Sends a call as Multus's shim does; the status and the body.
fn post(node: &Node, verb: &str, container: &Container, config: &Value) -> (String, Value) {
    let body = json!({
        "env": {
            "CNI_COMMAND": verb, "CNI_CONTAINERID": container.name(), "CNI_NETNS": container.path(),
            "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin", "CNI_ARGS": "IgnoreUnknown=true", "HOME": "/root",
        },
        "config": BASE64_STANDARD.encode(config.to_string()),
    });
    let body = node.json_file("call.json", &body);
    let data = format!("@{}", body.display());
    let curl = ["curl", "--silent", "--noproxy", "*", "--write-out", "\n%{http_code}"];
    let to = ["--unix-socket", SOCKET, "--data-binary", &data, "http://dummy/cni"];
    let output = node.run(curl.into_iter().chain(to));
    let (text, status) = output.rsplit_once('\n').unwrap();
    (status.to_owned(), serde_json::from_str(text).unwrap_or(Value::Null))
}

#[test]
fn multuss_own_shim_is_served_on_its_socket() {
    let node = node();
    let c1 = node.container("c1");
    let config = json!({ "socketDir": "/host/run/multus/", "chrootDir": "/hostroot", "cniVersion": "0.3.1" });
    let file = node.json_file("daemon-config.json", &config).display().to_string();
    let before = node.snapshot();
    let daemon = start(&node, &["--multus-config", &file]);
    let (status, added) = post(&node, "ADD", &c1, &shim());
    assert_eq!(
        (status.as_str(), &added["Result"]["cniVersion"]),
        ("200", &json!("1.0.0")),
        "{added}"
    );
    assert_eq!(added["Result"]["ips"][0]["address"], "10.1.0.2/24");
    // No version in this form.
    assert!(added["Result"]["ips"][0]["version"].is_null(), "{added}");
    let (status, again) = post(&node, "ADD", &c1, &shim());
    assert_eq!((status.as_str(), &again["code"]), ("400", &json!(999)), "{again}");
    let mut no_network = shim();
    no_network["clusterNetwork"] = "/host/etc/cni/net.d/none.conflist".into();
    let (status, error) = post(&node, "ADD", &node.container("c2"), &no_network);
    assert_eq!(status, "400");
    assert!(error["msg"].as_str().unwrap().contains("/etc/cni/net.d/none.conflist"), "{error}");
    for _ in 0..2 {
        assert_eq!(post(&node, "DEL", &c1, &shim()), ("200".to_owned(), Value::Null));
    }
    assert_eq!((daemon.served("ADD", 0), daemon.served("DEL", 0)), (1, 2));
    for (page, status) in [("healthz", "200"), ("none", "404"), ("cni", "405")] {
        let url = format!("http://dummy/{page}");
        let curl = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"];
        let told = node.run(curl.into_iter().chain(["--unix-socket", SOCKET, &url]));
        assert_eq!(told, status, "{page}");
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    testnode::until("the socket is gone", super::SOON, || {
        (!Path::new(SOCKET).exists()).then_some(())
    });
    assert_same(
        &before,
        &node.snapshot(),
        &shared().catena("multus-cni-network").directory("/run/multus"),
    );
}

#[test]
fn what_is_no_call_is_answered_so_and_only_root_is_served() {
    let node = node();
    let file = node.json_file("daemon-config.json", &json!({})).display().to_string();
    let daemon = start(&node, &["--multus-config", &file]);
    for body in [
        "",
        "[]",
        "{}",
        r#"{"env":{"CNI_COMMAND":"ADD"},"config":"?"}"#,
        r#"{"env":{"CNI_COMMAND":"STATUS"}}"#,
    ] {
        let curl = ["curl", "--silent", "--unix-socket", SOCKET, "--data-binary", body];
        let answer = node.run(curl.into_iter().chain(["http://dummy/cni"]));
        let error: Value =
            serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{body}: {answer}: {e}"));
        assert!(error["code"].is_u64() && error["msg"].is_string(), "{body}: {answer}");
    }
    let curl = ["curl", "--silent", "--unix-socket", SOCKET, "--data-binary", "{}"];
    let status = ["--write-out", "%{http_code}", "http://dummy/delegate"];
    let refused = node.run(curl.into_iter().chain(status));
    assert!(refused.contains("remove multus-dynamic-networks-controller"), "{refused}");
    assert!(refused.ends_with("400"), "{refused}");
    node.run(["chmod", "755", "/run/multus"]);
    node.run(["chmod", "666", SOCKET]);
    let nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
    let curl = ["curl", "--silent", "--unix-socket", SOCKET, "http://dummy/healthz"];
    node.try_run(nobody.into_iter().chain(curl)).failure();
    assert!(daemon.log().contains("not root's"), "{}", daemon.log());
    for config in ["/nowhere.json", "/etc/cni/net.d/10-web.conflist/x"] {
        let run = node.cmd([CATENA, "daemon", "--multus-config", config]).output().failure();
        assert!(run.stderr.contains(config), "{run}");
    }
}

#[test]
fn multuss_configuration_counts_for_its_shims_calls_alone() {
    let node = node();
    let c1 = node.container("c1");
    let config = json!({ "clusterNetwork": "/host/etc/cni/net.d/none.conflist" });
    let file = node.json_file("daemon-config.json", &config).display().to_string();
    let daemon = start(&node, &["--multus-config", &file]);
    let (status, error) = post(&node, "ADD", &c1, &shim());
    assert_eq!(status, "400");
    assert!(error["msg"].as_str().unwrap().contains("/etc/cni/net.d/none.conflist"), "{error}");
    let scripts = Scripts::new(&node);
    let plugin = Plugin::new(&node, &scripts, &[]);
    plugin.add(&c1);
    plugin.del(&c1);
    assert_eq!((daemon.served("ADD", 0), daemon.served("DEL", 0)), (1, 1));
}

#[test]
fn the_shims_name_works_with_and_without_a_daemon() {
    let node = node();
    let c1 = node.container("c1");
    let bin = links(&node, CATENA, &["multus-shim"]);
    let plugins = Plugins::new(&node, [bin]);
    let call = |verb: &str, conf: &Value| -> PluginOutput {
        let call = testnode::Call::of(verb, &Attachment::new(&c1));
        plugins.call("multus-shim", &call, &conf.to_string())
    };
    let before = node.snapshot();
    let add = |conf: &Value| {
        let result = call("ADD", conf).result();
        assert_eq!(
            (&result["cniVersion"], &result["ips"][0]["version"]),
            (&json!("0.3.1"), &json!("4"))
        );
    };
    add(&shim());
    let daemon = start(&node, &[]);
    call("DEL", &shim()).success();
    assert_eq!(daemon.served("DEL", 0), 1);
    add(&shim());
    assert_eq!(daemon.served("ADD", 0), 1);
    drop(daemon);
    call("DEL", &shim()).success();
    // The daemon's configuration says what the shim's does not; it is read where Multus has it.
    let mut conf = shim();
    conf.as_object_mut().unwrap().remove("clusterNetwork");
    let config = json!({ "clusterNetwork": "web", "confDir": "/host/etc/cni/net.d" });
    node.write(DAEMON_CONFIG, &config.to_string());
    add(&conf);
    node.write(DAEMON_CONFIG, "{");
    let error = call("ADD", &conf).error_text();
    assert!(error.contains(DAEMON_CONFIG), "{error}");
    call("DEL", &conf).success();
    assert_same(
        &before,
        &node.snapshot(),
        &shared().catena("multus-cni-network").file("/etc/cni/*"),
    );
}
