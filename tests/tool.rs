//! The tool takes what users of cnitool type, and answers scripts and people each in their way.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;

use serde_json::{Value, json};
use testnode::conf::conflist;
use testnode::{Catena, Node, Output, PluginOutput, Scripts};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// A plugin whose ADD returns an address, in `CNI_PATH`.
fn scripts(node: &Node) -> Scripts<'_> {
    let scripts = Scripts::new(node);
    scripts.plugin(
        "show",
        r#"[ $CNI_COMMAND = ADD ] || exit 0
        printf '{"cniVersion":"1.0.0","interfaces":[{"name":"%s","sandbox":"%s"}],' $CNI_IFNAME $CNI_NETNS
        printf '"ips":[{"address":"10.1.0.2/24","gateway":"10.1.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}]}'"#,
    );
    scripts
}

fn show(name: &str) -> Value {
    conflist(name, &[json!({ "type": "show", "capabilities": { "bandwidth": true } })])
}

fn catena<'n>(node: &'n Node, scripts: &Scripts<'_>) -> Catena<'n> {
    Catena::new(node, CATENA).cni_path(scripts.dir())
}

#[track_caller]
fn error(output: Output, code: u64) -> String {
    let output = PluginOutput::from(output);
    assert_eq!(output.error_code(), code, "{output}");
    output.error_text()
}

#[test]
fn a_network_is_named_by_its_file_or_by_its_name_in_netconfpath() {
    let node = Node::new();
    let scripts = scripts(&node);
    let c1 = node.container("c1");
    let dir = node.dir("net.d");
    node.write(dir.join("10-web.conflist"), &show("web").to_string());
    node.write(
        dir.join("20-single.conf"),
        &json!({ "cniVersion": "1.0.0", "name": "single", "type": "show" }).to_string(),
    );
    let catena = catena(&node, &scripts).env("NETCONFPATH", &dir);
    let netns = c1.path().to_str().unwrap();

    for network in ["web", "single", &dir.join("10-web.conflist").to_string_lossy()] {
        let result = catena.cmd(["add", network, netns]).output().json();
        assert_eq!(result["ips"][0]["address"], "10.1.0.2/24", "{network}");
        assert_eq!(result["interfaces"][0], json!({ "name": "eth0", "sandbox": netns }));
        catena.cmd(["check", network, netns]).output().success();
        assert_eq!(catena.cmd(["del", network, netns]).output().success(), "");
    }
    assert_eq!(scripts.stdin("show", "DEL")["name"], "web");
    // The flag, from any directory; and a file by its name alone where one stands.
    let by_flag = Catena::new(&node, CATENA).cni_path(scripts.dir());
    let dir_flag = ["status", "web", "--conf-dir", dir.to_str().unwrap()];
    by_flag.cmd(dir_flag).output().success();
    by_flag.cmd(["status", "10-web.conflist"]).current_dir(&dir).output().success();
    let text = error(by_flag.cmd(["status", "web"]).output(), 7);
    assert!(text.contains("/etc/cni/net.d"), "the default folder is named: {text}");
}

#[test]
fn one_bad_file_does_not_hide_the_good_ones() {
    let node = Node::new();
    let scripts = scripts(&node);
    let c1 = node.container("c1");
    let dir = node.dir("net.d");
    node.write(dir.join("00-broken.conflist"), "{ \"name\": ");
    node.write(dir.join("10-web.conflist"), &show("web").to_string());
    let catena = catena(&node, &scripts).env("NETCONFPATH", &dir);
    catena.cmd(["add", "web", c1.path().to_str().unwrap()]).output().json();
    // Who looks for what may be in the broken one is told of it.
    let text = error(catena.cmd(["status", "db"]).output(), 7);
    for part in ["no network \"db\"", "it has web", "00-broken.conflist", "line 1 column"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn a_namespace_is_named_by_its_path_or_as_ip_netns_knows_it() {
    let node = Node::new();
    let scripts = scripts(&node);
    let c1 = node.container("c1");
    let file = node.json_file("web.conflist", &show("web"));
    let catena = catena(&node, &scripts);
    catena.cmd(["add", file.to_str().unwrap(), "c1"]).output().json();
    assert_eq!(scripts.env("show", "ADD", "CNI_NETNS"), "/run/netns/c1");
    let by_name = scripts.env("show", "ADD", "CNI_CONTAINERID");
    // cnitool's own id: what one of them did the other undoes.
    let digest = node.run(["sh", "-c", "printf /run/netns/c1 | sha512sum"]);
    assert_eq!(by_name, format!("cnitool-{}", &digest[..20]));
    catena.cmd(["del", file.to_str().unwrap(), c1.path().to_str().unwrap()]).output().success();
    assert_eq!(scripts.env("show", "DEL", "CNI_CONTAINERID"), by_name);
}

#[test]
fn what_cnitool_takes_by_variables_is_taken_by_variables_and_by_flags() {
    let node = Node::new();
    let scripts = scripts(&node);
    let _c1 = node.container("c1");
    let file = node.json_file("web.conflist", &show("web"));
    let file = file.to_str().unwrap();
    let rates = json!({ "bandwidth": { "ingressRate": 8000 }, "portMappings": [] });
    let expect = |rate: u32| {
        let stdin = scripts.stdin("show", "ADD");
        // Only what the plugin declares.
        assert_eq!(stdin["runtimeConfig"], json!({ "bandwidth": { "ingressRate": rate } }));
        ["CNI_IFNAME", "CNI_ARGS", "CNI_CONTAINERID"].map(|name| scripts.env("show", "ADD", name))
    };

    let by_variables = catena(&node, &scripts)
        .cap_args(&rates)
        .cni_args("A=1;B=2")
        .ifname("net1")
        .env("CNI_CONTAINERID", "pod-1");
    by_variables.cmd(["add", file, "c1"]).output().json();
    assert_eq!(expect(8000), ["net1", "A=1;B=2", "pod-1"]);

    // A flag wins over its variable.
    let path = scripts.dir().to_str().unwrap();
    let flags = ["--ifname", "net2", "--args", "C=3", "--container-id", "pod-2"];
    let cap_args = ["--cap-args", r#"{"bandwidth":{"ingressRate":9000}}"#, "--cni-path", path];
    let by_flags = by_variables.env("CNI_PATH", "/nowhere");
    by_flags.cmd([&["add", file, "c1"][..], &flags, &cap_args].concat()).output().json();
    assert_eq!(expect(9000), ["net2", "C=3", "pod-2"]);
}

#[test]
fn the_result_is_json_in_a_pipe_and_a_table_on_a_terminal() {
    let node = Node::new();
    let scripts = scripts(&node);
    let _c1 = node.container("c1");
    let file = node.json_file("web.conflist", &show("web"));
    let file = file.to_str().unwrap();
    let catena = catena(&node, &scripts);
    let on_terminal = |words: &str| {
        let line = format!("{CATENA} {words}");
        node.cmd(["script", "--quiet", "--return", "--command", &line, "/dev/null"])
            .env("CNI_PATH", scripts.dir())
            .output()
    };

    let piped = catena.cmd(["add", file, "c1"]).output();
    assert_eq!(piped.stderr, "");
    assert_eq!(piped.json()["cniVersion"], "1.1.0");
    catena.cmd(["del", file, "c1"]).output().success();

    let table = on_terminal(&format!("add {file} c1")).success();
    assert!(serde_json::from_str::<Value>(&table).is_err(), "{table}");
    for part in ["INTERFACE", "eth0", "10.1.0.2/24", "0.0.0.0/0", "10.1.0.1"] {
        assert!(table.contains(part), "{part} is missing in\n{table}");
    }
    on_terminal(&format!("del {file} c1")).success();
    // Either where the other one would be printed.
    on_terminal(&format!("add --output json {file} c1")).json();
    catena.cmd(["del", file, "c1"]).output().success();
    let table = catena.cmd(["add", "--output", "table", file, "c1"]).output().success();
    assert!(table.starts_with("INTERFACE") || table.contains(" INTERFACE"), "{table}");
    // A sentence for people; the object would only be noise.
    let failed = on_terminal(&format!("add {file} c1")).failure();
    assert!(failed.stdout.starts_with("catena: "), "{failed}");
    assert!(!failed.stdout.contains("\"code\""), "{failed}");
}

#[test]
fn a_failure_is_an_error_object_and_an_exit_code() {
    let node = Node::new();
    let scripts = scripts(&node);
    let catena = catena(&node, &scripts);
    let failed = catena.cmd(["add", "/nowhere.conflist", "c1"]).output();
    assert_eq!(failed.code(), 1, "{failed}");
    assert!(failed.stderr.starts_with("catena: "), "{failed}");
    let text = error(failed, 5);
    assert!(text.contains("/nowhere.conflist"), "{text}");
    let text = error(catena.cmd(["del", "/nowhere.conflist", "c1"]).output(), 5);
    assert!(text.contains("/nowhere.conflist: No such file"), "{text}");
    // A wrong command line is told by its own exit code, with nothing for a script to read as a result.
    for wrong in [&["add"][..], &["ad", "web", "c1"], &["add", "web", "c1", "--colour"]] {
        let failed = catena.cmd(wrong).output();
        assert_eq!((failed.code(), failed.stdout.as_str()), (2, ""), "{failed}");
        assert!(failed.stderr.contains("Usage"), "{failed}");
    }
    let keep = catena.gc(&show("web"), &["--keep", "pod-1"]);
    assert!(error(keep, 4).contains("CONTAINERID/IFNAME"));
}

#[test]
fn cnitools_way_to_call_gc_and_status_is_taken() {
    let node = Node::new();
    let scripts = scripts(&node);
    let _c1 = node.container("c1");
    let file = node.json_file("web.conflist", &show("web"));
    // The plugins are asked to collect only where somebody says what is to stay.
    for verb in ["gc", "status"] {
        let words = [verb, file.to_str().unwrap(), "/run/netns/c1"];
        assert_eq!(catena(&node, &scripts).cmd(words).output().success(), "");
    }
    assert_eq!(scripts.calls(), ["STATUS show"]);
}

#[test]
fn verbose_tells_the_time_of_each_step_on_standard_error() {
    let node = Node::new();
    let scripts = scripts(&node);
    scripts.device("mark");
    let _c1 = node.container("c1");
    let chain = conflist("web", &[json!({ "type": "show" }), json!({ "type": "mark" })]);
    let file = node.json_file("web.conflist", &chain);
    let output =
        catena(&node, &scripts).cmd(["--verbose", "add", file.to_str().unwrap(), "c1"]).output();
    for delegate in ["show", "mark"] {
        let step = format!("step: ADD/{delegate} ");
        let told = |line: &str| line.contains(&step) && line.contains(" ms ");
        assert!(output.stderr.lines().any(told), "{output}");
    }
    output.json();
    assert!(Path::new("/sys/class/net/mark").exists());
}

#[test]
fn version_tells_of_the_specification_the_binary_and_its_plugins() {
    let node = Node::new();
    let version = Catena::new(&node, CATENA).cmd(["version"]).output().json();
    let spoken = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
    assert_eq!(version["supportedVersions"], json!(spoken));
    assert_eq!(version["catena"], env!("CARGO_PKG_VERSION"));
    let plugins = version["plugins"].as_array().unwrap();
    for plugin in ["host-local", "static", "catena"] {
        assert!(plugins.contains(&json!(plugin)), "{plugin} is missing in {version}");
    }
}
