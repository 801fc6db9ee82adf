//! What `deploy/` starts on a node, with the very arguments of its DaemonSets: from then on the runtime's pods have their
//! networks.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist};
use testnode::kubernetes::{Rights, WholeNode, definitions};
use testnode::{Node, NodeDaemon, Plugins, Run, Runtime, until};

use crate::CATENA;
use crate::cluster::{Cluster, NETWORKS, PATIENCE, network};
use crate::manifests::objects;

const CONFLIST: &str = "/etc/cni/net.d/00-catena.conflist";
const TOKEN: &str = "/etc/cni/net.d/catena.d/token";

/// The arguments of a container of an overlay's DaemonSet.
fn args(overlay: &str, kind: &str) -> Vec<String> {
    let objects = objects(overlay);
    let set = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    let args = set["spec"]["template"]["spec"][kind][0]["args"].as_array().unwrap().iter();
    // A node of a test has one /etc for all.
    args.map(|arg| arg.as_str().unwrap().replace("/etc/catena", "/run/settings")).collect()
}

/// A cluster's node with CNI software of its own, and the service account's folder as the kubelet keeps it.
struct Deployed<'n> {
    cluster: Cluster<'n>,
    account: PathBuf,
}

impl<'n> Deployed<'n> {
    fn new(node: &'n Node) -> Self {
        let cluster = Cluster::new(node);
        let chain = [json!({ "type": "catena-is-not-asked-for" })];
        // Another one's file, and not the first.
        fs::create_dir_all("/etc/cni/net.d").unwrap();
        node.write("/etc/cni/net.d/20-other.conflist", &conflist("other", &chain).to_string());
        let account = node.dir("account");
        let config: Value =
            serde_json::from_slice(&fs::read(&cluster.kubeconfig).unwrap()).unwrap();
        let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
        fs::copy(authority, account.join("ca.crt")).unwrap();
        let this = Self { cluster, account };
        this.renew(&this.cluster.api.token("kube-system", "catena"));
        this
    }

    /// Puts a token into the folder, as the kubelet renews it.
    fn renew(&self, token: &str) {
        self.cluster.node.write(self.account.join("new"), token);
        fs::rename(self.account.join("new"), self.account.join("token")).unwrap();
    }

    /// The cluster's own network comes up.
    fn bring_up(&self) {
        let mut bridge = bridge("cni0", &["10.1.0.0/24"]);
        bridge["capabilities"] = json!({ "mac": true });
        let list = conflist("cluster", &[bridge]);
        self.cluster.node.write("/etc/cni/net.d/10-cluster.conflist", &list.to_string());
    }

    /// Catena in a pod: `/run`, with account and settings, is the pod's, and so is what of the host it does not mount.
    fn in_pod(&self, args: &[String], not_mounted: &[&str]) -> Run {
        let hidden: String =
            not_mounted.iter().map(|dir| format!("mount -t tmpfs none {dir}\n")).collect();
        let script = format!(
            "mount -t proc none /proc; mount --bind {account} /mnt\n{hidden}\
             mount -t tmpfs none /run\n\
             folder=/var/run/secrets/kubernetes.io/serviceaccount; mkdir -p $folder /run/settings\n\
             mount --bind /mnt $folder\n\
             echo '{{\"namespaceIsolation\": true}}' > /run/settings/settings.json\n\
             exec {CATENA} {args}",
            account = self.account.display(),
            args = args.join(" "),
        );
        // Process 1 sees the node as it is, and what is mounted there later.
        let init = "unshare --mount --propagation private sh -ec \"$0\" & wait";
        let address = self.cluster.api.address();
        self.cluster
            .node
            .cmd(["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", init])
            .args([&script])
            .env("NODE_NAME", "worker")
            .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
            .env("KUBERNETES_SERVICE_PORT", address.port().to_string())
    }

    /// A runtime as it finds the node: the first network of its folder.
    fn runtime(&self) -> Runtime<'n> {
        let mut files: Vec<_> = fs::read_dir("/etc/cni/net.d")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        let mut list: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
        if let Some(versions) = list["cniVersions"].as_array() {
            list["cniVersion"] = versions.last().unwrap().clone();
        }
        Runtime::new(Plugins::new(self.cluster.node, [Path::new("/opt/cni/bin")]), list)
    }

    fn await_conflist(&self) {
        until("the configuration is written", PATIENCE, || {
            Path::new(CONFLIST).exists().then_some(())
        });
    }

    /// A pod with a secondary network comes and goes.
    #[track_caller]
    fn serves(&self, name: &str) {
        let pod = self.cluster.pod(name, &json!("storage"));
        let runtime = self.runtime();
        runtime.add(&pod.attachment).unwrap_or_else(|e| panic!("{e}"));
        let status = self.cluster.status("default", name).unwrap();
        let names: Vec<_> = status.as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
        assert_eq!(names, ["cluster", "default/storage"]);
        runtime.check(&pod.attachment).unwrap_or_else(|e| panic!("{e}"));
        runtime.del(&pod.attachment).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn the_daemonset_gives_pods_their_networks_and_may_be_away() {
    let node = Node::new();
    let deployed = Deployed::new(&node);
    let install = args("overlays/secondary", "initContainers");
    node.cmd([CATENA]).args(&install).output().success();
    let hidden = ["/var/lib/catena", "/etc/cni/net.d", "/opt/cni/bin"];
    for dir in hidden {
        fs::create_dir_all(dir).unwrap();
    }
    deployed.bring_up();
    let daemon = args("overlays/secondary", "containers");
    let daemon = NodeDaemon::begin(&node, deployed.in_pod(&daemon, &hidden));
    deployed.await_conflist();
    deployed.serves("first");
    assert_eq!((daemon.served("ADD", 0), daemon.served("DEL", 0)), (1, 1));
    // The settings hold, and the capabilities are the network's.
    let list: Value = serde_json::from_slice(&fs::read(CONFLIST).unwrap()).unwrap();
    assert_eq!(list["plugins"][0]["capabilities"], json!({ "mac": true }));
    let other = deployed.cluster.pod("other", &json!("blue/private"));
    let refused = deployed.runtime().add(&other.attachment).unwrap_err().output.error_text();
    assert!(refused.contains("isolation"), "{refused}");

    drop(daemon);
    deployed.serves("second");
}

#[test]
fn the_thin_daemonset_gives_pods_their_networks_and_keeps_the_token_fresh() {
    let node = Node::new();
    let deployed = Deployed::new(&node);
    let bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    deployed.cluster.api.admin().delete(&format!("{bindings}/catena-watch"));
    deployed.bring_up();
    let old = deployed.cluster.api.token_for("kube-system", "catena", Duration::ZERO);
    deployed.renew(&old);
    let thin = args("overlays/thin", "containers");
    let mut thin = deployed.in_pod(&thin, &["/var/lib/catena"]).spawn(node.fresh_path("thin.log"));
    deployed.await_conflist();
    let pod = deployed.cluster.pod("early", &json!("storage"));
    let refused = deployed.runtime().add(&pod.attachment).unwrap_err().output.error_text();
    assert!(refused.contains("Unauthorized"), "{refused}");

    let new = deployed.cluster.api.token("kube-system", "catena");
    deployed.renew(&new);
    until("the token is the new one", PATIENCE, || {
        thin.assert_alive();
        (fs::read_to_string(TOKEN).ok()? == new).then_some(())
    });
    deployed.serves("first");
    thin.kill();
    deployed.serves("second");
}

#[test]
fn containerd_takes_the_configuration_and_pods_have_three_networks() {
    let node = Node::new();
    let (conf, bin) = (node.dir("net.d"), node.dir("bin"));
    let list = conflist("cluster", &[bridge("cni0", &["10.1.0.0/24"])]);
    node.write(conf.join("10-cluster.conflist"), &list.to_string());
    let install = |more: &[&str]| {
        let dirs = ["--bin-dir", bin.to_str().unwrap(), "--conf-dir", conf.to_str().unwrap()];
        let run = node.cmd([CATENA, "install"]).args(dirs).args(more);
        run.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "6443")
    };
    install(&[]).output().success();
    let whole = WholeNode::start(&node, &conf, &bin);
    whole.await_ready();
    let account = node.dir("account");
    node.write(account.join("token"), &whole.api().deploy(Rights::Thin));
    let config = fs::read(whole.api().admin_kubeconfig()).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
    fs::copy(authority, account.join("ca.crt")).unwrap();
    let account = account.to_str().unwrap();
    install(&["--write-conf", "--kubeconfig-from-service-account", account]).output().success();
    // It looks at its folder by itself, too, but some time later.
    whole.restart_containerd();
    whole.await_ready();
    for (name, device, subnet) in
        [("storage", "st0", "10.2.0.0/24"), ("media", "md0", "10.3.0.0/24")]
    {
        let object = json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name },
            "spec": { "config": network(name, device, subnet).to_string() },
        });
        whole.api().admin().create(&definitions("default"), &object);
    }
    let pod = whole.run_pod("web", &json!({ NETWORKS: "storage,media@net9" }));
    assert_eq!(pod["status"]["podIP"], "10.1.0.2");
    let shown = whole.netns(&pod).run(["ip", "-br", "-4", "addr"]);
    for part in ["eth0", "10.1.0.2/24", "net1", "10.2.0.2/24", "net9", "10.3.0.2/24"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    whole.delete_pod("default", "web");
    whole.await_gone("default", "web");
    for device in ["cni0", "st0", "md0"] {
        let ports = node.run(["ip", "-br", "link", "show", "master", device]);
        assert_eq!(ports, "", "{device}");
    }
}
