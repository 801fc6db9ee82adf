//! What a daemon is told by variables, as ConfigMaps and units' files have them.

use std::path::Path;

use testnode::{Background, Node, PLUGINS, links, until};

use crate::{CATENA, PATIENCE};

/// A daemon that is told all by these variables.
fn daemon(node: &Node, variables: &[(&str, &str)]) -> Background {
    let mut run = node.cmd([CATENA, "daemon", "--bin-dir"]).args([links(node, CATENA, &PLUGINS)]);
    for (name, value) in variables {
        run = run.env(name, value);
    }
    run.spawn(node.fresh_path("daemon.log"))
}

#[test]
fn variables_are_taken_as_people_write_them() {
    let node = Node::new();
    let file = node.dir("flannel").join("subnet.env");
    let text = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.1.1/24\nFLANNEL_MTU=1430\n";
    node.write(&file, text);
    let _daemon = daemon(
        &node,
        &[
            ("CATENA_POD_NETWORK", "false"),
            ("CATENA_POD_ROUTES", ""),
            ("CATENA_SUBNET_ENV", file.to_str().unwrap()),
            ("CATENA_CLUSTER_CIDR", "172.16.0.0/12, 192.0.2.0/24 "),
            ("CATENA_SERVICE_CIDR", " "),
            ("CATENA_MASQ_CONFIG", ""),
            ("NODE_NAME", ""),
        ],
    );
    until("the network is there", PATIENCE, || {
        Path::new("/etc/cni/net.d/10-catena.conflist").exists().then_some(())
    });
    let direct = node.run(["nft", "list", "set", "inet", "catena", "direct4"]);
    assert!(direct.contains("172.16.0.0/12, 192.0.2.0/24"), "{direct}");
}

#[test]
fn the_pods_network_is_switched_on_by_more_than_one_word_and_by_no_other() {
    let node = Node::new();
    let says = |variables: &[(&str, &str)], expected: &str| {
        let mut daemon = daemon(&node, variables);
        assert_ne!(daemon.wait(PATIENCE), 0, "{variables:?}");
        assert!(daemon.log().contains(expected), "{variables:?}: {}", daemon.log());
    };
    for on in ["1", "true", "True", "yes", "on"] {
        let variables = [("CATENA_POD_NETWORK", on), ("CATENA_SUBNET_ENV", "")];
        says(&variables, "--pod-network need a cluster");
        says(&[("CATENA_POD_NETWORK", on), ("CATENA_SUBNET_ENV", "/a")], "leave one of them out");
    }
    says(&[("CATENA_POD_NETWORK", "flase")], "flase");
}
