//! Ports and addresses belong to one attachment, and nobody takes what is another's.
#![allow(clippy::unwrap_used, reason = "test code")]

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, host_local, portmap};
use testnode::{
    Attachment, Catena, Container, HttpServer, Node, Output, PluginOutput, Plugins, Runtime,
    Shared, Snapshot, assert_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn web() -> Value {
    let snat = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] });
    conflist("web", &[bridge("cni0", &DUAL), portmap(), snat])
}

fn db() -> Value {
    let ptp = json!({ "type": "ptp", "ipam": host_local(&["10.2.0.0/24"]) });
    conflist("db", &[ptp, portmap()])
}

fn port(protocol: &str, port: u16) -> Value {
    json!({ "hostPort": port, "containerPort": 80, "protocol": protocol })
}

fn catena<'n>(node: &'n Node, ports: &[Value]) -> Catena<'n> {
    Catena::new(node, CATENA).cap_args(&json!({ "portMappings": ports }))
}

fn shared() -> Shared {
    Shared::none().catena("web").catena("db").device("cni0")
}

#[track_caller]
fn error(output: Output) -> (u64, String) {
    let output = PluginOutput::from(output);
    (output.error_code(), output.error_text())
}

/// What the node's port 8080 leads to.
#[track_caller]
fn page(node: &Node) -> String {
    http_get(node, "http://127.0.0.1:8080/").unwrap_or_else(|e| panic!("{e}")).text
}

#[test]
fn a_port_asked_for_twice_in_one_request_is_refused() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let any = json!({ "hostPort": 8080, "containerPort": 81, "hostIP": "0.0.0.0" });
    for ports in [[port("tcp", 8080), port("TCP", 8080)], [port("tcp", 8080), any]] {
        let (code, text) = error(catena(&node, &ports).try_add(&web(), &c1));
        assert_eq!(code, 7);
        assert!(text.contains("delegate 2 of 3 failed: portmap: "), "{text}");
        assert!(text.contains("twice for tcp port 8080"), "{text}");
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
    // One port of two protocols is two ports.
    let both = catena(&node, &[port("tcp", 8080), port("udp", 8080)]);
    both.add(&web(), &c1);
    both.check(&web(), &c1);
    both.del(&web(), &c1);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_port_of_a_living_attachment_stays_its_also_after_the_ruleset_was_flushed() {
    let node = Node::new();
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(|name| node.container(name));
    let first = catena(&node, &[port("tcp", 8080)]).env("CNI_CONTAINERID", "pod-1");
    first.add(&web(), &c1);
    let before = node.snapshot();
    node.run(["nft", "flush", "ruleset"]);
    let (code, text) = error(catena(&node, &[port("tcp", 8080)]).try_add(&web(), &c2));
    assert_eq!(code, 11, "{text}");
    assert!(text.contains("container pod-1 has it"), "{text}");
    // One that asks for another brings all of them back.
    catena(&node, &[port("tcp", 9090)]).add(&web(), &c3);
    first.check(&web(), &c1);
    catena(&node, &[]).del(&web(), &c3);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn an_address_is_whose_lease_is_the_latest_also_after_the_ruleset_was_flushed() {
    let node = Node::new();
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(|name| node.container(name));
    let mut only = bridge("cni0", &[]);
    only["ipMasq"] = json!(true);
    only["ipam"] = host_local(&[]);
    only["ipam"]["ranges"] =
        json!([[{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.3" }]]);
    let list = conflist("web", &[only, json!({ "type": "firewall" })]);
    let catena = |id: &str| catena(&node, &[]).env("CNI_CONTAINERID", id);
    catena("pod-1").add(&list, &c1);
    // Somebody takes the lease away, and the address is given out once more.
    node.run(["sh", "-c", "rm /var/lib/cni/networks/web/10.1.0.2 /var/lib/cni/networks/web/last*"]);
    testnode::until("the next second", std::time::Duration::from_secs(10), || {
        let created = "stat -c %Y /var/lib/catena/attachments/web/*.json";
        let then = node.run(["sh", "-c", created]);
        (node.run(["date", "+%s"]).trim() > then.trim()).then_some(())
    });
    let result = catena("pod-2").add(&list, &c2);
    assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
    let owners = || {
        let rules = node.run(["nft", "list", "table", "inet", "catena"]);
        ["pod-1", "pod-2"].map(|id| rules.matches(&format!("web {id}/eth0")).count())
    };
    assert_eq!(owners(), [0, 2], "forwarding and masquerade");
    catena("x").cmd(["repair"]).output().failure();
    assert_eq!(owners(), [0, 2]);
    node.run(["nft", "flush", "ruleset"]);
    catena("pod-3").add(&list, &c3);
    assert_eq!(owners(), [0, 2]);
    catena("pod-1").del(&list, &c1);
    assert_eq!(owners(), [0, 2]);
}

#[test]
fn a_port_of_a_living_attachment_is_refused_and_the_error_names_the_holder() {
    for other in [web(), db()] {
        let node = Node::new();
        let (c1, c2) = (node.container("c1"), node.container("c2"));
        let _server = HttpServer::start(&c1, 80, "first");
        let first = catena(&node, &[port("tcp", 8080)]).env("CNI_CONTAINERID", "pod-1");
        first.add(&web(), &c1);
        let (before, inside) = (node.snapshot(), Snapshot::of(&c2));

        let second = catena(&node, &[port("udp", 8080), port("tcp", 8080)]);
        let (code, text) = error(second.try_add(&other, &c2));
        assert_eq!(code, 11, "it may be on its way out: {text}");
        let holder = "container pod-1 has it by interface eth0 on network web";
        for part in ["8080", holder, "/run/netns/c1", "choose another port"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c2), &Shared::none());
        assert_eq!(page(&node), "first");
        first.check(&web(), &c1);
    }
}

#[test]
fn a_port_is_free_once_its_attachment_is_deleted() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let _servers = [HttpServer::start(&c1, 80, "first"), HttpServer::start(&c2, 80, "second")];
    let catena = catena(&node, &[port("tcp", 8080)]);
    catena.add(&web(), &c1);
    assert_eq!(page(&node), "first");
    catena.del(&web(), &c1);
    catena.add(&db(), &c2);
    assert_eq!(page(&node), "second");
}

#[test]
fn a_port_whose_namespace_is_gone_is_taken_over_and_a_late_del_removes_nothing() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let start = node.snapshot();
    let _server = HttpServer::start(&c2, 80, "second");
    let catena = catena(&node, &[port("tcp", 8080)]);
    catena.add(&web(), &c1);
    let path = c1.path().to_owned();
    c1.delete();
    catena.add(&db(), &c2);
    assert_eq!(page(&node), "second");
    let before = ports(&node);
    assert_eq!(before.len(), 1, "{before:?}");

    catena.try_del(&web(), &path).success();
    assert_eq!(ports(&node), before);
    assert_eq!(page(&node), "second");
    catena.check(&db(), &c2);
    catena.del(&db(), &c2);
    assert_same(&start, &node.snapshot(), &shared());
}

/// The elements that are ports.
fn ports(node: &Node) -> Vec<String> {
    let snapshot = node.snapshot();
    let elements = snapshot.section("nft").keys();
    elements.filter(|name| name.contains("element hostports4 ")).cloned().collect()
}

#[test]
fn the_same_holds_where_a_runtime_executes_each_plugin() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let start = node.snapshot();
    let _server = HttpServer::start(&c2, 80, "second");
    let dir = links(&node, CATENA, &["bridge", "ptp", "host-local", "portmap", "snat"]);
    let runtime = |list| Runtime::new(Plugins::new(&node, [&dir]), list);
    let (web, db) = (runtime(web()), runtime(db()));
    let with_port = |container: &Container| {
        Attachment::new(container).capability("portMappings", json!([port("tcp", 8080)]))
    };
    let (first, second) = (with_port(&c1), with_port(&c2));
    web.add(&first).unwrap_or_else(|e| panic!("{e}"));
    let failure = db.add(&second).unwrap_err();
    assert_eq!((failure.plugin.as_str(), failure.output.error_code()), ("portmap", 11));
    assert!(failure.output.error_text().contains("container id-c1"), "{failure}");
    db.del(&second).unwrap_or_else(|e| panic!("{e}"));

    c1.delete();
    db.add(&second).unwrap_or_else(|e| panic!("{e}"));
    web.del(&first).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(page(&node), "second");
    db.check(&second).unwrap_or_else(|e| panic!("{e}"));
    db.del(&second).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&start, &node.snapshot(), &shared());
}

#[test]
fn an_address_used_again_is_the_new_pods_and_a_late_del_of_the_old_removes_nothing() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let start = node.snapshot();
    let mut list = web();
    list["plugins"][0]["ipMasq"] = json!(true);
    list["plugins"][0]["ipam"] = json!({ "type": "static", "addresses": [{ "address": "10.1.0.7/24" }, { "address": "fd00:1::7/64" }] });
    // Without snat: of two plugins that say where an address leaves by, one would have to win.
    list["plugins"].as_array_mut().unwrap().truncate(2);
    let _server = HttpServer::start(&c2, 80, "second");
    let catena = catena(&node, &[port("tcp", 8080)]);
    catena.add(&list, &c1);
    let path = c1.path().to_owned();
    c1.delete();
    catena.add(&list, &c2);
    let before = node.snapshot();

    catena.try_del(&list, &path).success();
    let after = node.snapshot();
    let elements = |s: &Snapshot| -> Vec<String> {
        s.section("nft").keys().filter(|name| name.contains(" element ")).cloned().collect()
    };
    assert_eq!(elements(&after), elements(&before));
    for set in ["egress4", "egress6", "hairpin4", "hairpin6", "hostports4", "hostports6"] {
        let held = elements(&after).iter().any(|name| name.contains(&format!("element {set} ")));
        assert!(held, "{set} has an element: {:#?}", elements(&after));
    }
    catena.check(&list, &c2);
    assert_eq!(page(&node), "second");
    catena.del(&list, &c2);
    assert_same(&start, &node.snapshot(), &shared());
}

#[test]
fn what_somebody_flushed_is_brought_back_by_the_next_add() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let _server = HttpServer::start(&c1, 80, "first");
    let first = catena(&node, &[port("tcp", 8080)]);
    first.add(&web(), &c1);
    node.run(["nft", "flush", "ruleset"]);
    assert!(http_get(&node, "http://127.0.0.1:8080/").is_err());
    let (_, text) = error(first.try_check(&web(), &c1));
    assert!(text.contains("8080"), "CHECK says what is missing: {text}");

    let second = catena(&node, &[port("tcp", 8081)]);
    second.add(&db(), &c2);
    assert_eq!(page(&node), "first");
    first.check(&web(), &c1);
    second.check(&db(), &c2);
    // A port brought back is still its holder's.
    second.del(&db(), &c2);
    let (code, _) = error(first.try_add(&db(), &c2));
    assert_eq!(code, 11);
}
