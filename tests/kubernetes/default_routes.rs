//! By which network a pod's default route goes.

use serde_json::{Value, json};
use testnode::conf::{bridge, host_local};
use testnode::{Catena, Node, Shared, Snapshot, assert_same, until};

use crate::{
    CATENA,
    cluster::{Cluster, PATIENCE},
    hotplug::{ask, await_status, daemon},
};

#[test]
fn default_route_moves_the_default_route() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let networks = json!([
        { "name": "storage" },
        { "name": "media", "default-route": ["10.3.0.1"] },
    ]);
    let pod = cluster.pod("web", &networks);
    let result = runtime.add(&pod.attachment).unwrap();
    let routes = pod.container.run(["ip", "-4", "route", "show", "default"]);
    assert_eq!(routes.lines().count(), 1, "{routes}");
    assert!(routes.contains("via 10.3.0.1 dev net2"), "{routes}");
    assert!(result["routes"].as_array().is_none_or(Vec::is_empty), "{result:#}");
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(status[2]["gateway"], json!(["10.3.0.1"]));
    assert!(status[0].get("gateway").is_none(), "{status:#}");
    runtime.check(&pod.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
}

/// Both families move, or one of them alone.
#[test]
fn each_family_has_the_default_route_that_is_asked_for() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let both = ["10.8.0.0/24", "fd00:8::/64"];
    let mut dual = json!({ "cniVersion": "1.0.0", "type": "bridge", "bridge": "du0" });
    dual["ipam"] = host_local(&both);
    dual["ipam"]["routes"] = json!([]);
    dual["isGateway"] = json!(true);
    cluster.define("default", "dual", &dual);
    let plugins = [bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"])];
    let runtime = cluster.runtime("catena", &json!({ "plugins": plugins }));
    let own = ["10.1.0.1", "fd00:1::1"];
    let moved = ["10.8.0.1", "fd00:8::1"];
    for (name, asked, expected) in [
        ("both", json!(moved), moved),
        ("v4", json!([moved[0]]), [moved[0], own[1]]),
        ("v6", json!([moved[1]]), [own[0], moved[1]]),
    ] {
        let pod = cluster.pod(name, &json!([{ "name": "dual", "default-route": asked }]));
        let inside = Snapshot::of(&pod.container);
        let result = runtime.add(&pod.attachment).unwrap();
        for (family, gateway) in ["-4", "-6"].into_iter().zip(expected) {
            let routes = pod.container.run(["ip", family, "route", "show", "default"]);
            let dev = if moved.contains(&gateway) { "net1" } else { "eth0" };
            assert_eq!(routes.lines().count(), 1, "{name}: {routes}");
            assert!(routes.contains(&format!("via {gateway} dev {dev}")), "{name}: {routes}");
        }
        let left = expected.iter().filter(|gateway| own.contains(gateway)).count();
        let routes = result["routes"].as_array().map_or(0, Vec::len);
        assert_eq!(routes, left, "{name}: the cluster network's own are what is left: {result:#}");
        let status = cluster.status("default", name).unwrap();
        let gateways = |entry: usize| -> Vec<Value> {
            status[entry]["gateway"].as_array().cloned().unwrap_or_default()
        };
        let of = |list: [&str; 2]| -> Vec<Value> {
            list.into_iter().filter(|one| expected.contains(one)).map(Value::from).collect()
        };
        assert_eq!((gateways(0), gateways(1)), (of(own), of(moved)), "{name}: {status:#}");
        runtime.check(&pod.attachment).unwrap();
        runtime.del(&pod.attachment).unwrap();
        assert_same(&inside, &Snapshot::of(&pod.container), &Shared::none());
        pod.container.delete();
    }
}

/// A network that lost its default route has it again, by somebody's hand.
#[test]
fn a_default_route_that_is_back_is_found_by_check_and_taken_away_by_repair() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let runtime = cluster.usual();
    let networks = json!([
        { "name": "storage", "default-route": [] },
        { "name": "media", "default-route": ["10.3.0.1"] },
    ]);
    let pod = cluster.pod("web", &networks);
    runtime.add(&pod.attachment).unwrap();
    let repair = |args: &[&str]| {
        let words = [&["repair", "--output", "json"], args].concat();
        Catena::new(&node, CATENA).cmd(words).output()
    };
    let routes = || pod.container.run(["ip", "route", "show", "default"]);
    let before = routes();
    assert!(!repair(&[]).success().contains("default route"));
    for (network, ifname, gateway) in
        [("pods", "eth0", "10.1.0.1"), ("default/storage", "net1", "10.2.0.1")]
    {
        let route = ["default", "via", gateway, "dev", ifname, "metric", "7"];
        pod.container.run([&["ip", "route", "add"], &route[..]].concat());
        let error = runtime.check(&pod.attachment).unwrap_err().output.error_text();
        let by = format!("via {gateway} dev {ifname}");
        assert!(error.contains(&format!("network {network} ({ifname})")), "{error}");
        assert!(error.contains(&by), "{error}");
        assert!(!error.contains("net2"), "{error}");
        let found = repair(&["--dry-run"]).failure();
        assert!(found.stdout.contains(&by), "{found}");
        assert!(routes().contains(&by));
        let report = repair(&[]).json();
        let of = |condition: &str| {
            let all = report["attachments"].as_array().unwrap().iter();
            let of = all.filter(|one| one["condition"] == condition);
            of.map(|one| one["ifname"].as_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((of("repaired"), of("damaged").len()), (vec![ifname], 0), "{report:#}");
        assert_eq!(routes(), before);
        runtime.check(&pod.attachment).unwrap();
    }
    runtime.del(&pod.attachment).unwrap();
}

#[test]
fn a_default_route_moves_with_an_edit_and_back_again() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let daemon = daemon(&cluster, &cluster.kubeconfig);
    let pod = cluster.pod("web", &json!("storage"));
    cluster.usual().add(&pod.attachment).unwrap();
    let routes = || pod.container.run(["ip", "route", "show", "default"]);
    let own = routes();
    assert!(own.contains("via 10.1.0.1 dev eth0"), "{own}");
    // Which entries of the status have which gateways.
    let gateways = || -> Vec<Value> {
        let status = cluster.status("default", "web").unwrap();
        status.as_array().unwrap().iter().map(|entry| entry["gateway"].clone()).collect()
    };
    let before = (gateways(), Snapshot::of(&pod.container));
    let await_gateways = |expected: &[Value]| {
        until("the gateways are told", PATIENCE, || (gateways() == expected).then_some(()));
    };
    let media = |gateway: &str| {
        json!([{ "name": "storage" }, { "name": "media", "default-route": [gateway] }]).to_string()
    };
    let moved = [Value::Null, Value::Null, json!(["10.3.0.1"])];
    ask(&cluster, "web", &media("10.3.0.1"));
    await_gateways(&moved);
    assert_eq!(routes().lines().count(), 1, "{}", routes());
    assert!(routes().contains("via 10.3.0.1 dev net2"), "{}", routes());
    cluster.usual().check(&pod.attachment).unwrap();
    ask(&cluster, "web", "storage");
    await_gateways(&before.0);
    assert_eq!(routes(), own);
    assert_same(&before.1, &Snapshot::of(&pod.container), &Shared::none());
    cluster.usual().check(&pod.attachment).unwrap();

    // One that nothing leads to is refused, and nothing has moved. An edit makes it good.
    ask(&cluster, "web", &media("10.9.9.9"));
    let events = cluster.events("default", "FailedAddingInterface");
    assert!(events[0].contains("10.9.9.9"), "{events:?}");
    assert_same(&before.1, &Snapshot::of(&pod.container), &Shared::none());
    cluster.usual().check(&pod.attachment).unwrap();
    ask(&cluster, "web", &media("10.3.0.1"));
    await_gateways(&moved);
    // The same network no longer asks for it.
    ask(&cluster, "web", "storage,media");
    await_gateways(&[before.0.clone(), vec![Value::Null]].concat());
    assert_eq!(routes(), own);
    // One that the pod was started with.
    let started = json!([{ "name": "media", "default-route": ["10.3.0.1"] }]);
    let other = cluster.pod("db", &started);
    cluster.usual().add(&other.attachment).unwrap();
    ask(&cluster, "db", "");
    await_status(&cluster, "db", &["pods@eth0"]);
    let back = other.container.run(["ip", "route", "show", "default"]);
    assert!(back.contains("via 10.1.0.1 dev eth0"), "{back}");
    cluster.usual().check(&other.attachment).unwrap();
    drop(daemon);
    for pod in [&pod, &other] {
        cluster.usual().del(&pod.attachment).unwrap();
    }
}
