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

use super::yaml;

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

/// Who asks the API again and again.
pub struct Asking {
    /// What is on record from before, which goes on being so where nothing is told.
    pub recorded: Told,
    /// Where it is told.
    pub shared: Shared,
    /// What was logged as wrong.
    pub said: Vec<String>,
}

impl Asking {
    /// Asks from here on for ever, by the client of each moment; `changed` hears of what is new.
    pub async fn follow(mut self, client: impl Fn() -> Client, changed: Arc<Notify>) {
        loop {
            let (is_new, pause) = self.once(client()).await;
            if is_new {
                changed.notify_one();
            }
            sleep(pause).await;
        }
    }

    /// Asks once. Whether there is anything new, and when to ask again.
    async fn once(&mut self, client: Client) -> (bool, Duration) {
        let mut wrong = Vec::new();
        let asked = timeout(LIMIT, ask(client, &mut wrong)).await;
        let told = asked.unwrap_or_else(|_| Err("the API does not answer".into()));
        let (told, pause) = match told {
            Ok(told) => (Some(told), PERIOD),
            Err(error) => {
                wrong.push(error);
                (None, SOON)
            }
        };
        for text in wrong.iter().filter(|text| !self.said.contains(*text)) {
            tracing::warn!("the cluster's addresses: {text}");
        }
        self.said = wrong;
        let mut last = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let now = told.or_else(|| last.clone()).unwrap_or_else(|| self.recorded.clone());
        let is_new = last.as_ref() != Some(&now);
        *last = Some(now);
        (is_new, pause)
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

    use std::{collections::VecDeque, convert::Infallible, future::ready, io};

    use http_body_util::Full;
    use hyper::{Request, Response, body::Bytes};
    use kube::client::Body;
    use tokio::runtime::Builder;
    use tower::service_fn;

    use super::*;

    const CIDRS: &str = r#"{ "items": [{ "spec": { "cidrs": ["10.96.0.0/12"] } }] }"#;
    const GARBAGE: &str = r#"{ "data": { "ClusterConfiguration": "networking: [ what\n" } }"#;
    const NONE: (u16, &str) = (404, r#"{ "kind": "Status", "status": "Failure", "code": 404 }"#);
    const BROKEN: (u16, &str) = (500, "{}");

    /// A stand-in for an API server that is asked for ServiceCIDRs and for kubeadm's ConfigMap: it has these answers to them, one
    /// after the other, and is nothing else of one.
    fn stand_in(answers: &[(u16, &'static str)]) -> Client {
        let answers: Mutex<VecDeque<_>> = Mutex::new(answers.iter().copied().collect());
        let answer = move |request: Request<Body>| {
            let (status, body) = answers.lock().unwrap().pop_front().unwrap();
            let asked = [
                "/apis/networking.k8s.io/v1/servicecidrs",
                "/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
            ];
            assert!(asked.contains(&request.uri().path()), "{}", request.uri());
            let body = Full::new(Bytes::from_static(body.as_bytes()));
            ready(Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap()))
        };
        Client::new(service_fn(answer), "default")
    }

    /// Who asks, with an address on record.
    fn asking() -> Asking {
        let recorded = Told { services: vec!["10.1.0.0/16".parse().unwrap()], pods: Vec::new() };
        Asking { recorded, shared: Shared::default(), said: Vec::new() }
    }

    /// Asks once of an API server with these answers; the Services' addresses that count by then.
    fn services_after(asking: &mut Asking, answers: &[(u16, &'static str)]) -> Vec<String> {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { asking.once(stand_in(answers)).await });
        let told = asking.shared.lock().unwrap().clone().unwrap();
        told.services.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn where_the_api_fails_what_it_told_last_or_what_is_on_record_goes_on() {
        let mut asking = asking();
        assert_eq!(services_after(&mut asking, &[BROKEN]), ["10.1.0.0/16"]);
        // One of the two alone would be half of it.
        assert_eq!(services_after(&mut asking, &[(200, CIDRS), BROKEN]), ["10.1.0.0/16"]);
        assert_eq!(services_after(&mut asking, &[(200, CIDRS), NONE]), ["10.96.0.0/12"]);
        assert_eq!(services_after(&mut asking, &[BROKEN]), ["10.96.0.0/12"]);
        assert_eq!(services_after(&mut asking, &[NONE, NONE]), [""; 0]);
    }

    #[test]
    fn garbage_of_kubeadms_keeps_nothing_of_service_cidrs_and_is_said_once() {
        let log = Arc::new(Mutex::new(Vec::new()));
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Log {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(text)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || Log(writer.clone()));
        let mut asking = asking();
        tracing::subscriber::with_default(subscriber.finish(), || {
            for _ in 0..3 {
                let services = services_after(&mut asking, &[(200, CIDRS), (200, GARBAGE)]);
                assert_eq!(services, ["10.96.0.0/12"]);
            }
        });
        let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("the ConfigMap kubeadm-config: "), "{log}");
    }

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
