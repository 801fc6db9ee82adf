//! GC removes what dead attachments of a network left, and touches nothing else; STATUS says whether ADD can be served.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist, host_local, port_and_rates, portmap};
use testnode::{
    Attachment, Call, Catena, Container, Node, PluginOutput, Plugins, Runtime, Scripts, Shared,
    assert_same, links, until,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const NAMES: [&str; 6] = ["bridge", "ptp", "host-local", "portmap", "snat", "catena"];

fn web() -> Value {
    let snat = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] });
    conflist("web", &[bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]), portmap(), snat])
}

fn db() -> Value {
    let ptp = json!({ "type": "ptp", "ipMasq": true, "ipam": host_local(&["10.2.0.0/24"]) });
    conflist("db", &[ptp, portmap()])
}

fn with_port(node: &Node, port: u16) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(port))
}

fn shared() -> Shared {
    Shared::none().catena("web").catena("db").device("cni0")
}

/// The names of the devices of this kind on the node.
fn devices(node: &Node, kind: &str) -> usize {
    let links = node.json(["ip", "-j", "link", "show", "type", kind]);
    links
        .as_array()
        .map_or(0, |links| links.iter().filter(|link| link["ifname"].is_string()).count())
}

/// Awaits that the kernel has removed the devices of a namespace, which it does in its own time.
fn await_devices(node: &Node, kind: &str, count: usize) {
    until("a namespace's devices are gone", Duration::from_secs(10), || {
        (devices(node, kind) == count).then_some(())
    });
}

fn lease(network: &str, address: &str) -> bool {
    Path::new("/var/lib/cni/networks").join(network).join(address).exists()
}

#[test]
fn what_no_longer_has_a_namespace_is_removed_and_nothing_else() {
    let node = Node::new();
    let [c1, c2, d1, d2] = ["c1", "c2", "d1", "d2"].map(|name| node.container(name));
    with_port(&node, 8001).add(&web(), &c1);
    with_port(&node, 8002).add(&db(), &d1);
    with_port(&node, 8003).add(&db(), &d2);
    d2.delete();
    await_devices(&node, "veth", 2);
    let before = node.snapshot();

    with_port(&node, 8004).add(&web(), &c2);
    c2.delete();
    await_devices(&node, "veth", 2);
    assert!(lease("web", "10.1.0.3") && lease("db", "10.2.0.3"));
    let catena = Catena::new(&node, CATENA);
    assert_eq!(catena.gc(&web(), &[]).success(), "");
    // The other network's dead attachment is another GC's.
    assert_same(&before, &node.snapshot(), &shared());
    assert!(lease("db", "10.2.0.3"));
    with_port(&node, 8001).check(&web(), &c1);

    catena.gc(&db(), &[]).success();
    assert!(!lease("db", "10.2.0.3") && lease("db", "10.2.0.2"));
    with_port(&node, 8002).check(&db(), &d1);
}

#[test]
fn keep_names_who_stays_and_all_names_nobody() {
    let node = Node::new();
    let before = node.snapshot();
    let [c1, c2, d1] = ["c1", "c2", "d1"].map(|name| node.container(name));
    with_port(&node, 8001).env("CNI_CONTAINERID", "pod-1").add(&web(), &c1);
    let one = node.snapshot();
    with_port(&node, 8002).env("CNI_CONTAINERID", "pod-2").add(&web(), &c2);
    with_port(&node, 8004).env("CNI_CONTAINERID", "pod-1").ifname("net1").add(&web(), &c1);
    let catena = Catena::new(&node, CATENA);
    // Both halves count: the pod's other interface goes.
    catena.gc(&web(), &["--keep", "pod-1/eth0", "--keep", "pod-3/eth0"]).success();
    assert_same(&one, &node.snapshot(), &shared());
    with_port(&node, 8001).env("CNI_CONTAINERID", "pod-1").check(&web(), &c1);

    with_port(&node, 8003).add(&db(), &d1);
    catena.gc(&web(), &["--all"]).success();
    assert!(!lease("web", "10.1.0.2") && lease("db", "10.2.0.2"));
    assert_eq!(devices(&node, "veth"), 1, "the other network's");
    with_port(&node, 8003).check(&db(), &d1);
    with_port(&node, 8003).del(&db(), &d1);
    assert_same(&before, &node.snapshot(), &shared());
    catena.gc(&web(), &["--all", "--keep", "pod-1/eth0"]).failure();
}

#[test]
fn a_runtimes_gc_reaches_each_plugin_it_executed() {
    let node = Node::new();
    let before = node.snapshot();
    let containers = ["c1", "c2", "d1"].map(|name| node.container(name));
    let [c1, c2, d1] = &containers;
    let dir = links(&node, CATENA, &NAMES);
    let runtime = |list| Runtime::new(Plugins::new(&node, [&dir]), list);
    let (web, db) = (runtime(web()), runtime(db()));
    let attachment = |container: &Container, port: u16| {
        let mappings = port_and_rates(port)["portMappings"].clone();
        Attachment::new(container).capability("portMappings", mappings)
    };
    let (first, other) = (attachment(c1, 8001), attachment(d1, 8003));
    web.add(&first).unwrap_or_else(|e| panic!("{e}"));
    db.add(&other).unwrap_or_else(|e| panic!("{e}"));
    let kept = node.snapshot();
    // The runtime lost it: its namespace lives, but nobody will DEL it.
    web.add(&attachment(c2, 8002)).unwrap_or_else(|e| panic!("{e}"));
    assert!(lease("web", "10.1.0.3"));
    web.gc(std::slice::from_ref(&first)).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&kept, &node.snapshot(), &shared());
    web.check(&first).unwrap_or_else(|e| panic!("{e}"));
    db.check(&other).unwrap_or_else(|e| panic!("{e}"));

    web.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
    db.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn leases_of_the_reference_plugin_without_an_attachment_are_released() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA).env("CNI_CONTAINERID", "pod-1");
    catena.add(&web(), &c1);
    let before = node.snapshot();
    for (address, holder) in [("10.1.0.9", "gone\r\neth0"), ("fd00:1::9", "gone\r\neth0")] {
        node.write(Path::new("/var/lib/cni/networks/web").join(address), holder);
    }
    catena.gc(&web(), &["--keep", "pod-1/eth0"]).success();
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn without_a_word_about_who_stays_what_has_no_record_is_left_alone() {
    let node = Node::new();
    node.write("/var/lib/cni/networks/web/10.1.0.7", "someone\r\neth0");
    let catena = Catena::new(&node, CATENA);
    catena.gc(&web(), &[]).success();
    assert!(lease("web", "10.1.0.7"));
    catena.gc(&web(), &["--keep", "someone-else/eth0"]).success();
    assert!(!lease("web", "10.1.0.7"));
}

#[test]
fn an_attachment_that_is_being_made_is_left_to_whoever_makes_it() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    let (begun, go) = (node.fresh_path("begun"), node.fresh_path("go"));
    let wait = format!("> {}; until [ -e {} ]; do sleep 0.01; done", begun.display(), go.display());
    scripts
        .plugin("wait", &format!("[ $CNI_COMMAND = ADD ] || exit 0\n{wait}\nprintf %s \"$prev\""));
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "wait" })]);
    let file = node.json_file("web.conflist", &list);
    let c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA).cni_path(scripts.dir());
    let words = ["add".as_ref(), file.as_os_str(), c1.path().as_os_str()];
    let mut add = catena.cmd(words).spawn(node.fresh_path("add.log"));
    until("ADD has begun", Duration::from_secs(10), || begun.exists().then_some(()));
    // The chain's records only: a delegate that is foreign knows for itself.
    let mut without_leases = list.clone();
    without_leases["cniVersion"] = json!("1.0.0");
    catena.gc(&without_leases, &["--all"]).success();
    node.write(&go, "");
    assert_eq!(add.wait(Duration::from_secs(10)), 0, "{}", add.log());
    catena.check(&list, &c1);
}

#[test]
fn a_foreign_delegate_is_told_who_is_valid() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.device("mark");
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "mark" })]);
    let catena = Catena::new(&node, CATENA).cni_path(scripts.dir());
    catena.gc(&list, &["--keep", "pod-1/eth0"]).success();
    let valid = json!([{ "containerID": "pod-1", "ifname": "eth0" }]);
    let told = scripts.stdin("mark", "GC");
    assert_eq!(told["cni.dev/valid-attachments"], valid);
    assert_eq!(told["cni.dev/attachments"], valid, "as libcni once had it");
    assert_eq!(scripts.env("mark", "GC", "CNI_CONTAINERID"), "");
}

#[test]
fn disable_gc_is_heeded_and_a_version_without_gc_has_the_tools() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA);
    let mut list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"])]);
    list["disableGC"] = json!(true);
    catena.add(&list, &c1);
    let before = node.snapshot();
    catena.gc(&list, &["--all"]).success();
    assert_same(&before, &node.snapshot(), &Shared::none().device("cni0"));

    list["disableGC"] = json!(false);
    list["cniVersion"] = json!("0.4.0");
    catena.gc(&list, &["--all"]).success();
    assert!(!lease("web", "10.1.0.2"));
    assert_eq!(devices(&node, "veth"), 0);
}

#[test]
fn status_is_quiet_where_add_can_be_served_and_says_why_where_not() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.plugin("moody", r#"echo '{"code":51,"msg":"the daemon is away"}'; exit 1"#);
    let catena = Catena::new(&node, CATENA).cni_path(scripts.dir());
    let before = node.snapshot();
    assert_eq!(catena.status(&web()).success(), "");
    assert_eq!(before.diff(&node.snapshot()), "", "it only looks");

    let mut chain = web();
    chain["plugins"].as_array_mut().unwrap().push(json!({ "type": "moody" }));
    let moody = PluginOutput::from(catena.status(&chain));
    assert_eq!(moody.error_code(), 51);
    assert!(moody.error_text().contains("delegate 4 of 4 failed: moody: the daemon is away"));
    // Versions that know no STATUS are taken to be able to.
    chain["cniVersion"] = json!("1.0.0");
    catena.status(&chain).success();

    node.ip("link add cni0 type ifb\n");
    let no_bridge = PluginOutput::from(catena.status(&web()));
    assert_eq!(no_bridge.error_code(), 50, "{no_bridge}");
    assert!(no_bridge.error_text().contains("cni0"), "{no_bridge}");
}

#[test]
fn the_verbs_of_a_network_are_refused_where_the_version_has_none() {
    let node = Node::new();
    let plugins = Plugins::new(&node, [links(&node, CATENA, &NAMES)]);
    for version in ["0.4.0", "1.0.0"] {
        let conf = json!({ "cniVersion": version, "name": "web", "type": "bridge" }).to_string();
        for verb in ["GC", "STATUS"] {
            let output = plugins.call("bridge", &Call::new(verb), &conf);
            assert_eq!(output.error_code(), 1, "{output}");
            for part in [verb, "1.1.0", version] {
                assert!(output.error_text().contains(part), "{output}");
            }
        }
    }
}

/// Of the networks that an inner meta plugin attaches a container to, the pods' records of the outer ones say nothing.
#[test]
fn the_networks_of_an_inner_meta_plugin_are_not_swept_up_by_another_networks_gc() {
    let node = Node::new();
    let c1 = node.container("c1");
    let network =
        |name: &str, device: &str, subnet: &str| conflist(name, &[bridge(device, &[subnet])]);
    let networks =
        json!([network("one", "cni1", "10.3.0.0/24"), network("two", "cni2", "10.4.0.0/24")]);
    let inner = json!({ "type": "catena", "delegates": networks });
    let catena = Catena::new(&node, CATENA);
    let list = conflist("web", std::slice::from_ref(&inner));
    catena.add(&list, &c1);
    let before = node.snapshot();
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["catena"])]);
    let other = json!({ "type": "catena", "plugins": [bridge("cni0", &["10.5.0.0/24"])] });
    Runtime::new(plugins, conflist("other", &[other])).gc(&[]).unwrap();
    let shared = Shared::none().catena("other").file("/run/catena/locks/*");
    assert_same(&before, &node.snapshot(), &shared);
    catena.check(&list, &c1);
    catena.del(&list, &c1);
}
