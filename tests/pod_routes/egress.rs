//! What leaves the cluster leaves it under the node's address, and what that is follows the cluster and the configuration.

use std::path::Path;

use serde_json::json;
use testnode::{HttpServer, Neighbour, Netns, Node, http_get, until};

use crate::machines::{Machine, Wires};
use crate::{A, B, PATIENCE};

/// An address outside of the cluster, with a way back to everybody.
pub fn outside(node: &Node) -> Neighbour {
    let outside = node.uplink("outside", "192.0.2.7/24", "2001:db8::7/64");
    outside.ip("route add default via 192.0.2.1\nroute add default via 2001:db8::1\n");
    node.ip("route add 10.1.1.0/24 via 192.168.1.11\nroute add fd10:0:0:1::/64 via fd01::b\n");
    outside
}

/// The sources under which a server outside sees a pod, over both families.
pub fn seen(from: &Netns, outside: &Neighbour) -> Vec<String> {
    let addresses = ["192.0.2.7", "2001:db8::7"].map(|address| address.parse().unwrap());
    let seen = addresses.map(|address| {
        let server = HttpServer::start(outside, 8080, "hello");
        assert_eq!(http_get(from, &testnode::url(address, 8080)).unwrap().text, "hello");
        server.peers()[0].ip().to_string()
    });
    seen.to_vec()
}

fn await_seen(from: &Netns, outside: &Neighbour, expected: &[String]) {
    until(&format!("a pod is seen as {expected:?}"), PATIENCE, || {
        (seen(from, outside) == expected).then_some(())
    });
}

/// Waits until a set of a node's rules has these elements.
#[track_caller]
pub fn await_set(machine: &Machine<'_>, name: &str, expected: &str) {
    until(&format!("{name} has {expected}"), PATIENCE, || {
        let set = machine.netns.try_run(["nft", "list", "set", "inet", "catena", name]).stdout;
        let (_, elements) = set.split_once("elements = {")?;
        let elements: Vec<_> = elements.split('}').next()?.split_whitespace().collect();
        (elements.join(" ") == expected).then_some(())
    });
}

/// Replaces a file as a ConfigMap's volume does: at once.
fn put(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, path).unwrap();
}

#[test]
fn what_is_not_masqueraded_follows_the_configuration_while_pods_run() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let outside = outside(&node);
    let a = wires.machine("a", 1, 11);
    a.join(&A);
    let file = node.dir("masq").join("config");
    let (conf_dir, path) = (a.conf_dir(), file.display().to_string());
    let daemon = a.daemon(&["--pod-network", "--masq-config", &path, "--conf-dir", &conf_dir]);
    let pod = a.pod_of_network("pod-a");
    let own = a.addresses_of("pod-a").to_vec();
    let of_node = ["192.168.1.11".to_owned(), "fd01::b".to_owned()];
    assert_eq!(seen(&pod, &outside), of_node, "no file");
    put(&file, "nonMasqueradeCIDRs:\n  - 192.0.2.0/24\n  - 2001:db8::/32\n");
    await_seen(&pod, &outside, &own);
    // One that cannot be read changes nothing, and that is said.
    put(&file, "nonMasqueradeCIDRs: [192.0.2.0/33]\n");
    until("the log names the file", PATIENCE, || {
        daemon.log().contains("what it said before goes on being so").then_some(())
    });
    assert_eq!(seen(&pod, &outside), own);
    // Nor does a pipe in its place, and no round waits for it.
    let fifo = file.with_extension("fifo");
    node.run(["mkfifo", fifo.to_str().unwrap()]);
    std::fs::rename(&fifo, &file).unwrap();
    until("the log names what is no file", PATIENCE, || {
        daemon.log().contains("config: it is no regular file; what it said").then_some(())
    });
    assert_eq!(seen(&pod, &outside), own);
    // A folder that is made anew.
    let folder = file.parent().unwrap();
    std::fs::rename(folder, folder.with_extension("old")).unwrap();
    std::fs::create_dir(folder).unwrap();
    put(&file, "nonMasqueradeCIDRs: [192.0.2.0/24]\n");
    await_seen(&pod, &outside, &[own[0].clone(), of_node[1].clone()]);
    std::fs::remove_file(&file).unwrap();
    await_seen(&pod, &outside, &of_node);
    // A pod that comes later has the same policy, and a table that somebody takes away comes back with what it knew.
    put(&file, "nonMasqueradeCIDRs:\n  - 192.0.2.0/24\n  - 2001:db8::/32\n");
    await_seen(&pod, &outside, &own);
    drop(daemon);
    a.netns.run(["nft", "flush", "ruleset"]);
    let later = a.pod_of_network("pod-later");
    assert_eq!(seen(&later, &outside), a.addresses_of("pod-later"));
    assert_eq!(seen(&pod, &outside), own);
}

#[test]
fn the_clusters_addresses_are_those_of_its_nodes_of_kubeadm_of_ipvs_and_of_the_command_line() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let kubeadm = json!({
        "metadata": { "name": "kubeadm-config" },
        "data": { "ClusterConfiguration":
            "kind: ClusterConfiguration\nnetworking:\n  podSubnet: 10.2.0.0/16\n  serviceSubnet: 10.96.0.0/12,fd96::/112\n" },
    });
    wires.api.admin().create("/api/v1/namespaces/kube-system/configmaps", &kubeadm);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 1, 12));
    a.join(&A);
    let conf_dir = a.conf_dir();
    let _daemon = a.daemon(&[
        "--pod-network",
        "--cluster-cidr=172.16.0.0/12",
        "--service-cidr=10.200.0.0/16",
        "--conf-dir",
        &conf_dir,
    ]);
    let await_set = |name: &str, expected: &str| await_set(&a, name, expected);
    await_set("cluster_pods4", "10.1.1.0/24, 10.2.0.0/16");
    await_set("services4", "10.96.0.0/12, 10.200.0.0/16");
    await_set("services6", "fd96::/112");
    await_set("direct4", "172.16.0.0/12");
    await_set("cluster_nodes4", "192.168.1.11");
    b.join(&B);
    await_set("cluster_pods4", "10.1.1.0-10.1.2.255, 10.2.0.0/16");
    await_set("cluster_nodes4", "192.168.1.11-192.168.1.12");
    // What kube-proxy has the node answer for: an address from outside the cluster, too. (Any device will do for its name.)
    a.netns.ip("link add kube-ipvs0 type bridge\naddr add 203.0.113.9/32 dev kube-ipvs0\n");
    await_set("services4", "10.96.0.0/12, 10.200.0.0/16, 203.0.113.9");
    b.leave();
    await_set("cluster_pods4", "10.1.1.0/24, 10.2.0.0/16");
}
