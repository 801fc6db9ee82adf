//! A Kubernetes that runs pods.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::api_server::ApiServer;
use super::assets::Assets;
use super::containerd::Containerd;
use super::daemon::Daemon;
use super::image;
use super::kubelet;
use super::paths::{events, nodes, pods};
use super::pod::pod;
use crate::device_plugin::DevicePlugin;
use crate::netns::Netns;
use crate::node::Node;
use crate::runtimes::{ControlGroups, Sandbox};
use crate::wait::{until, within};

/// What the API knows the node by.
pub const NODE_NAME: &str = "node";

/// A pod takes a second, and a hundred of them longer.
const PATIENCE: Duration = Duration::from_secs(90);

/// An API server, and its one node: the kubelet and containerd, with the plugins under test.
///
/// The node is the test's [`Node`], with one difference: what the daemons mount is for them and their containers alone, but
/// for the network namespaces below `/run/netns`. Control groups can't be changed, so none are left behind. Everything
/// ends with the test's thread, or on drop.
#[derive(Debug)]
pub struct WholeNode<'n> {
    node: &'n Node,
    assets: Assets,
    // Killed in this order.
    kubelet: Mutex<Daemon>,
    containerd: Mutex<Containerd>,
    sandbox: Sandbox,
    api: ApiServer<'n>,
}

impl<'n> WholeNode<'n> {
    /// Starts everything. When it returns the node is known to the API, but not before there is a network in
    /// `conf_dir` it is ready: see [`await_ready`](Self::await_ready).
    pub fn start(node: &'n Node, conf_dir: &Path, bin_dir: &Path) -> Self {
        let assets = Assets::with(&["etcd", "kube-apiserver", "kubelet"]);
        let api = ApiServer::spawn(node, assets.clone(), &[]);
        let sandbox = Sandbox::start(node, ControlGroups::ReadOnly);
        let containerd = Containerd::start(node, &sandbox, &assets, conf_dir, bin_dir);
        let endpoint = containerd.endpoint();
        // Before the API is ready: 1.20 begins with five seconds in search of Docker, whatever it is to run.
        let kubelet = kubelet::start(node, &sandbox, &assets, &api, &endpoint, NODE_NAME);
        let (kubelet, containerd) = (Mutex::new(kubelet), Mutex::new(containerd));
        let this = Self { node, assets, kubelet, containerd, sandbox, api };
        this.api.await_ready();
        this.await_condition("the node is registered", |_| true);
        this
    }

    /// The API server.
    pub fn api(&self) -> &ApiServer<'n> {
        &self.api
    }

    /// Gives the node an image of a binary alone, which it executes.
    pub fn import(&self, image: &str, binary: &Path) {
        let archive = image::of_binary(self.node, image, binary);
        lock(&self.containerd).import(self.node, &self.sandbox, &archive);
    }

    /// Waits until the kubelet says that it can run pods.
    #[track_caller]
    pub fn await_ready(&self) {
        self.await_condition("the node is ready", |node| status_of(node, "Ready") == "True");
    }

    /// The status of a condition of the node; null where it does not have it.
    pub fn condition(&self, kind: &str) -> Value {
        status_of(&self.api.admin().get(&format!("{}/{NODE_NAME}", nodes())), kind).clone()
    }

    /// Makes a pod in the namespace `default`, see [`pod`], and waits until it runs: the object then.
    #[track_caller]
    pub fn run_pod(&self, name: &str, annotations: &Value) -> Value {
        self.create_pod("default", &pod(name, NODE_NAME, annotations));
        self.await_running("default", name)
    }

    /// Makes a pod, and waits for nothing.
    #[track_caller]
    pub fn create_pod(&self, namespace: &str, pod: &Value) -> Value {
        self.api.admin().create(&pods(namespace), pod)
    }

    /// Waits until a pod runs and has an address: the object then. Panics with the pod's Events if that does not come.
    #[track_caller]
    pub fn await_running(&self, namespace: &str, name: &str) -> Value {
        self.await_pod(namespace, name, "runs", |pod| {
            let pod = pod?;
            let status = &pod["status"];
            (status["phase"] == "Running" && status["podIP"].is_string()).then(|| pod.clone())
        })
    }

    /// Deletes a pod, and waits until containerd has removed its network namespace, which it does after the DEL of its
    /// networks. The API knows the pod for ten seconds more, and many for a minute, see [`await_gone`](Self::await_gone).
    #[track_caller]
    pub fn delete_pod(&self, namespace: &str, name: &str) {
        self.delete_pods(namespace, &[name]);
    }

    /// Deletes pods at once, and waits for all of them, as [`delete_pod`](Self::delete_pod) does.
    #[track_caller]
    pub fn delete_pods(&self, namespace: &str, names: &[&str]) {
        let admin = self.api.admin();
        let path = |name: &str| format!("{}/{name}", pods(namespace));
        let namespaces = names.iter().map(|name| self.find_netns(&admin.get(&path(name))));
        let namespaces: Vec<_> = namespaces.collect();
        for name in names {
            admin.delete(&path(name));
        }
        for (name, netns) in names.iter().zip(namespaces) {
            match netns {
                Some(netns) => self.await_pod(namespace, name, "has ended", |_| {
                    (!Path::new(&netns).exists()).then_some(())
                }),
                None => self.await_gone(namespace, name),
            }
        }
    }

    /// Waits until the API knows a pod no more.
    #[track_caller]
    pub fn await_gone(&self, namespace: &str, name: &str) {
        self.await_pod(namespace, name, "is gone", |pod| pod.is_none().then_some(()));
    }

    /// Waits for what `probe` makes of a pod, or of its absence. Panics with the pod's Events if nothing comes of it.
    #[track_caller]
    pub fn await_pod<T>(
        &self,
        namespace: &str,
        name: &str,
        what: &str,
        mut probe: impl FnMut(Option<&Value>) -> Option<T>,
    ) -> T {
        let admin = self.api.admin();
        let path = format!("{}/{name}", pods(namespace));
        let answer = within(PATIENCE, || {
            self.assert_alive();
            probe(admin.find(&path).as_ref())
        });
        answer.unwrap_or_else(|| {
            panic!(
                "waited {PATIENCE:?} in vain until the pod {namespace}/{name} {what}\n--- object\n{:#}\n--- Events\n{}",
                admin.find(&path).unwrap_or(json!(null)),
                self.events(namespace, name).join("\n")
            )
        })
    }

    /// The Events of a pod, each as `<reason>: <message>`.
    pub fn events(&self, namespace: &str, pod: &str) -> Vec<String> {
        let all = self.api.admin().list(&events(namespace));
        let of_pod = all.iter().filter(|event| event["involvedObject"]["name"] == pod);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        of_pod.map(|e| format!("{}: {}", text(&e["reason"]), text(&e["message"]))).collect()
    }

    /// The network namespace of a pod that runs.
    #[track_caller]
    pub fn netns(&self, pod: &Value) -> Netns {
        let path = self.find_netns(pod);
        let path = path.unwrap_or_else(|| panic!("containerd has no sandbox for {pod:#}"));
        Netns::at(pod["metadata"]["name"].as_str().unwrap_or_default(), path)
    }

    #[track_caller]
    fn find_netns(&self, pod: &Value) -> Option<String> {
        let uid = pod["metadata"]["uid"].as_str();
        let uid = uid.unwrap_or_else(|| panic!("a pod without UID: {pod}"));
        lock(&self.containerd).netns(self.node, &self.sandbox, uid)
    }

    /// Starts a device plugin with devices of `resource` (`<vendor domain>/<name>`) that have these ids, and waits until the
    /// node has them.
    #[track_caller]
    pub fn device_plugin(&self, resource: &str, ids: &[&str]) -> DevicePlugin {
        let minor = self.assets.minor("kubelet");
        let plugin = DevicePlugin::start(minor, resource, ids)
            .unwrap_or_else(|e| panic!("a device plugin for {resource}: {e}"));
        let number = ids.len().to_string();
        self.await_condition("the node has the devices", |node| {
            node["status"]["allocatable"][resource] == number.as_str()
        });
        plugin
    }

    /// Kills the kubelet and starts it again; pods go on running.
    pub fn restart_kubelet(&self) {
        self.stop_kubelet();
        self.start_kubelet();
    }

    /// Kills the kubelet; pods go on running.
    pub fn stop_kubelet(&self) {
        lock(&self.kubelet).kill(self.node, &self.sandbox);
    }

    /// Starts the kubelet again after [`stop_kubelet`](Self::stop_kubelet).
    pub fn start_kubelet(&self) {
        lock(&self.kubelet).start_again(self.node, &self.sandbox);
    }

    /// Kills containerd and starts it again; pods go on running.
    pub fn restart_containerd(&self) {
        let mut containerd = lock(&self.containerd);
        containerd.stop(self.node, &self.sandbox);
        containerd.start_again(self.node, &self.sandbox);
    }

    /// What the kubelet has logged since it was last started.
    pub fn kubelet_log(&self) -> String {
        lock(&self.kubelet).log()
    }

    /// What containerd has logged since it was last started.
    pub fn containerd_log(&self) -> String {
        lock(&self.containerd).log()
    }

    #[track_caller]
    fn assert_alive(&self) {
        lock(&self.containerd).assert_alive();
    }

    #[track_caller]
    fn await_condition(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let admin = self.api.admin();
        until(what, PATIENCE, || {
            lock(&self.kubelet).assert_alive();
            self.assert_alive();
            let node = admin.find(&format!("{}/{NODE_NAME}", nodes()))?;
            condition(&node).then_some(())
        });
    }
}

fn status_of<'v>(node: &'v Value, condition: &str) -> &'v Value {
    let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    let mut of_kind = conditions.into_iter().filter(|one| one["type"] == condition);
    of_kind.next().map_or(&Value::Null, |one| &one["status"])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
