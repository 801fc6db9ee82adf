//! The result of ADD says what the kernel has, in the words of the configuration's version.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, host_local, port_and_rates, portmap};
use testnode::{Attachment, Call, Catena, Netns, Node, Plugins, links};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Chains whose results are compared with the kernel's listings.
fn chains() -> Vec<(&'static str, Vec<Value>)> {
    let mut with_mtu = bridge("cni0", &DUAL);
    with_mtu["mtu"] = json!(1400);
    with_mtu["isDefaultGateway"] = json!(true);
    let ptp = json!({ "type": "ptp", "ipam": host_local(&DUAL) });
    let meta = |plugins: Value| json!({ "type": "catena", "plugins": plugins });
    vec![
        ("bridge", vec![bridge("cni0", &DUAL)]),
        ("bridge, options", vec![with_mtu]),
        ("bridge, IPv6", vec![bridge("cni0", &DUAL[1..])]),
        ("ptp", vec![ptp.clone()]),
        ("full", vec![bridge("cni0", &DUAL), portmap(), bandwidth(), json!({ "type": "snat" })]),
        ("meta", vec![meta(json!([ptp, portmap()]))]),
    ]
}

fn texts<'v>(list: &'v Value, field: &str) -> Vec<&'v str> {
    list.as_array().into_iter().flatten().filter_map(|item| item[field].as_str()).collect()
}

/// The link `name` of a namespace as `ip` shows it.
#[track_caller]
fn link(netns: &Netns, name: &str) -> Value {
    netns.json(["ip", "-j", "-d", "addr", "show", "dev", name])[0].clone()
}

/// `default` is what `ip` calls the destination of all zeros.
fn destinations(netns: &Netns) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    for (family, default) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
        let routes = netns.json(["ip", "-j", family, "route", "show"]);
        for route in routes.as_array().into_iter().flatten() {
            let text = |field: &str| route[field].as_str().unwrap_or_default().to_owned();
            let dst = if route["dst"] == "default" { default.to_owned() } else { text("dst") };
            all.insert((dst, text("gateway")));
        }
    }
    all
}

#[test]
fn it_equals_what_ip_shows() {
    for (name, plugins) in chains() {
        println!("{name}");
        let node = Node::new();
        let c1 = node.container("c1");
        let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
        let result = catena.add(&conflist("web", &plugins), &c1);
        println!("{result:#}");

        let mut in_container = Vec::new();
        for (index, interface) in result["interfaces"].as_array().unwrap().iter().enumerate() {
            let sandbox = interface["sandbox"].as_str().unwrap_or_default();
            let netns: &Netns = if sandbox.is_empty() { &node } else { &c1 };
            assert!(sandbox.is_empty() || sandbox == c1.path().to_str().unwrap(), "{sandbox}");
            let shown = link(netns, interface["name"].as_str().unwrap());
            assert_eq!(interface["mac"], shown["address"], "{}", interface["name"]);
            if !sandbox.is_empty() {
                assert_eq!(interface["name"], "eth0");
                in_container.push(json!(index));
            }
        }
        assert_eq!(in_container.len(), 1);

        let eth0 = link(&c1, "eth0");
        let shown: BTreeSet<String> = eth0["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|address| address["scope"] == "global")
            .map(|address| {
                format!("{}/{}", address["local"].as_str().unwrap(), address["prefixlen"])
            })
            .collect();
        let told: BTreeSet<String> =
            texts(&result["ips"], "address").into_iter().map(str::to_owned).collect();
        assert_eq!(told, shown);
        let routes = destinations(&c1);
        for ip in result["ips"].as_array().unwrap() {
            assert_eq!(ip["interface"], in_container[0]);
            let gateway = ip["gateway"].as_str().unwrap();
            c1.ping(gateway);
            // The default route of its family leads there.
            let dst = if gateway.contains(':') { "::/0" } else { "0.0.0.0/0" };
            assert!(routes.contains(&(dst.to_owned(), gateway.to_owned())), "{routes:?}");
            assert!(texts(&result["routes"], "dst").contains(&dst), "{dst} is told");
        }
        let known: BTreeSet<&str> = routes.iter().map(|(dst, _)| dst.as_str()).collect();
        for dst in texts(&result["routes"], "dst") {
            assert!(known.contains(dst), "{dst} is there: {known:?}");
        }
    }
}

#[test]
fn it_has_the_shape_of_the_configurations_version() {
    for version in VERSIONS {
        println!("{version}");
        let node = Node::new();
        let c1 = node.container("c1");
        let mut plugin = bridge("cni0", &DUAL);
        plugin["ipam"]["resolvConf"] = json!(node.fresh_path("resolv.conf"));
        node.write(plugin["ipam"]["resolvConf"].as_str().unwrap(), "nameserver 10.1.0.53\n");
        let list = json!({ "cniVersion": version, "name": "web", "plugins": [plugin, portmap()] });
        let result = Catena::new(&node, CATENA).add(&list, &c1);
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["dns"], json!({ "nameservers": ["10.1.0.53"] }));
        let has = |key: &str| result.get(key).is_some();
        if version < "0.3.0" {
            assert_eq!(
                result["ip4"],
                json!({ "ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": [{ "dst": "0.0.0.0/0" }] })
            );
            assert_eq!(
                result["ip6"],
                json!({ "ip": "fd00:1::2/64", "gateway": "fd00:1::1", "routes": [{ "dst": "::/0" }] })
            );
            assert!(!has("interfaces") && !has("ips") && !has("routes"), "{result:#}");
            continue;
        }
        assert_eq!(texts(&result["interfaces"], "name")[0], "cni0");
        assert_eq!(texts(&result["interfaces"], "name")[2], "eth0");
        let families: Vec<_> = texts(&result["ips"], "version");
        let expected: &[&str] = if version < "1.0.0" { &["4", "6"] } else { &[] };
        assert_eq!(families, expected);
        assert_eq!(texts(&result["ips"], "address"), ["10.1.0.2/24", "fd00:1::2/64"]);
        assert_eq!(texts(&result["routes"], "dst"), ["0.0.0.0/0", "::/0"]);
        assert!(!has("ip4") && !has("ip6"), "{result:#}");
    }
}

#[test]
fn before_1_0_0_there_is_always_dns_and_after_it_only_where_it_is_set() {
    for version in VERSIONS {
        let node = Node::new();
        let c1 = node.container("c1");
        let list =
            json!({ "cniVersion": version, "name": "web", "plugins": [bridge("cni0", &DUAL)] });
        let result = Catena::new(&node, CATENA).add(&list, &c1);
        let expected = if version < "1.0.0" { Some(&json!({})) } else { None };
        assert_eq!(result.get("dns"), expected, "{version}");
    }
}

#[test]
fn a_plugin_by_its_name_answers_in_the_version_it_is_asked_in() {
    for version in VERSIONS {
        println!("{version}");
        let node = Node::new();
        let c1 = node.container("c1");
        let plugins = Plugins::new(&node, [links(&node, CATENA, &["bridge", "host-local"])]);
        let mut conf = bridge("cni0", &DUAL);
        conf["name"] = json!("web");
        conf["cniVersion"] = json!(version);
        let attachment = Attachment::new(&c1);
        let add = plugins.call("bridge", &Call::of("ADD", &attachment), &conf.to_string());
        // As the reference prints it: indented by four spaces, without a last newline.
        assert!(add.stdout.starts_with("{\n    \"cniVersion\": \""), "{add}");
        assert!(add.stdout.ends_with("\n}"), "{add}");
        let result = add.result();
        assert_eq!(result["cniVersion"], version);
        conf["prevResult"] = result;
        let check = plugins.call("bridge", &Call::of("CHECK", &attachment), &conf.to_string());
        if version < "0.4.0" {
            assert_eq!(check.error_code(), 1, "{check}");
            assert_eq!(check.json.as_ref().unwrap()["cniVersion"], version);
        } else {
            assert_eq!(check.stdout, "", "{check}");
            check.success();
        }
        let del = plugins.call("bridge", &Call::of("DEL", &attachment), &conf.to_string());
        assert_eq!(del.stdout, "", "{del}");
        del.success();
    }
}

#[test]
fn a_field_that_no_plugin_knows_passes_through_the_chain() {
    let node = Node::new();
    let c1 = node.container("c1");
    let scripts = testnode::Scripts::new(&node);
    scripts.plugin(
        "tag",
        "[ $CNI_COMMAND = ADD ] || exit 0\nprintf '%s,\"org.example/tag\":{\"a\":1}}' \"${prev%\\}}\"",
    );
    let list = conflist("web", &[bridge("cni0", &DUAL), json!({ "type": "tag" }), portmap()]);
    let catena = Catena::new(&node, CATENA).cni_path(scripts.dir()).cap_args(&port_and_rates(8080));
    assert_eq!(catena.add(&list, &c1)["org.example/tag"], json!({ "a": 1 }));
    catena.check(&list, &c1);
    catena.del(&list, &c1);
    assert_eq!(scripts.stdin("tag", "DEL")["prevResult"]["org.example/tag"], json!({ "a": 1 }));
}

#[test]
fn a_container_without_addresses_starts_on_a_chain_with_ports_and_has_none() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
    let layer2 = conflist("l2", &[json!({ "type": "bridge", "bridge": "cni0" }), portmap()]);
    let result = catena.add(&layer2, &c1);
    assert_eq!(link(&c1, "eth0")["operstate"], "UP");
    assert!(result.get("ips").is_none(), "{result}");
    catena.check(&layer2, &c1);
    assert!(!node.run(["nft", "list", "ruleset"]).contains("8080"));
    catena.del(&layer2, &c1);
}
