//! Devices of a pod's networks: which of the pod's devices a network is about, and what is known of it.
//!
//! A definition names a device plugin's resource (`k8s.v1.cni.cncf.io/resourceName`), the kubelet has given devices of it
//! to the pod's containers, and each network of the resource gets one of them: it is in the configuration of its
//! plugins. What a device plugin or a delegate tells of the device goes by files, see [`Devices::prepare`].

mod checkpoint;
mod info;
mod pod_resources;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use chain::{Code, ConfList, Error, Result};
use serde_json::Value;

use super::{cluster::Pod, networks::Network};

/// Where a node tells of its devices.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The socket of the kubelet's pod-resources API (default `/var/lib/kubelet/pod-resources/kubelet.sock`).
    pub pod_resources: PathBuf,
    /// The kubelet's record of devices, read where it has no such API (default
    /// `/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint`).
    pub checkpoint: PathBuf,
    /// The folder of the files about single devices, from device plugins (`dp/`) and of attachments (`cni/`) (default
    /// `/var/run/k8s.cni.cncf.io/devinfo`).
    pub devinfo: PathBuf,
    /// How long the kubelet may take to answer (default 10 s).
    pub patience: Duration,
}

impl Default for Devices {
    fn default() -> Self {
        Self {
            pod_resources: "/var/lib/kubelet/pod-resources/kubelet.sock".into(),
            checkpoint: "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint".into(),
            devinfo: "/var/run/k8s.cni.cncf.io/devinfo".into(),
            patience: Duration::from_secs(10),
        }
    }
}

/// A pod's devices by their resource, in the order in which they are handed out. One that two of its containers have
/// (an init container's goes on to the others) is there once.
#[derive(Debug, Default)]
struct Assigned(BTreeMap<String, BTreeSet<String>>);

impl Assigned {
    fn add(&mut self, resource: String, ids: impl IntoIterator<Item = String>) {
        self.0.entry(resource).or_default().extend(ids);
    }
}

impl Devices {
    /// Gives each network that names a resource the next of the pod's devices of it, and puts the device into the
    /// configuration of the network's plugins: `deviceID` and `pciBusID`, and the capability `deviceID` of those that
    /// declare it. The kubelet is asked once, and only where there is such a network.
    ///
    /// `held`: resource and device of what the pod is attached to already, where networks are added to a running pod.
    ///
    /// Errors: 7 where the pod has no device left for a network; 11 where the kubelet does not say what it has.
    pub fn assign(
        &self,
        networks: &mut [Network],
        pod: &Pod,
        held: &[(String, String)],
    ) -> Result<()> {
        if networks.iter().all(|network| network.resource.is_none()) {
            return Ok(());
        }
        let assigned = self.of_pod(pod)?;
        let mut held: BTreeSet<(String, String)> = held.iter().cloned().collect();
        for network in networks {
            let Some(resource) = network.resource.clone() else { continue };
            let of_resource = assigned.0.get(&resource);
            let free = of_resource
                .into_iter()
                .flatten()
                .find(|id| !held.contains(&(resource.clone(), (*id).clone())));
            let Some(id) = free else {
                return Err(none_left(network, &resource, of_resource, pod));
            };
            if let Some(asked) = network.device_id.as_ref().filter(|asked| *asked != id) {
                tracing::warn!(
                    "network {}: the pod asks for device {asked}, but has {id} of {resource}, which is taken",
                    network.name
                );
            }
            held.insert((resource, id.clone()));
            configure(network, id);
        }
        Ok(())
    }

    fn of_pod(&self, pod: &Pod) -> Result<Assigned> {
        let Pod { namespace, name, uid, .. } = pod;
        let known = pod_resources::of_pod(&self.pod_resources, namespace, name, self.patience)?;
        if let Some(assigned) = known {
            return Ok(assigned);
        }
        checkpoint::of_pod(&self.checkpoint, uid)?.ok_or_else(|| {
            Error::new(
                Code::TryAgain,
                format!(
                    "the devices of pod {namespace}/{name} are not known: neither does a kubelet listen on {}, nor is there \
                     a {}; on a node whose kubelet has another root directory link these paths to it",
                    self.pod_resources.display(),
                    self.checkpoint.display()
                ),
            )
        })
    }
}

fn none_left(
    network: &Network,
    resource: &str,
    of_resource: Option<&BTreeSet<String>>,
    pod: &Pod,
) -> Error {
    let has = match of_resource.map_or(0, BTreeSet::len) {
        0 => "has none".to_owned(),
        1 => "has 1, which another of its networks has got".to_owned(),
        number => format!("has {number}, which other ones of its networks have got"),
    };
    Error::config(format!(
        "network {}: no device of {resource} is left for pod {}/{}, which {has}; let a container request as many of \
         {resource} as the pod has networks of it",
        network.name, pod.namespace, pod.name
    ))
}

/// Puts the device into the network.
fn configure(network: &mut Network, id: &str) {
    network.device_id = Some(id.to_owned());
    for plugin in &mut network.list.plugins {
        plugin.insert("deviceID".to_owned(), id.into());
        plugin.insert("pciBusID".to_owned(), id.into());
    }
    if declares(&network.list, "deviceID") {
        network.capability_args.insert("deviceID".to_owned(), id.into());
    } else {
        // What the pod asked for.
        network.capability_args.shift_remove("deviceID");
    }
}

/// Whether a plugin of the chain declares the capability.
fn declares(list: &ConfList, capability: &str) -> bool {
    list.plugins.iter().any(|plugin| {
        plugin.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    })
}
