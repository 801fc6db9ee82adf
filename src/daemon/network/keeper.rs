//! One round after the other: what the node has is made what it should be.

use std::{collections::BTreeSet, path::PathBuf};

use chain::{Code, Dirs, Error, Result};
use delegates::{
    Node,
    cluster::{self, OtherVersion},
    firewall,
    net::Net,
};

use super::{addresses::Addresses, subnet_env::SubnetEnv};
use crate::{
    living::living,
    net_conf::{
        Outcome,
        pod_network::{PodNetwork, Runtime},
    },
    reach::{self, Peer, TunnelSettings, Ways, Wish},
    wiring,
};

/// Where a node learns its part of the pods' addresses.
#[derive(Clone)]
pub enum Source {
    /// From its Node, and other nodes' pods are reached by these ways.
    Nodes(Ways),
    /// From flannel's file.
    SubnetEnv(PathBuf),
}

/// Whether the pods' network is there for the runtime.
#[derive(Clone)]
pub enum State {
    /// Not yet.
    Begins,
    Serves,
    /// It is there, and this keeps packets from passing.
    Hindered(String),
}

/// Keeps the node's tables and its configuration, round by round.
#[derive(Clone)]
pub struct Keeper {
    pub source: Source,
    pub settings: TunnelSettings,
    /// Who is led to the pods' network.
    pub runtime: Option<Runtime>,
    pub addresses: Addresses,
    pub node_name: String,
    /// What was logged as wrong.
    pub problems: BTreeSet<String>,
    pub state: State,
    /// Whether this daemon has made its version of the rules: who has another one there by now came later.
    pub has_begun: bool,
}

impl Keeper {
    /// Makes the kernel's tables as they should be.
    pub fn round(&mut self, peers: Option<&[Peer]>) {
        let mut problems = match self.apply(peers) {
            Ok(problems) => problems,
            Err(error) => vec![error.to_string()],
        };
        problems.retain(|problem| !problem.is_empty());
        for problem in problems.iter().filter(|problem| !self.problems.contains(*problem)) {
            tracing::warn!("the pods' network: {problem}");
        }
        self.problems = problems.into_iter().collect();
    }

    fn apply(&mut self, peers: Option<&[Peer]>) -> Result<Vec<String>> {
        self.state = State::Begins;
        let dirs = wiring::dirs()?;
        let _alone = reach::alone(&dirs)?;
        self.require_needed(&dirs)?;
        let node = Node::new();
        let net = node.host()?;
        match (&self.source, peers) {
            (Source::SubnetEnv(path), _) => {
                let env = SubnetEnv::read(path)?;
                let (cluster, mut problems) = self.addresses.of_networks(&env.networks, &net)?;
                let network = PodNetwork {
                    pod_cidrs: &env.subnets,
                    mtu: env.mtu,
                    masquerades: !env.masquerades,
                };
                problems.extend(self.serve(&cluster, Some(&network))?);
                Ok(problems)
            }
            (Source::Nodes(ways), peers) => {
                self.apply_nodes(*ways, peers.unwrap_or_default(), &net)
            }
        }
    }

    /// Refuses to put anything back where Catena was uninstalled, and to put it there before Catena is installed. Containers that
    /// are there all the same keep what they need.
    fn require_needed(&self, dirs: &Dirs) -> Result<()> {
        match self.runtime.as_ref().map_or(Ok(()), Runtime::require_catena) {
            Err(error) if living(dirs).is_ok_and(|living| living.is_empty()) => Err(error),
            _ => Ok(()),
        }
    }

    fn apply_nodes(&mut self, ways: Ways, peers: &[Peer], net: &Net) -> Result<Vec<String>> {
        let own = peers.iter().find(|peer| peer.name == self.node_name).ok_or_else(|| {
            Error::config(format!(
                "there is no Node {}: give this node's name by --node-name or NODE_NAME",
                self.node_name
            ))
        })?;
        let (cluster, mut problems) = self.addresses.of_nodes(peers, net)?;
        let link_to = |ip| net.route().link_to(ip).ok().flatten();
        let wish = Wish::of(ways, own, peers, link_to);
        // What cannot be reached keeps the rest from nothing.
        let applied = reach::apply(net, &wish, self.settings).unwrap_or_else(|error| {
            problems.push(error.to_string());
            reach::Applied::default()
        });
        if applied != reach::Applied::default() {
            let reach::Applied { set, removed } = applied;
            tracing::info!(set, removed, routes = wish.routes.len(), "routes to other nodes' pods");
        }
        problems.extend(wish.problems.iter().cloned());
        if self.runtime.is_some() && own.pod_cidrs.is_empty() {
            return Err(Error::config(format!(
                "node {} has no podCIDRs yet: the controller manager assigns them with --allocate-node-cidrs, and without \
                 its pods get no addresses",
                own.name
            )));
        }
        let mtu = reach::mtu_of_pods(net, &wish, own);
        let network = match &self.runtime {
            Some(_) => Some(PodNetwork { pod_cidrs: &own.pod_cidrs, mtu: mtu?, masquerades: true }),
            None => None,
        };
        problems.extend(self.serve(&cluster, network.as_ref())?);
        Ok(problems)
    }

    /// Has the node's rules know the cluster, and the runtime its network; returns what is not as it should be. The
    /// configuration leads the runtime here, so all that its pods need is there before.
    fn serve(
        &mut self,
        addresses: &cluster::Cluster,
        network: Option<&PodNetwork<'_>>,
    ) -> Result<Vec<String>> {
        let dirs = wiring::dirs()?;
        // A record that cannot be written keeps nothing from the rules.
        let mut problems: Vec<_> = cluster::record(&dirs, addresses).err().into_iter().collect();
        // The plugin replaces a table of another version with each ADD: with each round it would change for ever.
        let other = match self.has_begun {
            false => OtherVersion::Replace,
            true => OtherVersion::Keep,
        };
        let has_changed = cluster::keep(&dirs, addresses, other)?;
        self.has_begun = true;
        if has_changed {
            let cluster::Cluster { pods, nodes, services, direct } = addresses;
            let (pods, nodes, services, direct) =
                (pods.len(), nodes.len(), services.len(), direct.len());
            tracing::info!(
                pods,
                nodes,
                services,
                direct,
                "the node's rules know the cluster's addresses"
            );
        }
        let (Some(runtime), Some(network)) = (&self.runtime, network) else {
            return Ok(texts(&problems));
        };
        write_conf(runtime, network)?;
        let error = firewall::keep_open(&dirs).err();
        self.state = match &error {
            // Somebody else was at work on the rules: that passes.
            Some(error) if !matches!(error.code, Code::TryAgain | Code::Io) => {
                State::Hindered(error.to_string())
            }
            _ => State::Serves,
        };
        problems.extend(error);
        Ok(texts(&problems))
    }
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn write_conf(runtime: &Runtime, network: &PodNetwork<'_>) -> Result<()> {
    if network.write(runtime)? == Outcome::Written {
        let (dir, mtu) = (runtime.conf_dir.display(), network.mtu);
        tracing::info!(%dir, mtu, "the pods' network is written for the runtime");
    }
    Ok(())
}
