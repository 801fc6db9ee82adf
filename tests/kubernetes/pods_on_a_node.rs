//! Pods with three networks as users run them: by the kubelet, its container runtime, and Catena as the only CNI software,
//! with no more rights than `deploy/` gives it: those of the thin overlay where no daemon runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use testnode::conf::bridge;
use testnode::kubernetes::{NODE_NAME, Rights, WholeNode, definitions, pod};

use testnode::{
    HttpServer, Netns, Node, NodeDaemon, Shared, await_same, http_get, links, until, url,
};

use crate::CATENA;
use crate::cluster::{NETWORKS, PATIENCE, STATUS, define, network};

/// A whole node with the definitions `storage` and `media`.
struct Kubernetes<'n> {
    node: &'n Node,
    whole: WholeNode<'n>,
    conf_dir: PathBuf,
    kubeconfig: PathBuf,
}

impl<'n> Kubernetes<'n> {
    /// A node whose network is still to come. Catena has these rights.
    fn without_network(node: &'n Node, rights: Rights) -> Self {
        let conf_dir = node.dir("net.d");
        // The runtime attaches each pod to its own loopback network first.
        let bin = links(node, CATENA, &["catena", "multus", "loopback"]);
        let whole = WholeNode::start(node, &conf_dir, &bin);
        let kubeconfig = whole.api().kubeconfig(&whole.api().deploy(rights));
        let this = Self { node, whole, conf_dir, kubeconfig };
        this.define("storage", "st0", "10.2.0.0/24");
        this.define("media", "md0", "10.3.0.0/24");
        this
    }

    /// A node whose pods are attached to `cluster` (bridge `cni0`, 10.1.0.0/24) by the plugin `catena`.
    fn new(node: &'n Node, rights: Rights) -> Self {
        let this = Self::without_network(node, rights);
        let plugin = json!({
            "type": "catena",
            "kubeconfig": this.kubeconfig,
            "plugins": [bridge("cni0", &["10.1.0.0/24"])],
        });
        let list = json!({ "cniVersion": "1.0.0", "name": "cluster", "plugins": [plugin] });
        this.configure("10-cluster.conflist", &list);
        this.whole.await_ready();
        this
    }

    /// Makes a file of the runtime's configuration, at once and whole. containerd takes no notice of a file that is moved
    /// there from another folder.
    fn configure(&self, name: &str, conf: &Value) {
        let new = self.conf_dir.join("new");
        self.node.write(&new, &conf.to_string());
        fs::rename(new, self.conf_dir.join(name)).unwrap();
    }

    fn define(&self, name: &str, device: &str, subnet: &str) {
        define(self.whole.api(), "default", name, &network(name, device, subnet));
    }

    fn daemon(&self) -> NodeDaemon<'n> {
        let kubeconfig = self.kubeconfig.to_str().unwrap();
        let args = ["--node-name", NODE_NAME, "--kubeconfig", kubeconfig];
        NodeDaemon::start(self.node, CATENA, &args)
    }

    /// Makes a pod that asks for `networks`, and waits for nothing.
    fn create(&self, name: &str, networks: &str) {
        let pod = pod(name, NODE_NAME, &json!({ NETWORKS: networks }));
        self.whole.create_pod("default", &pod);
    }

    /// The same, and waits until the pod runs.
    fn run(&self, name: &str, networks: &str) -> Value {
        self.create(name, networks);
        self.whole.await_running("default", name)
    }

    /// What outlives pods.
    fn shared(&self) -> Shared {
        ["cluster", "multus-cni-network", "cni-loopback", "storage", "media"]
            .into_iter()
            .fold(Shared::none(), |shared, network| shared.catena(network))
            .directory("/var/lib/cni/results")
            .directory("/var/lib/catena/pods")
            .device("cni0")
            .device("st0")
            .device("md0")
    }
}

/// What a pod's network-status says: network, interface and first address of each.
fn status(pod: &Value) -> Vec<[String; 3]> {
    let text = pod["metadata"]["annotations"][STATUS].as_str();
    let text = text.unwrap_or_else(|| panic!("no network-status: {pod:#}"));
    let status: Value = serde_json::from_str(text).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let entries = status.as_array().unwrap().iter();
    entries.map(|entry| [&entry["name"], &entry["interface"], &entry["ips"][0]].map(text)).collect()
}

/// Fetches a page from an address of another pod, which sees the client under `from`.
#[track_caller]
fn assert_reaches(client: &Netns, server: &Netns, address: &str, from: &str) {
    let _server = HttpServer::start(server, 80, address);
    let answer = http_get(client, &url(address.parse().unwrap(), 80)).unwrap();
    assert_eq!(answer.text, address);
    assert_eq!(answer.from.ip().to_string(), from);
}

#[test]
fn pods_run_on_three_networks_reach_each_other_on_them_and_go_without_a_trace() {
    let node = Node::new();
    let kubernetes = Kubernetes::new(&node, Rights::Thin);
    let whole = &kubernetes.whole;
    let before = node.snapshot();
    let web = kubernetes.run("web", "storage,media@net9");
    let db = kubernetes.run("db", r#"[{"name": "media"}, {"name": "storage"}]"#);
    assert_eq!(
        status(&web),
        [
            ["cluster", "eth0", "10.1.0.2"],
            ["default/storage", "net1", "10.2.0.2"],
            ["default/media", "net9", "10.3.0.2"],
        ]
    );
    assert_eq!(
        status(&db),
        [
            ["cluster", "eth0", "10.1.0.3"],
            ["default/media", "net1", "10.3.0.3"],
            ["default/storage", "net2", "10.2.0.3"],
        ]
    );
    for pod in [&web, &db] {
        let netns = whole.netns(pod);
        for [_, interface, address] in status(pod) {
            let shown = netns.run(["ip", "-4", "addr", "show", &interface]);
            assert!(shown.contains(&format!("{address}/24")), "{shown}");
        }
        assert_eq!(pod["status"]["podIP"], status(pod)[0][2]);
    }
    let [client, server] = [&web, &db].map(|pod| whole.netns(pod));
    assert_reaches(&client, &server, "10.1.0.3", "10.1.0.2");
    assert_reaches(&client, &server, "10.2.0.3", "10.2.0.2");
    assert_reaches(&client, &server, "10.3.0.3", "10.3.0.2");
    let added = "AddedInterface: Add net9 [10.3.0.2/24] from default/media".to_owned();
    assert!(whole.events("default", "web").contains(&added));

    whole.delete_pods("default", &["web", "db"]);
    await_same(&before, &node, &kubernetes.shared());
}

#[test]
fn a_pod_goes_without_its_definitions_and_without_the_daemon_that_attached_it() {
    let node = Node::new();
    let kubernetes = Kubernetes::new(&node, Rights::Daemon);
    let daemon = kubernetes.daemon();
    let before = node.snapshot();
    kubernetes.run("web", "storage,media");
    assert_eq!(daemon.served("ADD", 0), 1);
    drop(daemon);
    for name in ["storage", "media"] {
        kubernetes.whole.api().admin().delete(&format!("{}/{name}", definitions("default")));
    }
    kubernetes.whole.delete_pod("default", "web");
    await_same(&before, &node, &kubernetes.shared());
}

/// Makes forty pods with three networks at once, and waits for nothing; their names.
fn create_forty(kubernetes: &Kubernetes<'_>) -> Vec<String> {
    let names: Vec<_> = (0..40).map(|n| format!("pod-{n}")).collect();
    for name in &names {
        kubernetes.create(name, "storage,media");
    }
    names
}

/// All of them run on all three networks, and nobody has another's address.
#[track_caller]
fn assert_run(kubernetes: &Kubernetes<'_>, names: &[String]) {
    let running = names.iter().map(|name| kubernetes.whole.await_running("default", name));
    let addresses: Vec<_> = running.flat_map(|pod| status(&pod)).map(|[.., ip]| ip).collect();
    assert_eq!(addresses.len(), 3 * names.len());
    assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len(), "{addresses:?}");
}

fn delete(kubernetes: &Kubernetes<'_>, names: &[String]) {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    kubernetes.whole.delete_pods("default", &names);
}

#[test]
fn forty_pods_at_once_come_and_go() {
    let node = Node::new();
    let kubernetes = Kubernetes::new(&node, Rights::Thin);
    let before = node.snapshot();
    let names = create_forty(&kubernetes);
    assert_run(&kubernetes, &names);
    delete(&kubernetes, &names);
    await_same(&before, &node, &kubernetes.shared());
}

#[test]
fn forty_pods_at_once_come_and_go_while_the_daemon_is_killed_and_comes_back() {
    let node = Node::new();
    let kubernetes = Kubernetes::new(&node, Rights::Daemon);
    let kill_at_work = |daemon: NodeDaemon<'_>, verb: &str| {
        until("the daemon is in the midst of them", PATIENCE, || {
            (daemon.served(verb, 0) >= 5).then_some(())
        });
        drop(daemon);
    };
    let daemon = kubernetes.daemon();
    let before = node.snapshot();
    let names = create_forty(&kubernetes);
    kill_at_work(daemon, "ADD");
    let daemon = kubernetes.daemon();
    assert_run(&kubernetes, &names);
    std::thread::scope(|scope| {
        scope.spawn(|| delete(&kubernetes, &names));
        kill_at_work(daemon, "DEL");
    });
    await_same(&before, &node, &kubernetes.shared());
}

#[test]
fn pods_outlive_the_runtime_the_kubelet_and_the_daemon_on_all_their_networks() {
    let node = Node::new();
    let kubernetes = Kubernetes::new(&node, Rights::Daemon);
    let whole = &kubernetes.whole;
    let daemon = kubernetes.daemon();
    let before = node.snapshot();
    let web = kubernetes.run("web", "storage,media");
    drop(daemon);
    whole.restart_containerd();
    whole.restart_kubelet();
    let db = kubernetes.run("db", "storage,media");
    let daemon = kubernetes.daemon();
    let [client, server] = [&web, &db].map(|pod| whole.netns(pod));
    for [network, _, address] in status(&db) {
        let from = status(&web).into_iter().find(|entry| entry[0] == network).unwrap();
        assert_reaches(&client, &server, &address, &from[2]);
    }
    let now = whole.await_running("default", "web");
    assert_eq!(status(&now), status(&web));
    assert_eq!(now["status"]["containerStatuses"][0]["restartCount"], 0);
    whole.delete_pods("default", &["web", "db"]);
    assert!(daemon.served("DEL", 0) >= 2, "{daemon:?}");
    await_same(&before, &node, &kubernetes.shared());
}

#[test]
fn a_file_that_multus_has_written_works_beside_the_master() {
    let node = Node::new();
    let kubernetes = Kubernetes::without_network(&node, Rights::Thin);
    let mut bridge = bridge("cni0", &["10.1.0.0/24"]);
    bridge["capabilities"] = json!({ "mac": true });
    let master = json!({ "cniVersion": "0.3.1", "name": "cluster", "plugins": [bridge] });
    // What Multus's thin entrypoint makes of this master, keys and all.
    let multus = json!({
        "cniVersion": "0.3.1",
        "name": "multus-cni-network",
        "type": "multus",
        "capabilities": { "mac": true },
        "namespaceIsolation": true,
        "logToStderr": false,
        "logLevel": "verbose",
        "kubeconfig": kubernetes.kubeconfig,
        "delegates": [master],
    });
    kubernetes.configure("00-multus.conf", &multus);
    kubernetes.configure("10-cluster.conflist", &master);
    kubernetes.whole.await_ready();
    let before = node.snapshot();
    let web = kubernetes.run("web", "storage,media");
    assert_eq!(
        status(&web),
        [
            ["cluster", "eth0", "10.1.0.2"],
            ["default/storage", "net1", "10.2.0.2"],
            ["default/media", "net2", "10.3.0.2"],
        ]
    );
    let interfaces = kubernetes.whole.netns(&web).run(["ip", "-brief", "-4", "addr"]);
    for address in ["10.1.0.2/24", "10.2.0.2/24", "10.3.0.2/24"] {
        assert!(interfaces.contains(address), "{interfaces}");
    }
    kubernetes.whole.delete_pod("default", "web");
    await_same(&before, &node, &kubernetes.shared());
}

#[test]
fn a_pod_whose_network_is_not_there_holds_nobody_up_and_comes_up_with_it() {
    let node = Node::new();
    let kubernetes = Kubernetes::new(&node, Rights::Thin);
    let whole = &kubernetes.whole;
    let before = node.snapshot();
    kubernetes.create("early", "storage,late");
    let what_to_do =
        "there is no NetworkAttachmentDefinition late in namespace default: create it, or";
    until("an Event says what to change", PATIENCE, || {
        let events = whole.events("default", "early");
        events.iter().any(|event| event.contains(what_to_do)).then_some(())
    });
    await_same(&before, &node, &kubernetes.shared());
    kubernetes.run("other", "storage,media");
    let early = whole.await_pod("default", "early", "is there", |pod| pod.cloned());
    assert_eq!(early["status"]["phase"], "Pending");
    assert!(early["metadata"]["annotations"].get(STATUS).is_none(), "{early:#}");

    kubernetes.define("late", "lt0", "10.4.0.0/24");
    let early = whole.await_running("default", "early");
    assert_eq!(status(&early)[2], ["default/late", "net2", "10.4.0.2"]);
    whole.delete_pods("default", &["early", "other"]);
    await_same(&before, &node, &kubernetes.shared().catena("late").device("lt0"));
}
