//! kube-apiserver with etcd.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::assets::Assets;
use super::client::Client;
use super::etcd::{self, Etcd};
use super::keys::{ISSUER, Keys};
use super::kube_proxy::BESIDE_KUBE_PROXY;
use super::paths::nodes;
use crate::exec::{Background, Run};
use crate::node::Node;
use crate::wait::until;

/// Starting takes three seconds where nothing else is done.
const PATIENCE: Duration = Duration::from_secs(90);
/// For what the server does by itself after a request.
const SOON: Duration = Duration::from_secs(20);
/// The token that has all rights.
pub const ADMIN: &str = "the-administrator";
/// A TokenRequest for less is refused.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(600);

/// The roles that Catena is given by `deploy/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// What the plugin alone takes (`deploy/overlays/thin`).
    Thin,
    /// And what the daemon's watches take (`deploy/overlays/secondary`).
    Daemon,
    /// And what the pods' network takes (`deploy/overlays/network`).
    Network,
}

/// A cluster's API server, with RBAC and nothing else of a control plane: no scheduler, no controllers. Pods get their
/// node by `spec.nodeName`, and whoever refers to a namespace or service account makes it first.
///
/// It and etcd are killed on drop.
#[derive(Debug)]
pub struct ApiServer<'n> {
    node: &'n Node,
    assets: Assets,
    keys: Keys,
    flags: Vec<String>,
    server: Mutex<Background>,
    etcd: Mutex<Etcd>,
}

impl<'n> ApiServer<'n> {
    /// Starts one on the node; it is ready when this returns. A node has one at most.
    pub fn start(node: &'n Node) -> Self {
        Self::start_with(node, &[])
    }

    /// Starts one with further flags, for instance `--watch-cache=false`.
    pub fn start_with(node: &'n Node, flags: &[&str]) -> Self {
        let this = Self::spawn(node, Assets::with(&["etcd", "kube-apiserver"]), flags);
        this.await_ready();
        this
    }

    /// Starts one of the version that there is a [`kube_proxy`](super::kube_proxy()) of.
    pub fn start_beside_kube_proxy(node: &'n Node, flags: &[&str]) -> Self {
        let this = Self::spawn(node, Assets::with(&BESIDE_KUBE_PROXY), flags);
        this.await_ready();
        this
    }

    /// Starts one that will be ready after some time.
    pub(super) fn spawn(node: &'n Node, assets: Assets, flags: &[&str]) -> Self {
        let etcd = Etcd::start(node, &assets);
        let keys = Keys::make(node.dir("kubernetes/keys"));
        node.write(node.dir("kubernetes").join("tokens.csv"), USERS);
        let mut flags = flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>();
        if assets.minor("kube-apiserver") < 21 {
            // Nodes have pod networks of both families, and so do Services; later it's so without asking.
            flags.push("--feature-gates=IPv6DualStack=true".to_owned());
        }
        let server = spawn(node, &assets, &keys, &flags);
        let (server, etcd) = (Mutex::new(server), Mutex::new(etcd));
        Self { node, assets, keys, flags, server, etcd }
    }

    /// Where it answers, on the node's loopback.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], 6443).into()
    }

    /// A client with all rights.
    pub fn admin(&self) -> Client {
        self.client(ADMIN)
    }

    /// A client with this token.
    pub fn client(&self, token: &str) -> Client {
        self.client_at(self.address(), token)
    }

    pub(super) fn client_at(&self, address: SocketAddr, token: &str) -> Client {
        Client::new(address, Some(self.keys.connector()), token)
    }

    /// A new file that leads a client with this token to the server.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        self.kubeconfig_at(self.address(), token)
    }

    /// The same with all rights.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig(ADMIN)
    }

    /// A new file that leads a client with this token to `address`.
    pub fn kubeconfig_at(&self, address: SocketAddr, token: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "test",
                "cluster": {
                    "server": format!("https://{address}"),
                    "certificate-authority": self.keys.authority(),
                },
            }],
            "users": [{ "name": "test", "user": { "token": token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "current-context": "test",
        });
        // YAML contains JSON.
        self.node.json_file("kubeconfig", &config)
    }

    /// `kubectl <args>` with all rights, to be run.
    pub fn kubectl(&self, args: &[&str]) -> Run {
        self.run_kubectl(self.assets.binary("kubectl"), args)
    }

    /// The same by a kubectl whose kustomize reads kustomizations as they are written today, which it does from 1.21 on: the
    /// usual one, or else that of `PATH`; `None` where neither is.
    pub fn kubectl_with_kustomize(&self, args: &[&str]) -> Option<Run> {
        let kubectl = self.assets.kubectl_from(21)?;
        Some(self.run_kubectl(kubectl, args))
    }

    fn run_kubectl(&self, kubectl: OsString, args: &[&str]) -> Run {
        let kubeconfig = self.admin_kubeconfig();
        self.node
            .cmd([kubectl])
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            // Its caches.
            .env("HOME", self.node.dir("kubernetes/home"))
    }

    /// `kubectl apply` of a manifest in YAML or JSON; custom resources are served when it returns.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.kubectl(&["apply", "-f", "-"]).stdin(manifest).output().success();
        if manifest.contains("CustomResourceDefinition") {
            self.await_custom_resources();
        }
    }

    /// Applies what `deploy/` gives Catena: the definition of NetworkAttachmentDefinitions, its service account, and exactly
    /// its roles. The account's token is returned.
    #[track_caller]
    pub fn deploy(&self, rights: Rights) -> String {
        let all = [
            "base/crd.yaml",
            "base/rbac.yaml",
            "overlays/secondary/rbac.yaml",
            "overlays/network/rbac.yaml",
        ];
        let count = match rights {
            Rights::Thin => 2,
            Rights::Daemon => 3,
            Rights::Network => 4,
        };
        for manifest in &all[..count] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(manifest);
            let text =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            self.apply(&text);
        }
        self.token("kube-system", "catena")
    }

    fn await_custom_resources(&self) {
        let admin = self.admin();
        for kind in admin.list("/apis/apiextensions.k8s.io/v1/customresourcedefinitions") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (group, plural) =
                (text(&kind["spec"]["group"]), text(&kind["spec"]["names"]["plural"]));
            for version in kind["spec"]["versions"].as_array().into_iter().flatten() {
                let path = format!("/apis/{group}/{}/{plural}", text(&version["name"]));
                until(&format!("{path} is served"), SOON, || {
                    admin.request("GET", &path, None).is_success().then_some(())
                });
            }
        }
    }

    /// Makes a namespace.
    #[track_caller]
    pub fn namespace(&self, name: &str) {
        self.admin().create("/api/v1/namespaces", &json!({ "metadata": { "name": name } }));
    }

    /// Makes a node; `pod_cidrs` are what a controller would assign to it, one of each family.
    #[track_caller]
    pub fn add_node(&self, name: &str, pod_cidrs: &[&str]) {
        let mut spec = json!({});
        if let Some(first) = pod_cidrs.first() {
            spec = json!({ "podCIDR": first, "podCIDRs": pod_cidrs });
        }
        let node = json!({ "metadata": { "name": name }, "spec": spec });
        self.admin().create(&nodes(), &node);
    }

    /// A service account's token for an hour, from the server's TokenRequest.
    #[track_caller]
    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.token_for(namespace, account, Duration::from_secs(3600))
    }

    /// A service account's token that the server takes for this time (and up to ten seconds more, if it has seen it: it
    /// remembers whom it has let in). One for less than ten minutes, which the server would not issue, is signed with its key.
    #[track_caller]
    pub fn token_for(&self, namespace: &str, account: &str, lifetime: Duration) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}");
        if lifetime < SHORTEST_LIFETIME {
            return self.keys.sign_token(&self.admin().get(&path), lifetime);
        }
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "expirationSeconds": lifetime.as_secs() },
        });
        let answer = self.admin().create(&format!("{path}/token"), &request);
        let token = answer["status"]["token"].as_str();
        token.unwrap_or_else(|| panic!("no token: {answer}")).to_owned()
    }

    /// Compacts etcd: it forgets all revisions before the present one, which is returned. The server's own cache still serves
    /// watches from the revisions that it has seen, until it's restarted, or if it was started with `--watch-cache=false`.
    pub fn compact(&self) -> u64 {
        lock(&self.etcd).compact()
    }

    /// Kills the server; etcd goes on.
    pub fn stop(&self) {
        lock(&self.server).kill();
    }

    /// Kills the server, if it runs, and starts it again.
    pub fn restart(&self) {
        self.stop();
        *lock(&self.server) = spawn(self.node, &self.assets, &self.keys, &self.flags);
        self.await_ready();
    }

    /// What the server has logged since it was last started.
    pub fn log(&self) -> String {
        lock(&self.server).log()
    }

    pub(super) fn await_ready(&self) {
        let admin = self.admin();
        until("the API server is ready", PATIENCE, || {
            lock(&self.etcd).assert_alive();
            lock(&self.server).assert_alive();
            admin.try_request("GET", "/readyz", None).is_ok_and(|a| a.is_success()).then_some(())
        });
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// token, user, user id, groups
const USERS: &str = "the-administrator,admin,admin,\"system:masters\"\n";

fn spawn(node: &Node, assets: &Assets, keys: &Keys, flags: &[String]) -> Background {
    let dir = node.dir("kubernetes");
    let [certificate, key, accounts] =
        [keys.certificate_of("server"), keys.key_of("server"), keys.key_of("accounts")]
            .map(|path| path.display().to_string());
    let (users, certificates) = (dir.join("tokens.csv"), dir.join("certificates"));
    fs::create_dir_all(&certificates).unwrap_or_else(|e| panic!("{}: {e}", certificates.display()));
    node.cmd([assets.binary("kube-apiserver")])
        .args(["--bind-address=127.0.0.1", "--secure-port=6443"])
        // Nothing but loopback is sure to be there, and that is none of a service's endpoints.
        .args(["--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"])
        .args([format!("--etcd-servers={}", etcd::URL)])
        .args([format!("--cert-dir={}", certificates.display())])
        .args([format!("--tls-cert-file={certificate}"), format!("--tls-private-key-file={key}")])
        .args(["--service-cluster-ip-range=10.96.0.0/16,fd00:96::/108"])
        .args(["--authorization-mode=RBAC", "--allow-privileged=true"])
        .args([format!("--token-auth-file={}", users.display())])
        .args([format!("--service-account-issuer={ISSUER}")])
        .args([format!("--service-account-key-file={accounts}")])
        .args([format!("--service-account-signing-key-file={accounts}")])
        // It waits for a controller to make each namespace's default account.
        .args(["--disable-admission-plugins=ServiceAccount"])
        .args(flags)
        .spawn(node.fresh_path("kube-apiserver.log"))
}
