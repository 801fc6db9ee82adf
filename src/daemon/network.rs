//! The pods' network of a node: keeps the routes to other nodes' pods, what the node's rules know of the cluster, and the
//! runtime's configuration in step with the cluster's nodes.

mod addresses;
mod keeper;
mod masq_config;
mod node;
mod services;
mod subnet_env;
mod yaml;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use chain::{Dirs, Error, Result};
use clap::builder::BoolishValueParser;
use delegates::cluster;
use ipnet::{AddrParseError, IpNet};
use kube::{
    Api as ApiOf,
    runtime::{
        reflector::{Store, store::Writer},
        watcher::{Config, watcher},
    },
};
use tokio::{sync::Notify, task::spawn_blocking, time::timeout};

use self::{
    addresses::Addresses,
    keeper::{Keeper, Source, State},
    masq_config::MasqConfig,
    node::Availability,
    services::{Asking, Shared, Told},
};
use super::{Args, cached::Cached, health::Health, metrics::Metrics, watch};
use crate::{
    kubernetes::client::object::{self, AnyObject},
    net_conf::{NetConf, pod_network::Runtime},
    reach::{Peer, TunnelSettings, Ways},
    wiring,
};

/// What is watched.
pub const WATCH: &str = "nodes";

/// How often the kernel's tables are looked at when no node changes: what others have changed in them is put right.
const ROUND: Duration = Duration::from_secs(10);

/// How often files are looked at.
const FILE_ROUND: Duration = Duration::from_secs(1);

/// What is done for the pods' network.
#[derive(clap::Args, Clone, Debug)]
pub struct NetworkArgs {
    /// Keep routes to the pods of all other nodes, by their podCIDRs.
    #[arg(long, env = "CATENA_POD_ROUTES", value_enum, value_name = "WAYS", num_args = 0..=1, default_missing_value = "auto")]
    pub pod_routes: Option<Ways>,
    /// Give the node's pods their network, from its podCIDRs: write the runtime's configuration for it. Implies --pod-routes.
    #[arg(long, env = "CATENA_POD_NETWORK", value_parser = BoolishValueParser::new())]
    pub pod_network: bool,
    /// Give the node's pods the network that flannel's file says, in place of its Node: flannel keeps the routes.
    #[arg(long, env = "CATENA_SUBNET_ENV", value_name = "FILE", num_args = 0..=1, default_missing_value = "/run/flannel/subnet.env")]
    pub subnet_env: Option<PathBuf>,
    /// What pods reach under their own address besides the cluster's pods and Services, separated by commas.
    #[arg(long, env = "CATENA_CLUSTER_CIDR", value_delimiter = ',', value_parser = cidr, value_name = "CIDR")]
    pub cluster_cidr: Vec<IpNet>,
    /// The addresses of the cluster's Services, separated by commas, besides those that its API tells.
    #[arg(long, env = "CATENA_SERVICE_CIDR", value_delimiter = ',', value_parser = cidr, value_name = "CIDR")]
    pub service_cidr: Vec<IpNet>,
    /// A file of ip-masq-agent's, in YAML or JSON, with more that pods reach under their own address (nonMasqueradeCIDRs).
    /// It is looked at again and again.
    #[arg(long, env = "CATENA_MASQ_CONFIG", value_name = "FILE")]
    pub masq_config: Option<PathBuf>,
    /// The tunnel's VXLAN network identifier, the same on all nodes.
    #[arg(long, default_value_t = 3239, value_parser = clap::value_parser!(u32).range(1..1 << 24), value_name = "VNI")]
    pub vxlan_id: u32,
    /// The tunnel's UDP port, the same on all nodes.
    #[arg(long, default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    pub vxlan_port: u16,
}

/// One of a list that people write with spaces, too.
fn cidr(text: &str) -> std::result::Result<IpNet, AddrParseError> {
    text.trim().parse()
}

impl NetworkArgs {
    /// The ways to other nodes' pods; `None` where nothing is to be done for them.
    pub fn ways(&self) -> Option<Ways> {
        self.pod_routes.or(self.pod_network.then(Ways::default))
    }
}

/// What keeps a node's network, ready to begin.
pub struct Network {
    keeper: Keeper,
    told: Shared,
}

impl Network {
    /// What the command line asks for, if it does; what is read on for good is opened. `meta`: the configuration that the meta
    /// plugin is called by.
    ///
    /// Errors: 5 where the folder of --masq-config is not there; 7 where it asks for two networks.
    pub fn open(args: &Args, meta: Option<&Arc<NetConf>>) -> Result<Option<Self>> {
        let network = &args.network;
        let source = match (&network.subnet_env, network.ways()) {
            (Some(path), Some(_)) => {
                return Err(Error::config(format!(
                    "--subnet-env {} (CATENA_SUBNET_ENV) stands in for the Nodes that --pod-network (CATENA_POD_NETWORK) and \
                     --pod-routes (CATENA_POD_ROUTES) go by: leave one of them out",
                    path.display()
                )));
            }
            (Some(path), None) => Source::SubnetEnv(path.clone()),
            (None, Some(ways)) => Source::Nodes(ways),
            (None, None) => {
                let addresses = network.cluster_cidr.len() + network.service_cidr.len();
                if addresses > 0 || network.masq_config.is_some() {
                    tracing::warn!(
                        "--cluster-cidr, --service-cidr and --masq-config have no effect without --pod-network, \
                         --pod-routes or --subnet-env"
                    );
                }
                return Ok(None);
            }
        };
        let masq_config = network.masq_config.as_deref().map(MasqConfig::open).transpose()?;
        let told = Shared::default();
        let keeper = Keeper {
            settings: TunnelSettings { id: network.vxlan_id, port: network.vxlan_port },
            runtime: match (&source, network.pod_network) {
                (Source::Nodes(_), false) => None,
                _ => Some(Runtime {
                    conf_dir: args.conf.conf_dir.clone(),
                    bin_dir: args.bin_dir.clone(),
                    data_dir: (args.state_dir != Dirs::default().state)
                        .then(|| args.state_dir.join("networks")),
                    meta: meta.cloned(),
                }),
            },
            source,
            addresses: Addresses::new(network, masq_config, told.clone()),
            node_name: String::new(),
            problems: BTreeSet::new(),
            state: State::Begins,
            has_begun: false,
        };
        Ok(Some(Self { keeper, told }))
    }

    /// Whether it follows the cluster's Nodes.
    pub fn watches_nodes(&self) -> bool {
        matches!(self.keeper.source, Source::Nodes(_))
    }

    /// Watches the nodes and keeps the network, from here on for ever.
    pub fn follow_nodes(
        mut self,
        node_name: String,
        cluster: &Arc<Cached>,
        metrics: Arc<Metrics>,
        health: &Arc<Health>,
    ) {
        let resource = object::nodes();
        let writer = Writer::<AnyObject>::new(resource.clone());
        let nodes = writer.as_reader();
        let changed = Arc::new(Notify::new());
        let (seen, counted, notify) = (health.clone(), metrics.clone(), changed.clone());
        let watching = cluster.clone();
        tokio::spawn(async move {
            let open = |client| {
                watcher(ApiOf::<AnyObject>::all_with(client, &resource), Config::default())
            };
            let Some(watched) = seen.watches().iter().find(|watched| watched.name() == WATCH)
            else {
                return;
            };
            let tell = |_: &_| notify.notify_one();
            watch::follow(watching.api(), open, writer, watched, &counted, tell).await;
        });
        self.follow_services(cluster, changed.clone());
        self.keeper.node_name = node_name;
        tokio::spawn(self.keep_nodes(nodes, changed, cluster.clone(), metrics));
    }

    /// Keeps the network that flannel's file says, from here on for ever. What a cluster's Services have for addresses its API
    /// tells, if there is one.
    pub async fn follow_subnet_env(mut self, cluster: Option<Arc<Cached>>, metrics: Arc<Metrics>) {
        let changed = Arc::new(Notify::new());
        if let Some(cluster) = &cluster {
            self.follow_services(cluster, changed.clone());
            // Before it has told, or failed to, no address is taken away.
            changed.notified().await;
        }
        loop {
            self.round(None, &metrics).await;
            let _ = timeout(FILE_ROUND, changed.notified()).await;
        }
    }

    fn follow_services(&self, cluster: &Arc<Cached>, changed: Arc<Notify>) {
        // With what kube-proxy had given the node among them, until the API tells.
        let services = wiring::dirs().map(|dirs| cluster::recorded(&dirs).services);
        let recorded = Told { services: services.unwrap_or_default(), pods: Vec::new() };
        let asking = Asking { recorded, shared: self.told.clone(), said: Vec::new() };
        let cluster = cluster.clone();
        tokio::spawn(asking.follow(move || cluster.api().client(), changed));
    }

    async fn keep_nodes(
        mut self,
        nodes: Store<AnyObject>,
        changed: Arc<Notify>,
        cluster: Arc<Cached>,
        metrics: Arc<Metrics>,
    ) {
        // Before the API has told of all nodes nothing is taken away.
        if nodes.wait_until_ready().await.is_err() {
            return;
        }
        let mut availability = Availability::default();
        let mut last = None;
        let mut begun = Instant::now();
        loop {
            let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let all = nodes.state();
            let now = told.map(|told| (node::peers(&all), told));
            // Kubelets write their Nodes again and again, and mostly nothing that matters here.
            let is_due =
                now != last || begun.elapsed() >= ROUND || self.keeper.addresses.are_outdated();
            if let Some((peers, _)) = now.as_ref().filter(|_| is_due) {
                begun = Instant::now();
                self.round(Some(peers.clone()), &metrics).await;
                let is_own = |node: &&Arc<AnyObject>| {
                    node.metadata.name.as_ref() == Some(&self.keeper.node_name)
                };
                let hindered = match &self.keeper.state {
                    State::Begins => None,
                    State::Serves => Some(None),
                    State::Hindered(why) => Some(Some(why.as_str())),
                };
                if let (Some(own), Some(hindered)) = (all.iter().find(is_own), hindered) {
                    availability.tell(&cluster, own, hindered).await;
                }
                last = now;
            }
            let _ = timeout(FILE_ROUND, changed.notified()).await;
        }
    }

    async fn round(&mut self, peers: Option<Vec<Peer>>, metrics: &Metrics) {
        let mut at_work = self.keeper.clone();
        let round = spawn_blocking(move || {
            at_work.round(peers.as_deref());
            at_work
        });
        // A panic has been printed; the next round may do better.
        if let Ok(done) = round.await {
            self.keeper = done;
        }
        metrics.rounds.inc();
        metrics.unreached(self.keeper.problems.len());
    }
}
