//! The meta plugin runs a whole chain, its own or a network's, as one plugin.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, port_and_rates, portmap};
use testnode::{
    Attachment, Catena, HttpServer, Node, Output, PluginOutput, Plugins, Runtime, Scripts, Shared,
    Snapshot, assert_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn snat() -> Value {
    json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] })
}

/// The meta plugin with these fields, declaring that it hands on ports.
fn meta(fields: Value) -> Value {
    let mut plugin = json!({ "type": "catena", "capabilities": { "portMappings": true } });
    for (key, value) in fields.as_object().unwrap() {
        plugin[key] = value.clone();
    }
    plugin
}

fn inline(plugins: &[Value]) -> Value {
    meta(json!({ "plugins": plugins }))
}

fn tool(node: &Node) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(8080))
}

fn shared() -> Shared {
    Shared::none().catena("web").catena("db").device("cni0")
}

#[track_caller]
fn error(output: Output) -> (u64, String) {
    let output = PluginOutput::from(output);
    (output.error_code(), output.error_text())
}

/// ADD, a page through the port, CHECK and DEL of a chain; the result is that of the plain chain.
#[track_caller]
fn serves(node: &Node, catena: &Catena<'_>, list: &Value) {
    let before = node.snapshot();
    let c1 = node.container("c1");
    let inside = Snapshot::of(&c1);
    let _server = HttpServer::start(&c1, 80, "page");
    let result = catena.add(list, &c1);
    let names: Vec<_> =
        result["interfaces"].as_array().unwrap().iter().map(|i| &i["name"]).collect();
    assert_eq!(
        (names.len(), names[0], names[2]),
        (3, &json!("cni0"), &json!("eth0")),
        "{result:#}"
    );
    assert!(result["ips"][0]["address"].as_str().unwrap().starts_with("10.1.0."), "{result:#}");
    assert_eq!(result["ips"][0]["interface"], 2);
    assert_eq!(http_get(node, "http://127.0.0.1:8080/").unwrap().text, "page");
    catena.check(list, &c1);
    catena.del(list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    catena.del(list, &c1);
    c1.delete();
}

#[test]
fn its_chain_is_inline_or_a_networks_by_name_or_by_file() {
    let node = Node::new();
    let chain = [bridge("cni0", &DUAL), portmap(), snat()];
    let dir = node.dir("net.d");
    let file = dir.join("10-db.conflist");
    node.write(&file, &conflist("db", &chain).to_string());
    serves(&node, &tool(&node), &conflist("web", &[inline(&chain)]));
    let by_name = meta(json!({ "clusterNetwork": "db", "confDir": dir }));
    serves(&node, &tool(&node), &conflist("web", &[by_name]));
    let by_file = meta(json!({ "clusterNetwork": file }));
    serves(&node, &tool(&node), &conflist("web", &[by_file]));
    // Where runtimes look, where it says nothing.
    node.write("/etc/cni/net.d/10-db.conflist", &conflist("db", &chain).to_string());
    let by_default = meta(json!({ "clusterNetwork": "db" }));
    serves(&node, &tool(&node), &conflist("web", &[by_default]));
}

#[test]
fn it_stands_in_a_chain_before_or_after_others_or_in_another_one() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.device("mark");
    let catena = tool(&node).cni_path(scripts.dir());
    let mark = json!({ "type": "mark" });
    let bridge = bridge("cni0", &DUAL);
    for chain in [
        vec![inline(std::slice::from_ref(&bridge)), mark.clone(), portmap(), snat()],
        vec![bridge.clone(), mark.clone(), inline(&[portmap(), snat()])],
        vec![inline(&[bridge.clone(), mark.clone()]), inline(&[portmap()]), snat()],
        vec![inline(&[inline(&[bridge.clone(), inline(std::slice::from_ref(&mark))]), portmap()])],
    ] {
        serves(&node, &catena, &conflist("web", &chain));
        // The foreign one got what the chain had done before it, inside or outside.
        assert_eq!(scripts.stdin("mark", "ADD")["prevResult"]["interfaces"][0]["name"], "cni0");
    }
}

#[test]
fn a_runtime_executes_it_as_it_executes_any_plugin() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let dir = links(&node, CATENA, &["catena", "portmap"]);
    let list = conflist("web", &[inline(&[bridge("cni0", &DUAL), snat()]), portmap()]);
    let runtime = Runtime::new(Plugins::new(&node, [dir]), list);
    let mappings = port_and_rates(8080)["portMappings"].clone();
    let attachment = Attachment::new(&c1).capability("portMappings", mappings);
    let _server = HttpServer::start(&c1, 80, "page");
    let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
    assert_eq!(http_get(&node, "http://127.0.0.1:8080/").unwrap().text, "page");
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.status().unwrap_or_else(|e| panic!("{e}"));
    runtime.gc(std::slice::from_ref(&attachment)).unwrap_or_else(|e| panic!("{e}"));
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());

    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn runtime_config_reaches_those_that_declare_the_capability() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    for name in ["ports", "rates", "plain"] {
        scripts.plugin(name, "[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"cniVersion\":\"1.1.0\"}'");
    }
    let c1 = node.container("c1");
    let plugin = |name: &str, capability: &str| json!({ "type": name, "capabilities": { capability: true } });
    let inner =
        [plugin("ports", "portMappings"), plugin("rates", "bandwidth"), plugin("plain", "none")];
    let mut outer = inline(&inner);
    outer["capabilities"]["bandwidth"] = json!(true);
    let args = port_and_rates(8080);
    tool(&node).cni_path(scripts.dir()).add(&conflist("web", &[outer]), &c1);
    let told = |name: &str| scripts.stdin(name, "ADD")["runtimeConfig"].clone();
    assert_eq!(told("ports"), json!({ "portMappings": args["portMappings"] }));
    assert_eq!(told("rates"), json!({ "bandwidth": args["bandwidth"] }));
    assert_eq!(told("plain"), Value::Null);

    // What the meta plugin itself does not declare it does not get, and has not to hand on.
    let c2 = node.container("c2");
    tool(&node).cni_path(scripts.dir()).add(&conflist("web", &[inline(&inner)]), &c2);
    assert_eq!(told("ports"), json!({ "portMappings": args["portMappings"] }));
    assert_eq!(told("rates"), Value::Null);
}

#[test]
fn a_network_that_names_itself_is_refused_and_leaves_nothing() {
    let node = Node::new();
    let c1 = node.container("c1");
    let dir = node.dir("net.d");
    let named = |network: &str| meta(json!({ "clusterNetwork": network, "confDir": dir }));
    let own = dir.join("10-self.conflist");
    node.write(&own, &conflist("self", &[bridge("cni0", &DUAL), named("self")]).to_string());
    node.write(
        dir.join("20-a.conflist"),
        &conflist("a", &[bridge("cni0", &DUAL), named("b")]).to_string(),
    );
    node.write(dir.join("30-b.conflist"), &conflist("b", &[inline(&[named("a")])]).to_string());
    let path = dir.join("40-path.conflist");
    node.write(&path, &conflist("path", &[named(path.to_str().unwrap())]).to_string());
    let before = node.snapshot();
    let catena = tool(&node).env("NETCONFPATH", &dir);
    for (network, way) in
        [("self", "self"), ("a", "b → a"), ("b", "a → b"), ("path", "40-path.conflist")]
    {
        let (code, text) =
            error(catena.cmd(["add", network, c1.path().to_str().unwrap()]).output());
        assert_eq!(code, 7);
        assert!(text.contains("names itself") && text.contains(way), "{text}");
        let shared = ["self", "a", "b", "path"].iter().fold(shared(), |all, name| all.catena(name));
        assert_same(&before, &node.snapshot(), &shared);
        error(catena.cmd(["status", network]).output());
    }
}

#[test]
fn what_it_cannot_use_is_told() {
    let node = Node::new();
    let c1 = node.container("c1");
    let before = node.snapshot();
    for (plugin, code, parts) in [
        (json!({}), 11, ["neither plugins", "/etc/cni/net.d has no network"]),
        (json!({ "plugins": [], "clusterNetwork": "db" }), 7, ["both given", "keep one"]),
        (json!({ "plugins": [] }), 7, ["plugins", "empty"]),
        (json!({ "plugins": [{ "type": "../x" }] }), 7, ["\"../x\"", "not a path"]),
        (json!({ "plugins": {} }), 6, ["field plugins", "sequence"]),
        (json!({ "clusterNetwork": "db" }), 7, ["no network \"db\"", "/etc/cni/net.d"]),
        (json!({ "clusterNetwork": "/absent.conflist" }), 5, ["/absent.conflist", "No such file"]),
    ] {
        let (got, text) = error(tool(&node).try_add(&conflist("web", &[meta(plugin)]), &c1));
        assert_eq!(got, code, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert_same(&before, &node.snapshot(), &shared());
    }
}

#[test]
fn a_delegate_that_fails_inside_rolls_back_inside_and_outside() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.device("mark");
    scripts.plugin(
        "fail",
        "[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"code\":117,\"msg\":\"no luck\"}'; exit 1",
    );
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let catena = tool(&node).cni_path(scripts.dir());
    let inner = inline(&[portmap(), json!({ "type": "fail" })]);
    let list = conflist("web", &[bridge("cni0", &DUAL), json!({ "type": "mark" }), inner]);
    let (code, text) = error(catena.try_add(&list, &c1));
    assert_eq!(code, 117);
    assert!(
        text.contains("delegate 3 of 3 failed: catena: delegate 2 of 2 failed: fail: no luck"),
        "{text}"
    );
    assert_eq!(scripts.calls(), ["ADD mark", "ADD fail", "DEL fail", "DEL mark"]);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}

#[test]
fn del_works_with_the_named_network_and_its_own_configuration_gone() {
    let node = Node::new();
    let dir = node.dir("net.d");
    let db = dir.join("10-db.conflist");
    let chain = conflist("db", &[bridge("cni0", &DUAL), portmap(), snat()]).to_string();
    let by_name = conflist("web", &[meta(json!({ "clusterNetwork": "db", "confDir": dir }))]);
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["catena"])]);
    let runtime = Runtime::new(plugins, by_name.clone());
    let before = node.snapshot();

    let c1 = node.container("c1");
    let inside = Snapshot::of(&c1);
    node.write(&db, &chain);
    tool(&node).add(&by_name, &c1);
    fs::remove_file(&db).unwrap();
    let (_, text) = error(tool(&node).try_add(&by_name, &node.container("c2")));
    assert!(text.contains("clusterNetwork of network web: no network \"db\""), "{text}");
    tool(&node).del(&by_name, &c1);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());

    let attachment = Attachment::new(&c1);
    node.write(&db, &chain);
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    fs::remove_file(&db).unwrap();
    runtime.del(&attachment.without_netns()).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
}

/// A runtime calls DEL after an ADD that failed, and tries until it succeeds.
#[test]
fn del_of_what_could_not_be_added_succeeds() {
    let node = Node::new();
    let dir = node.dir("net.d");
    let (before, c1) = (node.snapshot(), node.container("c1"));
    for broken in [
        json!({ "clusterNetwork": "gone", "confDir": dir }),
        json!({ "clusterNetwork": "/nowhere.conflist" }),
        json!({ "plugins": [{ "type": "a/b" }] }),
        json!({ "plugins": [] }),
        json!({}),
    ] {
        let list = conflist("web", &[meta(broken)]);
        let nested = conflist("web", &[inline(&[list["plugins"][0].clone()])]);
        for list in [list, nested] {
            let plugins = Plugins::new(&node, [links(&node, CATENA, &["catena"])]);
            let runtime = Runtime::new(plugins, list.clone());
            let attachment = Attachment::new(&c1);
            runtime.add(&attachment).unwrap_err();
            runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
            tool(&node).try_add(&list, &c1).failure();
            tool(&node).del(&list, &c1);
            assert_same(&before, &node.snapshot(), &shared());
        }
    }
}

#[test]
fn gc_of_one_of_two_networks_that_share_a_chain_leaves_the_others_leases() {
    let node = Node::new();
    let dir = node.dir("net.d");
    let db = conflist("db", &[bridge("cni0", &DUAL), portmap()]);
    node.write(dir.join("10-db.conflist"), &db.to_string());
    let web = conflist("web", &[meta(json!({ "clusterNetwork": "db", "confDir": dir }))]);
    let (c1, d1) = (node.container("c1"), node.container("d1"));
    tool(&node).add(&web, &c1);
    Catena::new(&node, CATENA).add(&db, &d1);
    let before = node.snapshot();
    for list in [&web, &db] {
        tool(&node).gc(list, &[]).success();
        assert_same(&before, &node.snapshot(), &Shared::none().device("cni0"));
    }
    tool(&node).gc(&web, &["--all"]).success();
    Catena::new(&node, CATENA).check(&db, &d1);
    tool(&node).add(&web, &c1);
    tool(&node).gc(&db, &["--all"]).success();
    tool(&node).check(&web, &c1);
}

/// Other software drops its plugin into a folder; it is to see each container, and change nothing of the cluster network.
#[test]
fn others_plugins_run_beside_the_cluster_network_and_are_undone_with_it() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.plugin("vendor", "[ $CNI_COMMAND = ADD ] || exit 0\necho '{\"cniVersion\":\"1.1.0\"}'");
    let dir = node.dir("net.d");
    let file = dir.join("10-db.conflist");
    node.write(&file, &conflist("db", &[bridge("cni0", &DUAL)]).to_string());
    node.write(dir.join("vendors/10-vendor.conf"), &json!({ "type": "vendor" }).to_string());
    let carrier = meta(json!({ "clusterNetwork": file, "auxiliaryCNIChainName": "vendors" }));
    let plugins =
        Plugins::new(&node, [links(&node, CATENA, &["catena"]), scripts.dir().to_owned()]);
    let runtime = Runtime::new(plugins, conflist("web", &[carrier]));
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let attachment = Attachment::new(&c1);
    let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 3, "{result:#}");
    let told = scripts.stdin("vendor", "ADD");
    assert_eq!(
        (&told["name"], &told["prevResult"]),
        (&json!("vendors"), &json!({ "cniVersion": "1.1.0" }))
    );
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(scripts.calls(), ["ADD vendor", "CHECK vendor", "DEL vendor"]);
    assert_same(
        &before,
        &node.snapshot(),
        &shared().catena("vendors").directory("/var/lib/catena/pods"),
    );
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}

#[test]
fn the_nodes_master_is_taken_as_soon_as_it_is_there_and_followed() {
    let node = Node::new();
    let dir = node.dir("net.d");
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["catena"])]);
    let runtime = Runtime::new(plugins, conflist("web", &[meta(json!({ "confDir": dir }))]));
    let c1 = node.container("c1");
    let attachment = Attachment::new(&c1);
    let code =
        |failed: Result<(), testnode::PluginFailure>| failed.unwrap_err().output.error_code();
    // STATUS has a code of its own for what is not there yet.
    assert_eq!(code(runtime.add(&attachment).map(drop)), 11);
    assert_eq!(code(runtime.status()), 50);
    for (file, device) in [("20-first.conflist", "cni1"), ("10-before.conflist", "cni2")] {
        node.write(dir.join(file), &conflist("db", &[bridge(device, &DUAL)]).to_string());
        runtime.status().unwrap_or_else(|e| panic!("{e}"));
        let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(result["interfaces"][0]["name"], device, "{result:#}");
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    }
}
