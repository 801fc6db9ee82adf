//! By which network a pod's default route goes.

use serde_json::json;
use testnode::{Catena, Node};

use crate::{CATENA, cluster::Cluster};

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
