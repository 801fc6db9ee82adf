//! `deploy/overlays/network` as it is deployed: a kubelet runs the pod of the DaemonSet, image, mounts, rights and probes as the
//! manifests have them, on a node with no other CNI software.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testnode::kubernetes::{NODE_NAME, WholeNode, nodes, pod, pods};
use testnode::{HttpServer, Netns, Node, http_get, until, url};

use crate::CATENA;
use crate::cluster::{NETWORKS, PATIENCE, define, network};
use crate::manifests::objects;

const OVERLAY: &str = "overlays/network";
const NAMESPACE: &str = "kube-system";

/// Where the pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A whole node with everything of the overlay; there is no controller, so the DaemonSet's pods are made here.
struct Deployed<'n> {
    node: &'n Node,
    whole: WholeNode<'n>,
}

impl<'n> Deployed<'n> {
    fn new(node: &'n Node) -> Self {
        let whole = WholeNode::start(node, Path::new("/etc/cni/net.d"), Path::new("/opt/cni/bin"));
        let image = format!("docker.io/library/catena:{}", env!("CARGO_PKG_VERSION"));
        whole.import(&image, Path::new(CATENA));
        let api = whole.api();
        for object in objects(OVERLAY) {
            api.apply(&object.to_string());
        }
        // A controller's, in each namespace.
        let config = fs::read(api.admin_kubeconfig()).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
        api.admin().create(
            &format!("/api/v1/namespaces/{NAMESPACE}/configmaps"),
            &json!({
                "metadata": { "name": "kube-root-ca.crt" },
                "data": { "ca.crt": fs::read_to_string(authority).unwrap() },
            }),
        );
        Self { node, whole }
    }

    /// A pod of the DaemonSet: its template, and what a cluster adds to it: the node, the account's volume, and the API server's
    /// address, which is no Service's here.
    fn create(&self, name: &str) {
        let set = objects(OVERLAY).into_iter().find(|object| object["kind"] == "DaemonSet");
        let mut pod = set.unwrap()["spec"]["template"].take();
        pod["metadata"]["name"] = json!(name);
        let spec = &mut pod["spec"];
        spec["nodeName"] = json!(NODE_NAME);
        let sources = json!([
            { "serviceAccountToken": { "path": "token", "expirationSeconds": 3607 } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        ]);
        let volume = json!({ "name": "account", "projected": { "sources": sources } });
        spec["volumes"].as_array_mut().unwrap().push(volume);
        let address = self.whole.api().address();
        let host = json!({ "name": "KUBERNETES_SERVICE_HOST", "value": address.ip().to_string() });
        let port =
            json!({ "name": "KUBERNETES_SERVICE_PORT", "value": address.port().to_string() });
        for kind in ["initContainers", "containers"] {
            for container in spec[kind].as_array_mut().unwrap() {
                let mount = json!({ "name": "account", "mountPath": ACCOUNT, "readOnly": true });
                container["volumeMounts"].as_array_mut().unwrap().push(mount);
                if container.get("env").is_none() {
                    container["env"] = json!([]);
                }
                container["env"].as_array_mut().unwrap().extend([host.clone(), port.clone()]);
            }
        }
        self.whole.create_pod(NAMESPACE, &pod);
    }

    /// The same, and waits until its readiness probe is content.
    fn run(&self, name: &str) {
        self.create(name);
        self.whole.await_pod(NAMESPACE, name, "is ready", |pod| {
            let conditions = pod?["status"]["conditions"].as_array()?;
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
            (ready["status"] == "True").then_some(())
        });
    }

    /// Ends a pod of the DaemonSet, as an upgrade does.
    fn end(&self, name: &str) {
        self.whole.api().admin().delete(&format!("{}/{name}", pods(NAMESPACE)));
        until("the daemon has ended", PATIENCE, || self.metrics().is_none().then_some(()));
    }

    /// What the daemon serves on the address that the manifest names.
    fn metrics(&self) -> Option<String> {
        let curl = ["curl", "--silent", "--noproxy", "*", "http://127.0.0.1:9464/metrics"];
        let page = self.node.try_run(curl);
        page.is_success().then_some(page.stdout)
    }

    /// How many ADDs this daemon has served.
    fn served(&self) -> String {
        let page = self.metrics().unwrap();
        let added = page.lines().find(|line| line.contains(r#"verb="ADD",code="0""#));
        added.map(|line| line.rsplit(' ').next().unwrap().to_owned()).unwrap_or_default()
    }

    /// What a container of a pod has logged.
    fn log(&self, pod: &str) -> String {
        let is_its = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with(&format!("{NAMESPACE}_{pod}_"))
        };
        let entries = fs::read_dir("/var/log/pods").into_iter().flatten();
        let dir = entries.map(|entry| entry.unwrap().path()).find(is_its);
        let read = |dir: PathBuf| fs::read_to_string(dir.join("catena/0.log")).ok();
        dir.and_then(read).unwrap_or_default()
    }

    fn netns(&self, pod: &Value) -> Netns {
        self.whole.netns(pod)
    }
}

/// Reaches another pod, which sees the pod's own address.
#[track_caller]
fn assert_reaches(from: (&Netns, &str), to: (&Netns, &str)) {
    let server = HttpServer::start(to.0, 8080, "hello");
    assert_eq!(http_get(from.0, &url(to.1.parse().unwrap(), 8080)).unwrap().text, "hello");
    let peers: Vec<_> = server.peers().iter().map(|peer| peer.ip().to_string()).collect();
    assert_eq!(peers, [from.1]);
}

#[test]
fn a_node_without_other_cni_software_is_ready_once_its_network_serves() {
    let node = Node::new();
    let outside = node.uplink("outside", "192.0.2.7/24", "2001:db8::7/64");
    // The kubelet names the address that its node's name has; it waits long for others where packets to them are lost.
    node.ip("route del default via 192.0.2.7\nroute del default via 2001:db8::7\n");
    node.write("/etc/hosts", &format!("127.0.0.1 localhost\n192.0.2.1 {NODE_NAME}\n"));
    let deployed = Deployed::new(&node);
    let whole = &deployed.whole;
    let admin = whole.api().admin();
    // As a cloud provider has it on a new node.
    let links = || node.run(["ip", "-br", "link", "show", "type", "veth"]);
    let before = links();
    let object = format!("{}/{NODE_NAME}", nodes());
    let mut conditions = admin.get(&object)["status"]["conditions"].take();
    let unavailable =
        json!({ "type": "NetworkUnavailable", "status": "True", "reason": "NoRoute" });
    conditions.as_array_mut().unwrap().push(unavailable);
    admin.patch(&format!("{object}/status"), &json!({ "status": { "conditions": conditions } }));

    deployed.run("catena-1");
    until("the log says what the Node lacks", PATIENCE, || {
        deployed.log("catena-1").contains("has no podCIDRs yet").then_some(())
    });
    assert_eq!(whole.condition("Ready"), "False");
    assert!(!Path::new("/etc/cni/net.d/10-catena.conflist").exists());
    assert!(!Path::new("/etc/cni/net.d/00-catena.conflist").exists());
    define(whole.api(), "default", "storage", &network("storage", "st0", "10.2.0.0/24"));
    whole.create_pod("default", &pod("web", NODE_NAME, &json!({ NETWORKS: "storage" })));

    let spec = json!({ "spec": { "podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"] } });
    admin.patch(&object, &spec);
    whole.await_ready();
    let web = whole.await_running("default", "web");
    assert_eq!(web["status"]["podIP"], "10.244.1.2");
    until("the Node's condition is cleared", PATIENCE, || {
        (whole.condition("NetworkUnavailable") == "False").then_some(())
    });
    // Waiting for the network, it has not come to be without the other.
    let in_web = deployed.netns(&web);
    assert!(in_web.run(["ip", "-br", "-4", "addr"]).contains("10.2.0.2/24"));
    assert_eq!(deployed.served(), "1");

    // Under the node's address, since it leaves the cluster.
    assert_reaches((&in_web, "192.0.2.1"), (&outside, "192.0.2.7"));

    // Another version comes: between the two there is nobody.
    deployed.end("catena-1");
    assert_eq!(whole.condition("Ready"), "True");
    let db = whole.run_pod("db", &json!({ NETWORKS: "storage" }));
    let in_db = deployed.netns(&db);
    assert_reaches((&in_web, "10.244.1.2"), (&in_db, "10.244.1.3"));
    deployed.run("catena-2");
    assert_reaches((&in_db, "10.244.1.3"), (&in_web, "10.244.1.2"));
    whole.delete_pods("default", &["web", "db"]);
    assert_eq!(links(), before);
}
