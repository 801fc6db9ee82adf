//! A cluster of one node whose runtime is the test itself: pods are objects of a real API server, and their namespaces are
//! attached by the plugin as a container runtime does it.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::bridge;
use testnode::kubernetes::{ApiServer, definitions, events, pods};
use testnode::{Attachment, Container, Node, PLUGINS, Plugins, Runtime, Shared, links, until};

use crate::CATENA;

/// The annotation that asks for networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The one that says what a pod was attached to.
pub const STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node, the API server, and the plugin's account with the rights of `deploy/`.
pub struct Cluster<'n> {
    pub node: &'n Node,
    pub api: ApiServer<'n>,
    pub kubeconfig: PathBuf,
    bin: PathBuf,
}

/// A pod of the cluster, and the sandbox that a runtime made for it.
pub struct Pod {
    pub uid: String,
    pub container: Container,
    pub attachment: Attachment,
}

impl<'n> Cluster<'n> {
    /// A cluster with the namespaces `default` and `blue`, and the definitions `storage`, `media` and `blue/private`.
    pub fn new(node: &'n Node) -> Self {
        Self::of(node, ApiServer::start(node))
    }

    /// The same with this API server.
    pub fn of(node: &'n Node, api: ApiServer<'n>) -> Self {
        api.apply(include_str!("../../deploy/base/crd.yaml"));
        api.apply(include_str!("../../deploy/base/rbac.yaml"));
        api.apply(include_str!("../../deploy/overlays/secondary/rbac.yaml"));
        api.namespace("blue");
        let kubeconfig = api.kubeconfig(&api.token("kube-system", "catena"));
        let names: Vec<_> = PLUGINS.iter().copied().chain(["multus"]).collect();
        let bin = links(node, CATENA, &names);
        let this = Self { node, api, kubeconfig, bin };
        this.define("default", "storage", &network("storage", "st0", "10.2.0.0/24"));
        this.define("default", "media", &network("media", "md0", "10.3.0.0/24"));
        this.define("blue", "private", &network("private", "pr0", "10.4.0.0/24"));
        this
    }

    /// See [`define`].
    pub fn define(&self, namespace: &str, name: &str, config: &Value) {
        define(&self.api, namespace, name, config);
    }

    /// A runtime whose network is the plugin `kind` with these keys beside the kubeconfig.
    pub fn runtime(&self, kind: &str, keys: &Value) -> Runtime<'n> {
        let mut plugin = json!({
            "type": kind,
            "kubeconfig": self.kubeconfig,
            "capabilities": { "portMappings": true },
        });
        for (key, value) in keys.as_object().unwrap() {
            plugin[key] = value.clone();
        }
        let list = json!({ "cniVersion": "1.1.0", "name": "pods", "plugins": [plugin] });
        Runtime::new(Plugins::new(self.node, [&self.bin]), list)
    }

    /// The runtime with `cluster` (bridge `cni0`, 10.1.0.0/24) as the cluster network.
    pub fn usual(&self) -> Runtime<'n> {
        self.runtime("catena", &json!({ "plugins": [bridge("cni0", &["10.1.0.0/24"])] }))
    }

    /// Makes a pod that asks for `networks`, and its sandbox.
    pub fn pod(&self, name: &str, networks: &Value) -> Pod {
        self.pod_in("default", name, networks)
    }

    pub fn pod_in(&self, namespace: &str, name: &str, networks: &Value) -> Pod {
        let mut annotations = json!({});
        match networks {
            Value::Null => {}
            Value::String(text) => annotations[NETWORKS] = text.as_str().into(),
            json => annotations[NETWORKS] = json.to_string().into(),
        }
        self.pod_with(namespace, name, &annotations)
    }

    /// Makes a pod with these annotations.
    pub fn pod_with(&self, namespace: &str, name: &str, annotations: &Value) -> Pod {
        let object = testnode::kubernetes::pod(name, "worker", annotations);
        let object = self.api.admin().create(&pods(namespace), &object);
        let uid = object["metadata"]["uid"].as_str().unwrap().to_owned();
        let container = self.node.container(name);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID=id-{name};K8S_POD_UID={uid}"
        );
        let attachment = Attachment::new(&container).args(&args);
        Pod { uid, container, attachment }
    }

    /// The pod's network-status.
    pub fn status(&self, namespace: &str, name: &str) -> Option<Value> {
        let pod = self.api.admin().get(&format!("{}/{name}", pods(namespace)));
        let text = pod["metadata"]["annotations"][STATUS].as_str()?.to_owned();
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The messages of events of this reason, once there is one.
    pub fn events(&self, namespace: &str, reason: &str) -> Vec<String> {
        until("there is an event", Duration::from_secs(10), || {
            let all = self.api.admin().list(&events(namespace));
            let of = all.iter().filter(|event| event["reason"] == reason);
            let mut messages: Vec<_> =
                of.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect();
            messages.sort();
            (!messages.is_empty()).then_some(messages)
        })
    }

    /// What networks share, and what therefore outlives a pod.
    pub fn shared(&self) -> Shared {
        ["pods", "storage", "media", "private"]
            .into_iter()
            .fold(Shared::none(), |shared, network| shared.catena(network))
            .directory("/var/lib/catena/pods")
            .device("cni0")
            .device("st0")
            .device("md0")
            .device("pr0")
    }
}

/// Makes a NetworkAttachmentDefinition; `config` null is none.
pub fn define(api: &ApiServer<'_>, namespace: &str, name: &str, config: &Value) {
    let spec = if config.is_null() { json!({}) } else { json!({ "config": config.to_string() }) };
    let object = json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name },
        "spec": spec,
    });
    api.admin().create(&definitions(namespace), &object);
}

/// A bridge network without a gateway.
pub fn network(name: &str, device: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": name,
        "type": "bridge",
        "bridge": device,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": subnet }]] },
    })
}
