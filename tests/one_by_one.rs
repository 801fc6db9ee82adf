//! Catena's plugins where a runtime runs them one by one, and where what it hands them is not what it was.
#![allow(clippy::unwrap_used, reason = "test code")]

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, portmap};
use testnode::{
    Attachment, Call, Catena, HttpServer, Node, PluginOutput, Plugins, Runtime, Shared, Snapshot,
    assert_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const KINDS: [&str; 5] = ["bridge", "portmap", "snat", "host-local", "static"];

fn plugins(node: &Node) -> Plugins<'_> {
    Plugins::new(node, [links(node, CATENA, &KINDS)])
}

/// A bridge that masquerades, a fixed port beside those of the runtime, and an egress of its own.
fn chain() -> Value {
    let mut bridge = bridge("cni0", &["10.1.0.0/24"]);
    bridge["ipMasq"] = json!(true);
    let fixed = json!({
        "type": "portmap", "fixed": true,
        "runtimeConfig": { "portMappings": [{ "hostPort": 9090, "containerPort": 80 }] },
    });
    let snat = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] });
    conflist("web", &[bridge, portmap(), fixed, snat])
}

fn ports() -> Value {
    json!([{ "hostPort": 8080, "containerPort": 80 }])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

fn stdin(prev_result: Value) -> String {
    let mut conf = chain()["plugins"][0].clone();
    conf["name"] = json!("web");
    conf["cniVersion"] = json!("1.1.0");
    conf["prevResult"] = prev_result;
    conf.to_string()
}

#[test]
fn two_plugins_of_one_type_work_beside_each_other() {
    let node = Node::new();
    let c1 = node.container("c1");
    let _server = HttpServer::start(&c1, 80, "c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let runtime = Runtime::new(plugins(&node), chain());
    let attachment = Attachment::new(&c1).capability("portMappings", ports());
    for _ in 0..2 {
        runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        for port in [8080, 9090] {
            let answer = http_get(&node, &format!("http://127.0.0.1:{port}/"));
            assert_eq!(answer.unwrap_or_else(|e| panic!("{port}: {e}")).text, "c1");
        }
        runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn of_masquerade_and_snat_in_one_chain_the_later_policy_counts() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let catena = Catena::new(&node, CATENA);
    let egress = || node.run(["nft", "list", "map", "inet", "catena", "egress4"]);
    let policy = |of: &str| {
        let listing = egress();
        let element = listing.split(&format!("{of} comment")).nth(1);
        let chain = element.and_then(|element| element.split_once("goto ")).map(|(_, chain)| chain);
        let chain = chain.unwrap_or_else(|| panic!("{listing}"));
        let end = chain.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        let chain = &chain[..end.unwrap_or(chain.len())];
        node.run(["nft", "list", "chain", "inet", "catena", chain])
    };
    catena.add(&chain(), &c1);
    assert!(policy("10.1.0.2").contains("ip daddr 10.0.0.0/8 return"));
    catena.check(&chain(), &c1);

    // What is restored is the same.
    node.run(["nft", "flush", "ruleset"]);
    let mut other = chain();
    other["plugins"].as_array_mut().unwrap().truncate(1);
    catena.add(&other, &c2);
    assert!(policy("10.1.0.2").contains("ip daddr 10.0.0.0/8 return"), "{}", egress());
    catena.check(&chain(), &c1);
    catena.check(&other, &c2);
    catena.del(&other, &c2);
    catena.del(&chain(), &c1);
    assert!(!egress().contains("10.1.0"));
}

#[test]
fn del_needs_no_result_that_can_be_understood() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let plugins = plugins(&node);
    let attachment = Attachment::new(&c1);
    for garbage in [json!({ "ips": "garbage" }), json!({ "cniVersion": "9.9.9" }), json!("garbage")]
    {
        let add = plugins.call("bridge", &Call::of("ADD", &attachment), &stdin(Value::Null));
        let result = add.result();
        let check =
            plugins.call("bridge", &Call::of("CHECK", &attachment), &stdin(garbage.clone()));
        assert!([1, 6].contains(&check.error_code()), "{check}");
        plugins.call("bridge", &Call::of("CHECK", &attachment), &stdin(result)).success();
        plugins.call("bridge", &Call::of("DEL", &attachment), &stdin(garbage)).success();
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}

/// What a namespace was mounted on stays as a plain file when it is unmounted and not removed.
#[test]
fn del_takes_a_plain_file_for_a_namespace_that_is_gone() {
    let node = Node::new();
    let file = node.fresh_path("netns");
    std::fs::write(&file, "").unwrap();
    let plugins = plugins(&node);
    let c1 = node.container("c1");
    let before = node.snapshot();
    let mut attachment = Attachment::new(&c1);
    plugins.call("bridge", &Call::of("ADD", &attachment), &stdin(Value::Null)).success();
    // Nothing but the lease and the interface is left to go by.
    node.run(["sh", "-c", "rm -r /var/lib/catena/*"]);
    attachment.netns = file.display().to_string();
    plugins.call("bridge", &Call::of("DEL", &attachment), &stdin(Value::Null)).success();
    assert_same(&before, &node.snapshot(), &shared());
    let add = plugins.call("bridge", &Call::of("ADD", &attachment), &stdin(Value::Null));
    assert_eq!(add.error_code(), 8, "{add}");
}

#[test]
fn a_port_whose_namespace_was_named_by_a_relative_path_is_not_taken_over() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let plugins = plugins(&node);
    let runtime = Runtime::new(plugins, chain());
    let port = |attachment: Attachment| attachment.capability("portMappings", ports());
    let path = c1.path().strip_prefix("/").unwrap().display().to_string();
    let mut relative = port(Attachment::new(&c1));
    relative.netns = relative_to_cwd(&path);
    runtime.add(&relative).unwrap_or_else(|e| panic!("{e}"));
    let stored = node.run(["sh", "-c", "cat /var/lib/catena/attachments/web/*bridge.json"]);
    let record: Value = serde_json::from_str(stored.lines().next().unwrap()).unwrap();
    assert!(record["netns"].as_str().unwrap().starts_with('/'), "{record}");
    let second = runtime.add(&port(Attachment::new(&c2))).unwrap_err();
    assert!(second.output.error_text().contains("is held by"), "{second}");
}

/// The path from the working directory to what stands at `path` under the root.
fn relative_to_cwd(path: &str) -> String {
    let depth = std::env::current_dir().unwrap().components().count() - 1;
    format!("{}{path}", "../".repeat(depth))
}

#[test]
fn ports_of_a_pod_that_the_node_has_no_way_to_pass_check() {
    let node = Node::new();
    let c1 = node.container("c1");
    let before = node.snapshot();
    let ipam = json!({ "type": "static", "addresses": [{ "address": "10.8.0.5/24" }] });
    let bridge = json!({ "type": "bridge", "bridge": "cni0", "ipam": ipam });
    let runtime = Runtime::new(plugins(&node), conflist("web", &[bridge, portmap()]));
    let attachment = Attachment::new(&c1).capability("portMappings", ports());
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn an_empty_cni_command_is_none() {
    let node = Node::new();
    let bin = links(&node, CATENA, &["bridge"]);
    let run = node.cmd([&bin.join("bridge")]).env("CNI_COMMAND", "").output();
    let output = PluginOutput::from(run);
    assert_eq!(output.code, 0, "{output}");
    assert!(output.stdout.is_empty() && output.stderr.contains("1.1.0"), "{output}");
}

#[test]
fn the_nodes_own_namespace_is_used_only_where_that_is_meant() {
    let node = Node::new();
    let before = node.snapshot();
    let bin = links(&node, CATENA, &KINDS);
    let call = |verb: &str, meant: &str| {
        let run = node
            .cmd([bin.join("bridge")])
            .env_clear()
            .stdin(stdin(Value::Null))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", "own")
            .env("CNI_IFNAME", "own0")
            .env("CNI_NETNS", "/proc/self/ns/net")
            .env("CNI_PATH", &bin)
            .env("CNI_NETNS_OVERRIDE", meant);
        PluginOutput::from(run.output())
    };
    for (verb, meant) in [("ADD", ""), ("ADD", "0"), ("DEL", "")] {
        assert_eq!(call(verb, meant).error_code(), 8, "{verb}");
        assert_same(&before, &node.snapshot(), &shared());
    }
    for meant in ["1", "true"] {
        let result = call("ADD", meant).result();
        assert_eq!(result["interfaces"][2]["name"], "own0");
        call("DEL", meant).success();
        assert_same(&before, &node.snapshot(), &shared());
    }
}
