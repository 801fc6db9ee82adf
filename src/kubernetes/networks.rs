//! The networks of a pod: which chains are to be run for it, in order.

mod cluster_network;
mod default_routes;
mod interfaces;
mod isolation;
mod remembered;
mod requests;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use chain::{Attachment, CniArgs, ConfList, Error, Result};
use serde_json::{Map, Value};

pub use self::{
    cluster_network::cluster,
    default_routes::{DefaultRoutes, settle as settle_default_routes},
    isolation::permit,
};
use self::{interfaces::Interface, remembered::Remembered};
use super::{
    cluster::{Cluster, Pod, PodEvent, PodId},
    conf::Conf,
    definition::Found,
    selection::{self, Selection},
};

/// A network that a pod is to be attached to.
#[derive(Clone, Debug)]
pub struct Network {
    /// What it is called in the status, events and errors: `namespace/name` of its definition, or its configuration's
    /// name.
    pub name: String,
    /// Whose wish it is.
    pub role: Role,
    /// Its chain.
    pub list: ConfList,
    /// The interface inside the pod.
    pub ifname: String,
    /// The capability arguments of its chain: for the cluster network the runtime's, for others the selection's.
    pub capability_args: Map<String, Value>,
    /// `CNI_ARGS` of its delegates.
    pub args: CniArgs,
    /// What it has of the pod's default routes.
    pub default_routes: DefaultRoutes,
    /// The device plugin's resource that its definition names.
    pub resource: Option<String>,
    /// The device that it was given.
    pub device_id: Option<String>,
    /// The pod's element that asks for it.
    pub asked: Option<Selection>,
}

/// Whose wish a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The cluster network (or what the pod asked for in its place): the interface that the runtime knows.
    Cluster,
    /// The node's configuration: every pod gets it.
    Default,
    /// The pod's annotation.
    Selected,
    /// Others' plugins that the node's configuration runs beside the cluster network (`auxiliaryCNIChainName`). They stand in a
    /// chain whose result is empty at first, and make no interface of their own.
    Auxiliary,
}

/// A network before it has its interface.
struct Wanted {
    found: Found,
    role: Role,
    /// The element that asks for it.
    asked: Option<Selection>,
}

/// The networks of a pod, in the order in which it is attached to them: the cluster network, or what `default-network` has in
/// its place; the further `delegates` and the `defaultNetworks`; what its annotation asks for.
///
/// A container that is no pod's (`pod` is absent) gets what the configuration says. Nothing is done yet. What is wrong is told to
/// the pod by an event, too.
///
/// `attachment` and `capability_args` are what the runtime gave: the capability arguments are the cluster network's alone.
///
/// Errors: 5, 6, 7 where a configuration or the annotation is wrong, or something is missing; 11 where the API does not
/// answer, or there is no cluster network yet.
pub fn resolve(
    conf: &Conf,
    pod: Option<&Pod>,
    cluster: Option<&dyn Cluster>,
    attachment: &Attachment,
    capability_args: &Map<String, Value>,
) -> Result<Vec<Network>> {
    let cluster = cluster.map(Remembered::new);
    let asked = cluster.as_ref().map(|cluster| cluster as &dyn Cluster);
    let networks = all(conf, pod, asked, attachment, capability_args);
    if let (Err(error), Some(pod), Some(cluster)) = (&networks, pod, &cluster) {
        cluster.tell_failure(pod, error);
    }
    networks
}

fn all(
    conf: &Conf,
    pod: Option<&Pod>,
    cluster: Option<&dyn Cluster>,
    attachment: &Attachment,
    capability_args: &Map<String, Value>,
) -> Result<Vec<Network>> {
    let mut wanted = vec![first(conf, pod, cluster)?];
    let namespace = match pod {
        Some(pod) => Some(pod.namespace.clone()),
        None => PodId::of(&attachment.args).map(|id| id.namespace),
    };
    wanted.extend(of_node(conf, namespace.as_deref(), cluster)?);
    if let Some(pod) = pod {
        for asked in selection::of_pod(pod)? {
            wanted.push(selected(asked, Role::Selected, conf, pod, cluster)?);
        }
    }
    wanted.extend(auxiliary(conf)?);

    let interfaces: Vec<_> = wanted
        .iter()
        .map(|wanted| Interface {
            network: &wanted.found.name,
            asked: wanted.asked.as_ref().and_then(|asked| asked.interface.as_deref()),
        })
        .collect();
    let names = interfaces::names(&attachment.ifname, &interfaces)?;
    let mut networks = Vec::new();
    for (wanted, ifname) in wanted.iter().zip(names) {
        networks.push(wanted.network(ifname, attachment, capability_args)?);
    }
    let routes: Vec<_> = wanted.iter().map(Wanted::default_route).collect();
    for (network, settled) in networks.iter_mut().zip(default_routes::settle(&routes)?) {
        network.default_routes = settled;
    }
    Ok(networks)
}

/// Networks that a running pod is to be attached to as well, each by its interface. What becomes of the pod's default routes
/// is settled among all that it has.
///
/// Errors: as [`resolve`].
pub fn further(
    conf: &Conf,
    pod: &Pod,
    cluster: &dyn Cluster,
    attachment: &Attachment,
    asked: Vec<(Selection, String)>,
) -> Result<Vec<Network>> {
    let mut networks = Vec::new();
    for (asked, ifname) in asked {
        let wanted = selected(asked, Role::Selected, conf, pod, Some(cluster))?;
        let network = wanted.network(ifname, attachment, &Map::new())?;
        networks.push(network);
    }
    Ok(networks)
}

/// The networks that every pod gets, the cluster network first.
pub fn of_every_pod(conf: &Conf, cluster: Option<&dyn Cluster>) -> Result<Vec<Found>> {
    let mut all = vec![self::cluster(conf, cluster)?];
    let others = of_node(conf, None, cluster)?.into_iter().chain(auxiliary(conf)?);
    all.extend(others.map(|wanted| wanted.found));
    Ok(all)
}

/// A pod's first network.
fn first(conf: &Conf, pod: Option<&Pod>, cluster: Option<&dyn Cluster>) -> Result<Wanted> {
    let asked = pod.map(|pod| selection::default_of_pod(pod, &conf.multus_namespace));
    if let (Some(pod), Some(asked)) = (pod, asked.transpose()?.flatten()) {
        return selected(asked, Role::Cluster, conf, pod, cluster);
    }
    Ok(Wanted { found: self::cluster(conf, cluster)?, role: Role::Cluster, asked: None })
}

/// What the node's configuration gives to every pod beside the cluster network: `defaultNetworks` not in a system
/// namespace, the further `delegates` in any.
fn of_node(
    conf: &Conf,
    namespace: Option<&str>,
    cluster: Option<&dyn Cluster>,
) -> Result<Vec<Wanted>> {
    let mut all = Vec::new();
    if conf.plugins.is_none() && conf.cluster_network.is_none() {
        for index in 1..conf.delegates.len() {
            all.push(cluster_network::delegate(conf, index)?);
        }
    }
    if !namespace.is_some_and(|namespace| conf.system_namespaces.iter().any(|of| of == namespace)) {
        for network in &conf.default_networks {
            let found = Found::named(network, conf, cluster).map_err(|error| {
                error.context(format_args!("defaultNetworks of network {}", conf.name))
            })?;
            all.push(found);
        }
    }
    let wanted = |found: Found| {
        cluster_network::follow(&found.list, &mut Vec::new())?;
        Ok(Wanted { found, role: Role::Default, asked: None })
    };
    all.into_iter().map(wanted).collect()
}

/// The chain beside the cluster network, where the configuration names one and others have put plugins into it.
fn auxiliary(conf: &Conf) -> Result<Option<Wanted>> {
    let Some(name) = &conf.auxiliary_chain else { return Ok(None) };
    let list = cluster_network::folder(conf)
        .and_then(|dir| ConfList::load_dropped(&dir, name, conf.cni_version))
        .and_then(|list| {
            list.iter().try_for_each(|list| cluster_network::follow(list, &mut Vec::new()))?;
            Ok(list)
        })
        .map_err(|error| {
            error.context(format_args!("auxiliaryCNIChainName of network {}", conf.name))
        })?;
    let wanted = |list| Wanted { found: Found::of(list), role: Role::Auxiliary, asked: None };
    Ok(list.map(wanted))
}

/// What an element of a pod's annotation asks for.
fn selected(
    asked: Selection,
    role: Role,
    conf: &Conf,
    pod: &Pod,
    cluster: Option<&dyn Cluster>,
) -> Result<Wanted> {
    permit(conf, &pod.namespace, &asked)?;
    let cluster = cluster.ok_or_else(|| {
        Error::config(format!(
            "pod {}/{} asks for network {asked}, but no cluster can be asked for it: set kubeconfig in the configuration \
             of network {}",
            pod.namespace, pod.name, conf.name
        ))
    })?;
    let Some(found) = Found::selected(&asked, conf, cluster)? else {
        let missing = format!(
            "there is no NetworkAttachmentDefinition {} in namespace {}: create it, or change the pod's annotation",
            asked.name, asked.namespace
        );
        let event = PodEvent { warning: true, reason: "NoNetworkFound", message: missing.clone() };
        cluster.record(pod, event);
        return Err(Error::config(missing));
    };
    cluster_network::follow(&found.list, &mut Vec::new())
        .map_err(|error| error.context(format_args!("NetworkAttachmentDefinition {asked}")))?;
    Ok(Wanted { found, role, asked: Some(asked) })
}

impl Wanted {
    fn default_route(&self) -> (&str, Option<&[IpAddr]>) {
        let asked = self.asked.as_ref();
        (&self.found.name, asked.and_then(|asked| asked.default_route.as_deref()))
    }

    /// The network with its interface, and with what is asked of its plugins.
    fn network(
        &self,
        ifname: String,
        attachment: &Attachment,
        capability_args: &Map<String, Value>,
    ) -> Result<Network> {
        let (capability_args, args) = match self.role {
            Role::Cluster => (capability_args.clone(), attachment.args.clone()),
            _ => (Map::new(), requests::secondary_args(&attachment.args)),
        };
        let nothing = Selection::default();
        let asked = self.asked.as_ref().unwrap_or(&nothing);
        let requests = requests::hand_on(&self.found, asked, capability_args, args)?;
        Ok(Network {
            name: self.found.name.clone(),
            role: self.role,
            list: requests.list,
            ifname,
            capability_args: requests.capability_args,
            args: requests.args,
            default_routes: DefaultRoutes::default(),
            resource: self.found.resource.clone(),
            device_id: asked.device_id.clone(),
            asked: self.asked.clone(),
        })
    }
}
