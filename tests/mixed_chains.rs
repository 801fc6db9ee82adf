//! Catena's plugins and those of others in one chain: in Catena's process or executed, by Catena or by a runtime.
//!
//! The others are the reference plugins from Debian's package (1.1.1, CNI 1.0.0).
#![allow(clippy::unwrap_used, reason = "test code")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testnode::conf::{bridge, port_and_rates};
use testnode::{
    Attachment, Catena, Container, HttpServer, Netns, Node, PluginFailure, PluginOutput, Plugins,
    Runtime, Shared, Snapshot, assert_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const REFERENCE: &str = "/usr/lib/cni";
/// CHECK of the reference's portmap looks for rules of both families, whatever addresses there are.
const NO_CHECK: &str = "could not check ipv6 dnat";
const SUBNET: [&str; 1] = ["10.1.0.0/24"];

fn conflist(plugins: &[Value]) -> Value {
    json!({ "cniVersion": "1.0.0", "name": "web", "plugins": plugins })
}

/// The plugin as an executable, also where Catena has one of this type built in.
fn exec(mut plugin: Value) -> Value {
    plugin["exec"] = json!(true);
    plugin
}

fn portmap() -> Value {
    // The reference has rules for localhost only where it says so.
    json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true })
}

fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

fn tuning() -> Value {
    json!({ "type": "tuning", "exec": true, "mtu": 1400 })
}

fn firewall() -> Value {
    json!({ "type": "firewall", "backend": "iptables" })
}

fn snat() -> Value {
    json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] })
}

/// What the reference plugins leave behind: chains without rules of a pod, and a global sysctl.
fn shared() -> Shared {
    ["ip nat", "ip6 nat", "ip filter", "ip6 filter"]
        .iter()
        .fold(Shared::none(), |shared, table| shared.whole_table(table))
        .sysctl("ipv4.conf.all.route_localnet")
        .device("cni0")
        .catena("web")
}

/// A container with a server, and the listings before it is attached.
struct Bench<'n> {
    node: &'n Node,
    container: Container,
    _server: HttpServer,
    outside: Snapshot,
    inside: Snapshot,
}

impl<'n> Bench<'n> {
    fn new(node: &'n Node, name: &str) -> Self {
        let container = node.container(name);
        let server = HttpServer::start(&container, 80, name);
        let (outside, inside) = (node.snapshot(), Snapshot::of(&container));
        Self { node, container, _server: server, outside, inside }
    }

    /// The page is served through the port, and the interface has the MTU that the chain's tuning gave it.
    #[track_caller]
    fn assert_up(&self, list: &Value) {
        let answer = http_get(self.node, "http://127.0.0.1:8080/");
        assert_eq!(answer.unwrap_or_else(|e| panic!("{e}: {list}")).text, self.container.name());
        let has =
            |kind: &str| list["plugins"].as_array().unwrap().iter().any(|p| p["type"] == kind);
        if has("tuning") {
            let link = self.container.json(["ip", "-j", "link", "show", "dev", "eth0"]);
            assert_eq!(link[0]["mtu"], 1400);
        }
        if has("bandwidth") {
            let qdiscs = self.node.run(["tc", "qdisc"]);
            assert!(qdiscs.contains("qdisc tbf"), "{qdiscs}");
        }
    }

    #[track_caller]
    fn assert_down(&self) {
        assert_same(&self.outside, &self.node.snapshot(), &shared());
        assert_same(&self.inside, &Snapshot::of(&self.container), &Shared::none().forwarding());
    }
}

/// Chains for Catena, with the reference's plugins executed.
fn chains() -> Vec<Value> {
    let ours = bridge("cni0", &SUBNET);
    let mut foreign_ipam = ours.clone();
    foreign_ipam["ipam"]["exec"] = json!(true);
    [
        vec![exec(ours.clone()), exec(portmap()), tuning(), firewall()],
        vec![exec(ours.clone()), portmap(), bandwidth(), snat()],
        vec![exec(ours.clone()), tuning(), portmap(), firewall(), snat()],
        vec![ours.clone(), exec(portmap()), tuning(), exec(bandwidth()), firewall()],
        vec![ours, tuning(), portmap(), exec(bandwidth()), snat()],
        vec![foreign_ipam, portmap(), tuning()],
    ]
    .into_iter()
    .map(|plugins| conflist(&plugins))
    .collect()
}

#[test]
fn catena_runs_chains_of_both_kinds() {
    for list in chains() {
        eprintln!("{list}");
        let node = Node::new();
        let bench = Bench::new(&node, "c1");
        let catena = Catena::new(&node, CATENA).cni_path(REFERENCE).cap_args(&port_and_rates(8080));
        let result = catena.add(&list, &bench.container);
        assert_eq!(result["cniVersion"], "1.0.0");
        assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
        bench.assert_up(&list);
        let foreign = |p: &Value| p["type"] == "portmap" && p["exec"] == true;
        if !list["plugins"].as_array().unwrap().iter().any(foreign) {
            catena.check(&list, &bench.container);
        } else {
            let check = PluginOutput::from(catena.try_check(&list, &bench.container));
            assert!(check.error_text().contains(NO_CHECK), "{check}");
        }
        catena.del(&list, &bench.container);
        bench.assert_down();
        catena.del(&list, &bench.container);
    }
}

#[test]
fn a_chain_of_both_kinds_is_rolled_back() {
    let node = Node::new();
    let bench = Bench::new(&node, "c1");
    let catena = Catena::new(&node, CATENA).cni_path(REFERENCE).cap_args(&port_and_rates(8080));
    let wrong = json!({ "type": "tuning", "exec": true, "sysctl": { "net.ipv4.conf.absent.forwarding": "1" } });
    let chain = [bridge("cni0", &SUBNET), exec(portmap()), snat(), wrong];
    let output = PluginOutput::from(catena.try_add(&conflist(&chain), &bench.container));
    assert!(output.error_text().starts_with("delegate 4 of 4 failed: tuning: "), "{output}");
    bench.assert_down();
}

#[test]
fn del_runs_the_kind_that_add_ran() {
    let node = Node::new();
    let bench = Bench::new(&node, "c1");
    let catena = Catena::new(&node, CATENA).cni_path(REFERENCE).cap_args(&port_and_rates(8080));
    let executed = conflist(&[exec(bridge("cni0", &SUBNET)), exec(portmap())]);
    let built_in = conflist(&[bridge("cni0", &SUBNET), portmap()]);
    for (add, del) in [(&executed, &built_in), (&built_in, &executed)] {
        catena.add(add, &bench.container);
        bench.assert_up(add);
        // The network has changed meanwhile, and CNI_PATH with it.
        Catena::new(&node, CATENA).cni_path("/nowhere").del(del, &bench.container);
        bench.assert_down();
    }
}

/// A folder of links to Catena for some types; the reference has the rest.
fn mixed(node: &Node, ours: &[&str]) -> [PathBuf; 2] {
    [links(node, CATENA, ours), Path::new(REFERENCE).to_owned()]
}

fn attachment(container: &Netns) -> Attachment {
    let capabilities = port_and_rates(8080);
    capabilities
        .as_object()
        .unwrap()
        .iter()
        .fold(Attachment::new(container), |a, (name, value)| a.capability(name, value.clone()))
}

fn fine<T>(done: Result<T, PluginFailure>) -> T {
    done.unwrap_or_else(|failure| panic!("{failure}"))
}

#[test]
fn a_runtime_runs_chains_of_both_kinds() {
    let chain = [bridge("cni0", &SUBNET), portmap(), bandwidth(), tuning(), firewall()];
    let without_rates = [bridge("cni0", &SUBNET), portmap(), tuning(), firewall()];
    for (ours, chain) in [
        (&["bridge", "host-local"][..], &chain[..]),
        (&["portmap"], &chain),
        (&["bridge", "host-local", "portmap"], &chain),
        // The reference's bridge executes our host-local, and ours the reference's.
        (&["host-local", "portmap"], &without_rates),
        (&["bridge"], &without_rates),
    ] {
        eprintln!("{ours:?}");
        let node = Node::new();
        let bench = Bench::new(&node, "c1");
        let list = conflist(chain);
        let runtime = Runtime::new(Plugins::new(&node, mixed(&node, ours)), list.clone());
        let attachment = attachment(&bench.container);
        fine(runtime.add(&attachment));
        bench.assert_up(&list);
        match runtime.check(&attachment) {
            Ok(()) => assert!(ours.contains(&"portmap")),
            Err(failure) => assert!(failure.to_string().contains(NO_CHECK), "{failure}"),
        }
        fine(runtime.del(&attachment));
        bench.assert_down();
        fine(runtime.del(&attachment));
    }
}

#[test]
fn the_meta_plugin_runs_a_chain_of_both_kinds_for_a_runtime() {
    let node = Node::new();
    let bench = Bench::new(&node, "c1");
    let inner = json!([exec(bridge("cni0", &SUBNET)), portmap(), tuning()]);
    let capabilities = json!({ "portMappings": true });
    let meta = json!({ "type": "catena", "capabilities": capabilities, "plugins": inner });
    let list = conflist(&[meta, firewall()]);
    let plugins = Plugins::new(&node, mixed(&node, &["catena", "bridge", "host-local"]));
    let runtime = Runtime::new(plugins, list.clone());
    let attachment = attachment(&bench.container);
    // A link to Catena is executed as well; it does not follow "exec" to itself.
    fine(runtime.add(&attachment));
    bench.assert_up(&list);
    fine(runtime.check(&attachment));
    fine(runtime.del(&attachment));
    bench.assert_down();
}

#[test]
fn what_the_reference_plugins_attached_is_checked_and_deleted_in_place() {
    let node = Node::new();
    let list = conflist(&[bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"])]);
    let [by_runtime, by_tool, late] = ["c1", "c2", "c3"].map(|name| Bench::new(&node, name));
    let reference = Runtime::new(Plugins::debian(&node), list.clone());
    let first = Attachment::new(&by_runtime.container);
    let result = fine(reference.add(&first));
    // The node's administrator puts Catena in place.
    let dir = links(&node, CATENA, &["bridge", "host-local"]);
    let runtime = Runtime::new(Plugins::new(&node, [dir]), list.clone());
    runtime.take_over(&first, result);
    fine(runtime.check(&first));
    fine(runtime.del(&first));
    by_runtime.assert_down();

    // Also without the result, and by cnitool's habits.
    let id = node.run(["sh", "-c", "printf /run/netns/c2 | sha512sum"]);
    let second =
        Attachment::new(&by_tool.container).container_id(&format!("cnitool-{}", &id[..20]));
    fine(reference.add(&second));
    Catena::new(&node, CATENA).del(&list, &by_tool.container);
    by_tool.assert_down();

    // Addresses go on where the reference stopped, and back again.
    let third = Attachment::new(&late.container);
    assert_eq!(fine(runtime.add(&third))["ips"][0]["address"], "10.1.0.4/24");
    fine(runtime.del(&third));
    assert_eq!(fine(reference.add(&third))["ips"][0]["address"], "10.1.0.5/24");
    fine(reference.del(&third));
    late.assert_down();
}

/// What a delegate before has made, and a foreign one has changed, the next ones take as it is now.
#[test]
fn what_a_foreign_delegate_changed_the_next_ones_see() {
    let node = Node::new();
    let container = node.container("c1");
    let unplug = Path::new("/run/plugins/unplug");
    // As a plugin would that has another bridge for some containers: this one's port is no bridge's then.
    let script = "#!/bin/sh
        [ $CNI_COMMAND = ADD ] || exit 0
        port=$(ip -o link show type veth | grep -o 'veth[0-9a-f]*' | head -1)
        ip link set $port nomaster mtu 9000 >&2
        sed 's/.*\"prevResult\"://; s/}$//'";
    node.write(unplug, script);
    fs::set_permissions(unplug, fs::Permissions::from_mode(0o755)).unwrap();
    let rest = [json!({ "type": "unplug" }), portmap(), bandwidth()];
    let capabilities = json!({ "portMappings": true, "bandwidth": true });
    let within = json!({ "type": "catena", "capabilities": capabilities, "plugins": rest });
    for rest in [&rest[..], &[within]] {
        let list = conflist(&[&[bridge("cni0", &SUBNET)], rest].concat());
        let catena = Catena::new(&node, CATENA);
        let catena = catena.cni_path("/run/plugins").cap_args(&port_and_rates(8080));
        let result = catena.add(&list, &container);
        let ifb = result["interfaces"][3]["name"].as_str().unwrap();
        assert_eq!(node.json(["ip", "-j", "link", "show", ifb])[0]["mtu"], 9000);
        catena.del(&list, &container);
    }
}
