//! Keeps the routes to other nodes' pods in step with the cluster's nodes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chain::{Error, Result};
use delegates::{Node, net::Net};
use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api as ApiOf,
    api::{ApiResource, Patch, PatchParams, Request},
    core::{GroupVersionKind, Object},
    runtime::{
        reflector::{Store, store::Writer},
        watcher::{Config, watcher},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{sync::Notify, task::spawn_blocking, time::timeout};

use super::{
    cached::{Cached, PodMeta},
    health::Health,
    metrics::Metrics,
    watch,
};
use crate::{
    net_conf::{
        Outcome,
        pod_network::{PodNetwork, Runtime},
    },
    reach::{self, Peer, TunnelSettings, Ways, Wish},
};

/// What is watched.
pub const WATCH: &str = "nodes";

/// How often the kernel's tables are looked at when no node changes: what others have changed in them is put right.
const ROUND: Duration = Duration::from_secs(10);

/// How other nodes' pods are reached.
#[derive(clap::Args, Clone, Debug)]
pub struct RouteArgs {
    /// Keep routes to the pods of all other nodes, by their podCIDRs.
    #[arg(long, env = "CATENA_POD_ROUTES", value_enum, value_name = "WAYS", num_args = 0..=1, default_missing_value = "auto")]
    pub pod_routes: Option<Ways>,
    /// Give the node's pods their network, from its podCIDRs: write the runtime's configuration for it. Implies --pod-routes.
    #[arg(long, env = "CATENA_POD_NETWORK", requires = "cluster_cidr")]
    pub pod_network: bool,
    /// The addresses inside the cluster, separated by commas: what pods send there keeps their own address, all else leaves
    /// under the node's.
    #[arg(
        long,
        env = "CATENA_CLUSTER_CIDR",
        value_delimiter = ',',
        value_name = "CIDR",
        requires = "pod_network"
    )]
    pub cluster_cidr: Vec<IpNet>,
    /// The tunnel's VXLAN network identifier, the same on all nodes.
    #[arg(long, default_value_t = 3239, value_parser = clap::value_parser!(u32).range(1..1 << 24), value_name = "VNI")]
    pub vxlan_id: u32,
    /// The tunnel's UDP port, the same on all nodes.
    #[arg(long, default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    pub vxlan_port: u16,
}

impl RouteArgs {
    /// The ways to other nodes' pods; `None` where nothing is to be done for them.
    pub fn ways(&self) -> Option<Ways> {
        self.pod_routes.or(self.pod_network.then(Ways::default))
    }
}

/// What is read of a Node beside its metadata.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

/// The same of its status.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Status {
    #[serde(default)]
    addresses: Vec<NodeAddress>,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

type NodeObject = Object<Spec, Status>;

/// Watches the nodes and keeps the routes, from here on for ever. `runtime`: who is led to the pods' network.
pub fn follow(
    routes: &RouteArgs,
    runtime: Option<Runtime>,
    node_name: String,
    cluster: Arc<Cached>,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) {
    let Some(ways) = routes.ways() else { return };
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Node"));
    let writer = Writer::<NodeObject>::new(resource.clone());
    let nodes = writer.as_reader();
    let changed = Arc::new(Notify::new());
    let (seen, counted, notify) = (health.clone(), metrics.clone(), changed.clone());
    let watching = cluster.clone();
    tokio::spawn(async move {
        let open =
            |client| watcher(ApiOf::<NodeObject>::all_with(client, &resource), Config::default());
        let Some(watched) = seen.watches().iter().find(|watched| watched.name() == WATCH) else {
            return;
        };
        watch::follow(watching.api(), open, writer, watched, &counted, |_| notify.notify_one())
            .await;
    });
    let keeper = Keeper {
        ways,
        settings: TunnelSettings { id: routes.vxlan_id, port: routes.vxlan_port },
        runtime,
        cluster_cidrs: routes.cluster_cidr.clone(),
        node_name,
        problems: BTreeSet::new(),
        serves: false,
    };
    tokio::spawn(keep(keeper, nodes, changed, cluster, metrics.clone()));
}

#[derive(Clone)]
struct Keeper {
    ways: Ways,
    settings: TunnelSettings,
    /// Who is led to the pods' network.
    runtime: Option<Runtime>,
    cluster_cidrs: Vec<IpNet>,
    node_name: String,
    /// What was logged as wrong.
    problems: BTreeSet<String>,
    /// Whether the pods' network is there for the runtime.
    serves: bool,
}

async fn keep(
    mut keeper: Keeper,
    nodes: Store<NodeObject>,
    changed: Arc<Notify>,
    cluster: Arc<Cached>,
    metrics: Arc<Metrics>,
) {
    // Before the API has told of all nodes nothing is taken away.
    if nodes.wait_until_ready().await.is_err() {
        return;
    }
    loop {
        let all = nodes.state();
        let peers: Vec<_> = all.iter().map(|node| peer(node)).collect();
        let mut at_work = keeper.clone();
        let round = spawn_blocking(move || {
            at_work.round(&peers);
            at_work
        });
        // A panic has been printed; the next round may do better.
        if let Ok(done) = round.await {
            keeper = done;
        }
        metrics.unreached(keeper.problems.len());
        let own = all.iter().find(|node| node.metadata.name.as_ref() == Some(&keeper.node_name));
        if keeper.serves && own.is_some_and(|node| is_unavailable(node)) {
            clear_unavailable(&cluster, &keeper.node_name).await;
        }
        // Either way the tables are looked at.
        let _ = timeout(ROUND, changed.notified()).await;
    }
}

/// The condition that keeps pods from a node until its network serves: cloud providers set it on new Nodes.
const UNAVAILABLE: &str = "NetworkUnavailable";

fn is_unavailable(node: &NodeObject) -> bool {
    let conditions = node.status.iter().flat_map(|status| &status.conditions);
    conditions.filter(|one| one.kind == UNAVAILABLE).any(|one| one.status != "False")
}

/// Tells the scheduler that the node's network serves.
async fn clear_unavailable(cluster: &Cached, node_name: &str) {
    let now = Timestamp::now().to_string();
    let patch = json!({ "status": { "conditions": [{
        "type": UNAVAILABLE,
        "status": "False",
        "reason": "CatenaServes",
        "message": "Routes to all nodes and the pods' network are there.",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }] } });
    let patched = async {
        let patch = Patch::Strategic(patch);
        let mut request = Request::new("/api/v1/nodes")
            .patch_subresource("status", node_name, &PatchParams::default(), &patch)
            .map_err(kube::Error::BuildRequest)?;
        // The answer would have the whole Node otherwise.
        let metadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        request.headers_mut().insert("accept", metadata.parse().expect("it is ASCII"));
        cluster.api().client().request::<PodMeta>(request).await
    };
    let patched = timeout(ROUND, patched).await;
    match patched {
        Ok(Ok(_)) => tracing::info!("the Node's condition {UNAVAILABLE} is cleared"),
        Ok(Err(error)) => tracing::warn!("the Node's condition {UNAVAILABLE}: {error}"),
        Err(_) => tracing::warn!("the Node's condition {UNAVAILABLE}: the API does not answer"),
    }
}

impl Keeper {
    /// Makes the kernel's tables as they should be.
    fn round(&mut self, peers: &[Peer]) {
        let mut problems = match self.apply(peers) {
            Ok(problems) => problems,
            Err(error) => vec![error.to_string()],
        };
        problems.retain(|problem| !problem.is_empty());
        for problem in problems.iter().filter(|problem| !self.problems.contains(*problem)) {
            tracing::warn!("pods of other nodes: {problem}");
        }
        self.problems = problems.into_iter().collect();
    }

    fn apply(&mut self, peers: &[Peer]) -> Result<Vec<String>> {
        self.serves = false;
        let own = peers.iter().find(|peer| peer.name == self.node_name).ok_or_else(|| {
            Error::config(format!(
                "there is no Node {}: give this node's name by --node-name or NODE_NAME",
                self.node_name
            ))
        })?;
        let node = Node::new();
        let net = node.host()?;
        let link_to = |ip| net.route().link_to(ip).ok().flatten();
        let wish = Wish::of(self.ways, own, peers, link_to);
        let applied = reach::apply(&net, &wish, self.settings)?;
        if applied != reach::Applied::default() {
            let reach::Applied { set, removed } = applied;
            tracing::info!(set, removed, routes = wish.routes.len(), "routes to other nodes' pods");
        }
        if let Some(runtime) = &self.runtime {
            self.write_conf(runtime, &net, &wish, own)?;
            self.serves = true;
        }
        Ok(wish.problems)
    }

    /// It leads the runtime here, so all that its pods need is there by now.
    fn write_conf(&self, runtime: &Runtime, net: &Net, wish: &Wish, own: &Peer) -> Result<()> {
        if own.pod_cidrs.is_empty() {
            return Err(Error::config(format!(
                "node {} has no podCIDRs yet: the controller manager assigns them with --allocate-node-cidrs, and without \
                 its pods get no addresses",
                own.name
            )));
        }
        let mtu = reach::mtu_of_pods(net, wish, own)?;
        let network =
            PodNetwork { pod_cidrs: &own.pod_cidrs, mtu, cluster_cidrs: &self.cluster_cidrs };
        if network.write(runtime)? == Outcome::Written {
            tracing::info!(dir = %runtime.conf_dir.display(), mtu, "the pods' network is written for the runtime");
        }
        Ok(())
    }
}

fn peer(node: &NodeObject) -> Peer {
    let cidrs = match node.spec.pod_cidrs.as_slice() {
        [] => node.spec.pod_cidr.as_slice(),
        all => all,
    };
    let addresses = node.status.iter().flat_map(|status| &status.addresses);
    Peer {
        name: node.metadata.name.clone().unwrap_or_default(),
        addresses: addresses
            .filter(|address| address.kind == "InternalIP")
            .filter_map(|address| address.address.parse().ok())
            .collect(),
        pod_cidrs: cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect(),
    }
}
