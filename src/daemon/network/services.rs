//! The addresses that a cluster keeps for its Services and pods as a whole, as far as its API tells them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use kube::{Client, api::Request, core::params::GetParams};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{super::cached::Cached, yaml};

/// How often the API is asked: what it tells hardly ever changes.
const PERIOD: Duration = Duration::from_secs(60);
/// The same where it did not tell.
const SOON: Duration = Duration::from_secs(5);
/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What the API told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The Services' addresses.
    pub services: Vec<IpNet>,
    /// The pods', those of nodes to come among them.
    pub pods: Vec<IpNet>,
}

/// What the API told last; `None` before it has been asked.
pub type Shared = Arc<Mutex<Option<Told>>>;

/// Asks again and again, from here on for ever; `changed` hears of what is new. Where nothing is told, what is on record from
/// before goes on being so.
pub async fn follow(cluster: Arc<Cached>, recorded: Told, shared: Shared, changed: Arc<Notify>) {
    let mut said = Vec::new();
    loop {
        let mut wrong = Vec::new();
        let asked = timeout(LIMIT, ask(cluster.api().client(), &mut wrong)).await;
        let told = asked.unwrap_or_else(|_| Err("the API does not answer".into()));
        let (told, pause) = match told {
            Ok(told) => (Some(told), PERIOD),
            Err(error) => {
                wrong.push(error);
                (None, SOON)
            }
        };
        for text in wrong.iter().filter(|text| !said.contains(*text)) {
            tracing::warn!("the cluster's addresses: {text}");
        }
        said = wrong;
        let is_new = {
            let mut last = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let now = told.or_else(|| last.clone()).unwrap_or_else(|| recorded.clone());
            let is_new = last.as_ref() != Some(&now);
            *last = Some(now);
            is_new
        };
        if is_new {
            changed.notify_one();
        }
        sleep(pause).await;
    }
}

/// Asks once. What one place has wrong keeps nothing of another; it goes into `wrong`.
async fn ask(client: Client, wrong: &mut Vec<String>) -> Result<Told, String> {
    let mut told = Told::default();
    // Kubernetes 1.33 and newer.
    if let Some(list) =
        get::<ServiceCidrs>(&client, "/apis/networking.k8s.io/v1/servicecidrs", "").await?
    {
        told.services.extend(list.items.into_iter().flat_map(|one| one.spec.cidrs));
    }
    // Of clusters that kubeadm made.
    let folder = "/api/v1/namespaces/kube-system/configmaps";
    if let Some(conf) = get::<ConfigMap>(&client, folder, "kubeadm-config").await? {
        match Kubeadm::of(conf.data.get("ClusterConfiguration").map_or("", String::as_str)) {
            Ok(kubeadm) => {
                told.services.extend(kubeadm.services);
                told.pods.extend(kubeadm.pods);
            }
            Err(error) => wrong.push(format!("the ConfigMap kubeadm-config: {error}")),
        }
    }
    for nets in [&mut told.services, &mut told.pods] {
        nets.sort_unstable();
        nets.dedup();
    }
    Ok(told)
}

/// An object, or the list of all where `name` is empty; `None` where the API has none or does not let it be read.
async fn get<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    name: &str,
) -> Result<Option<T>, String> {
    let request = Request::new(path);
    let request = match name {
        "" => request.list(&Default::default()),
        name => request.get(name, &GetParams::default()),
    };
    let request = request.map_err(|error| error.to_string())?;
    match client.request::<T>(request).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
            tracing::debug!(code = status.code, "{path}/{name}: {}", status.message);
            Ok(None)
        }
        Err(error) => Err(format!("{path}/{name}: {error}")),
    }
}

/// ServiceCIDRs of networking.k8s.io/v1.
#[derive(Deserialize)]
struct ServiceCidrs {
    items: Vec<ServiceCidr>,
}

#[derive(Deserialize)]
struct ServiceCidr {
    spec: ServiceCidrSpec,
}

#[derive(Deserialize)]
struct ServiceCidrSpec {
    #[serde(default)]
    cidrs: Vec<IpNet>,
}

#[derive(Deserialize)]
struct ConfigMap {
    #[serde(default)]
    data: BTreeMap<String, String>,
}

/// What kubeadm's ClusterConfiguration says of addresses.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kubeadm {
    services: Vec<IpNet>,
    pods: Vec<IpNet>,
}

impl Kubeadm {
    fn of(text: &str) -> Result<Self, String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Configuration {
            networking: Networking,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Networking {
            service_subnet: String,
            pod_subnet: String,
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let Configuration { networking } = yaml::parse(text)?;
        let nets = |text: &str| -> Result<Vec<IpNet>, String> {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(|part| part.parse().map_err(|_| format!("{part:?} is no CIDR"))).collect()
        };
        Ok(Self {
            services: nets(&networking.service_subnet)?,
            pods: nets(&networking.pod_subnet)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;

    #[test]
    fn kubeadms_subnets_are_read_and_others_keys_passed_over() {
        let text = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n\
                    networking:\n  dnsDomain: cluster.local\n  podSubnet: 10.244.0.0/16,fd10::/48\n  serviceSubnet: 10.96.0.0/12\n";
        let kubeadm = Kubeadm::of(text).unwrap();
        let texts = |nets: Vec<IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(kubeadm.services), ["10.96.0.0/12"]);
        assert_eq!(texts(kubeadm.pods), ["10.244.0.0/16", "fd10::/48"]);
        assert_eq!(Kubeadm::of("kind: ClusterConfiguration\n"), Ok(Kubeadm::default()));
        assert_eq!(Kubeadm::of(""), Ok(Kubeadm::default()));
        let error = Kubeadm::of("networking: { podSubnet: 10.244/16 }").unwrap_err();
        assert_eq!(error, "\"10.244/16\" is no CIDR");
    }

    #[test]
    fn service_cidrs_are_those_of_all_objects() {
        let text = r#"{ "kind": "ServiceCIDRList", "items": [
            { "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["10.96.0.0/12", "fd96::/112"] } },
            { "metadata": { "name": "more" }, "spec": { "cidrs": ["10.200.0.0/16"] }, "status": {} }] }"#;
        let list: ServiceCidrs = serde_json::from_str(text).unwrap();
        assert_eq!(list.items.iter().map(|one| one.spec.cidrs.len()).sum::<usize>(), 3);
    }
}
