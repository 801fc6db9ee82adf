//! The cluster's addresses, from all that tells of them.

use std::sync::{Arc, PoisonError};

use chain::Result;
use delegates::{cluster::Cluster, net::Net};
use ipnet::IpNet;

use super::{
    NetworkArgs,
    masq_config::{MasqConfig, Version},
    services::Shared,
};
use crate::reach::Peer;

/// The interface on which kube-proxy's IPVS mode has the addresses of Services, those from outside among them.
const IPVS: &str = "kube-ipvs0";

/// Where the cluster's addresses are known from, beside its nodes.
#[derive(Clone)]
pub struct Addresses {
    /// Of the command line.
    direct: Vec<IpNet>,
    services: Vec<IpNet>,
    masq_config: Option<Arc<MasqConfig>>,
    /// What the file said when it could be read last.
    masq: Vec<IpNet>,
    /// Which one that was.
    version: Option<Version>,
    /// What the API told.
    told: Shared,
}

impl Addresses {
    /// From the command line, a file and the API.
    pub fn new(args: &NetworkArgs, masq_config: Option<MasqConfig>, told: Shared) -> Self {
        Self {
            direct: args.cluster_cidr.clone(),
            services: args.service_cidr.clone(),
            masq_config: masq_config.map(Arc::new),
            masq: Vec::new(),
            version: None,
            told,
        }
    }

    /// Whether the file is another one than when they were asked for last.
    pub fn are_outdated(&self) -> bool {
        self.masq_config.as_ref().is_some_and(|file| file.version() != self.version)
    }

    /// Those of a cluster with these nodes, and what is wrong with one of the places.
    ///
    /// Errors (5): the kernel does not list its addresses.
    pub fn of_nodes(&mut self, nodes: &[Peer], net: &Net) -> Result<(Cluster, Vec<String>)> {
        let pods = nodes.iter().flat_map(|node| &node.pod_cidrs).map(IpNet::trunc);
        // Everything is nobody's part.
        let pods = pods.filter(|net| net.prefix_len() > 0).collect();
        let (mut cluster, problems) = self.of_networks_in(pods, net)?;
        cluster.nodes =
            nodes.iter().flat_map(|node| &node.addresses).copied().map(IpNet::from).collect();
        cluster.nodes.sort_unstable();
        Ok((cluster, problems))
    }

    /// Those of a cluster with these networks of pods.
    ///
    /// Errors (5): the kernel does not list its addresses.
    pub fn of_networks(&mut self, pods: &[IpNet], net: &Net) -> Result<(Cluster, Vec<String>)> {
        self.of_networks_in(pods.to_vec(), net)
    }

    fn of_networks_in(
        &mut self,
        mut pods: Vec<IpNet>,
        net: &Net,
    ) -> Result<(Cluster, Vec<String>)> {
        let mut problems = Vec::new();
        if let Some(file) = &self.masq_config {
            self.version = file.version();
            match file.read() {
                Ok(nets) => self.masq = nets,
                Err(error) => {
                    problems.push(format!("{error}; what it said before goes on being so"));
                }
            }
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let told = told.unwrap_or_default();
        pods.extend(told.pods);
        let direct = self.direct.iter().chain(&self.masq).copied().collect();
        let mut services: Vec<_> = self.services.iter().copied().chain(told.services).collect();
        services.extend(on_ipvs(net)?);
        let mut cluster = Cluster { pods, services, direct, ..Cluster::default() };
        // The order in which they are told means nothing.
        for nets in [&mut cluster.pods, &mut cluster.services, &mut cluster.direct] {
            nets.sort_unstable();
            nets.dedup();
        }
        Ok((cluster, problems))
    }
}

/// The addresses that kube-proxy has given the node for Services.
fn on_ipvs(net: &Net) -> Result<Vec<IpNet>> {
    let Some(link) = net.link().get(IPVS)? else { return Ok(Vec::new()) };
    let addresses = net.addr().list(link.index)?.into_iter().map(|one| one.net.addr());
    // Its own link-local address is no Service's.
    let is_link_local = |ip: &std::net::IpAddr| matches!(ip, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local());
    Ok(addresses.filter(|ip| !is_link_local(ip)).map(IpNet::from).collect())
}
