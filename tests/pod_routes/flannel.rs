//! A node of flannel's: its file stands in for the API.

use serde_json::json;
use testnode::{Node, until};

use crate::{PATIENCE, machines::Wires};

const FILE: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.1.1/24\nFLANNEL_IPV6_NETWORK=fd10::/48\n\
                    FLANNEL_IPV6_SUBNET=fd10:0:0:1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=false\n";

#[test]
fn pods_get_the_network_that_flannels_file_says_without_an_api() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let a = wires.machine("a", 1, 11);
    let file = node.dir("flannel").join("subnet.env");
    let path = file.display().to_string();
    let daemon = a.daemon_alone(&["--subnet-env", &path, "--conf-dir", &a.conf_dir()]);
    until("the log says what is waited for", PATIENCE, || {
        daemon.log().contains("is not there yet: flanneld writes it").then_some(())
    });
    assert!(!a.conflist().exists());
    std::fs::write(&file, FILE).unwrap();
    let pod = a.pod_of_network("pod-a");
    let [v4, v6] = a.addresses_of("pod-a");
    assert!(v4.starts_with("10.1.1.") && v6.starts_with("fd10:0:0:1:"), "{v4} {v6}");
    assert_eq!(pod.json(["ip", "-j", "link", "show", "eth0"])[0]["mtu"], 1430);
    let text = || std::fs::read_to_string(a.conflist()).unwrap();
    assert!(text().contains("nonMasqueradeCluster"));
    let pods = a.netns.run(["nft", "list", "set", "inet", "catena", "cluster_pods4"]);
    assert!(pods.contains("10.1.0.0/16"), "{pods}");
    // flanneld was started anew, with another size and --ip-masq.
    let other = FILE.replace("1430", "1400").replace("IPMASQ=false", "IPMASQ=true");
    std::fs::write(&file, other).unwrap();
    until("the configuration follows", PATIENCE, || text().contains("1400").then_some(()));
    assert!(!text().contains("snat"), "flannel masquerades itself");
    // Half a file changes nothing.
    std::fs::write(&file, "FLANNEL_NETWORK=10.1.0.0/16\n").unwrap();
    until("the log says what is missing", PATIENCE, || {
        daemon.log().contains("it has no FLANNEL_SUBNET").then_some(())
    });
    assert!(text().contains("1400"));
}

#[test]
fn services_addresses_are_the_apis_beside_flannels_file_too() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let a = wires.machine("a", 1, 11);
    let kubeadm = json!({
        "metadata": { "name": "kubeadm-config" },
        "data": { "ClusterConfiguration": "networking: { serviceSubnet: 10.96.0.0/12 }\n" },
    });
    wires.api.admin().create("/api/v1/namespaces/kube-system/configmaps", &kubeadm);
    let file = node.dir("flannel").join("subnet.env");
    node.write(&file, FILE);
    let path = file.display().to_string();
    let _daemon = a.daemon(&["--subnet-env", &path, "--conf-dir", &a.conf_dir()]);
    until("the network is there", PATIENCE, || a.conflist().exists().then_some(()));
    let services = a.netns.run(["nft", "list", "set", "inet", "catena", "services4"]);
    assert!(services.contains("10.96.0.0/12"), "{services}");
}
