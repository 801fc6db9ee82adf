//! Attaching a running pod to what its annotation asks for, and detaching it from the rest.

use std::fmt::Display;

use chain::{Error, PluginConf, Result};
use delegates::Node;
use serde_json::Value;

use super::{super::cached::Cached, Outcome, change::Change};
use crate::{
    daemon::metrics::Metrics,
    kubernetes::{
        client::NETWORK_STATUS,
        cluster::{Cluster, Pod, PodEvent},
        conf::Conf,
        devices::Devices,
        networks::{self, Network},
        pods::{PodRecord, PodRecords, Pods, record::Caller},
        selection,
    },
    wiring,
};

/// What is on record of a pod.
pub enum Found {
    /// Its record.
    Record(Box<PodRecord>),
    /// It has no networks of this node: it has none yet, or it is on the host's.
    None,
    /// The records cannot be read.
    Unreadable,
}

/// Finds the records of pods.
pub fn find(pods: Vec<Pod>) -> Vec<(Pod, Found)> {
    let found = wiring::dirs().and_then(|dirs| Ok((PodRecords::open(&dirs).list()?, dirs.boot()?)));
    let (records, boot) = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%error, "the records of pods cannot be read");
            return pods.into_iter().map(|pod| (pod, Found::Unreadable)).collect();
        }
    };
    let look = |pod: Pod| {
        let record = records.iter().find(|record| {
            let of = record.pod.as_ref();
            of.is_some_and(|of| (&of.namespace, &of.uid) == (&pod.namespace, &pod.uid))
                && record.is_live(record.netns.as_deref(), &boot)
        });
        let found = record.map_or(Found::None, |record| Found::Record(Box::new(record.clone())));
        (pod, found)
    };
    pods.into_iter().map(look).collect()
}

/// Has a pod get what it asks for.
pub fn run(cluster: &Cached, pod: &Pod, record: &PodRecord, metrics: &Metrics) -> Outcome {
    Edit { cluster, pod, record, metrics }.run()
}

/// The edit of a pod's networks.
struct Edit<'e> {
    cluster: &'e Cached,
    pod: &'e Pod,
    record: &'e PodRecord,
    metrics: &'e Metrics,
}

impl Edit<'_> {
    fn run(&self) -> Outcome {
        let asked = selection::of_pod(self.pod);
        let change = match asked.and_then(|asked| Change::between(asked, &self.record.attachments))
        {
            Ok(change) => change,
            // Trying again does not make it better: an edit does, and that is heard of.
            Err(error) => {
                self.failed("FailedAddingInterface", &error);
                return Outcome::Settled;
            }
        };
        let carried_out = if change.is_empty() { Ok(0) } else { self.carry_out(&change) };
        // What was done is told, whatever failed beside it, and also where somebody died before telling it.
        let told = self.tell();
        match (carried_out, told) {
            (Ok(0), Ok(())) => Outcome::Settled,
            (Ok(_), Ok(())) => Outcome::Failed,
            (Err(error), _) => self.failed("FailedAddingInterface", &error),
            (Ok(_), Err(error)) => self.failed("FailedNetworkStatus", &error),
        }
    }

    /// How much of it failed.
    fn carry_out(&self, change: &Change) -> Result<usize> {
        let Some(Caller { kind, conf, cni_path }) = &self.record.caller else {
            return Err(Error::internal(
                "the pod's record is of an older version, which did not keep its configuration: have the pod made anew",
            ));
        };
        let conf = Conf::of(kind, &PluginConf::from_object(conf.clone())?)?;
        wiring::with_executor(None, cni_path.clone(), |executor, node| {
            let pods = Pods::new(executor, Some(self.cluster));
            let mut failed = 0;
            for one in &change.removed {
                let removed = pods.unplug(self.record, &one.ifname, node);
                failed += self.count("detach", &one.ifname, &one.name, removed);
            }
            // What could not be removed may be in the way.
            if failed == 0 {
                failed += self.add(&pods, &conf, change, node);
            }
            Ok(failed)
        })
    }

    /// Writes the pod's status, where it is another one than the records say. Its default routes are settled before, if
    /// somebody died over them.
    fn tell(&self) -> Result<()> {
        wiring::with_executor(None, Vec::new(), |executor, node| {
            let pods = Pods::new(executor, None);
            let Some(now) = pods.again(self.record)? else { return Ok(()) };
            let settled = pods.settle(&now, node);
            let status = pods.status(&now)?;
            let told = self.pod.annotations.get(NETWORK_STATUS);
            let same = told.is_some_and(|told| {
                let parse = |text| serde_json::from_str::<Value>(text).ok();
                parse(told) == parse(&status)
            });
            if !same {
                self.cluster.publish_status(self.pod, &status)?;
            }
            settled
        })
    }

    /// Attaches the pod to what is new; how much of it failed.
    fn add(&self, pods: &Pods<'_>, conf: &Conf, change: &Change, node: &mut Node) -> usize {
        let mut failed = 0;
        for (asked, ifname) in &change.added {
            let name = asked.to_string();
            let added = pods
                .again(self.record)
                .and_then(|now| now.ok_or_else(|| Error::internal("the pod is gone")))
                .and_then(|now| {
                    let attachment = now.attachment(now.netns.as_deref())?;
                    let further = vec![(asked.clone(), ifname.clone())];
                    let mut networks =
                        networks::further(conf, self.pod, self.cluster, &attachment, further)?;
                    let held: Vec<_> =
                        now.attachments.iter().filter_map(|one| one.device.clone()).collect();
                    Devices::default().assign(&mut networks, self.pod, &held)?;
                    let attach =
                        |network: &Network| pods.plug(&now, self.pod, network, node).map(drop);
                    networks.iter().try_for_each(attach)
                });
            failed += self.count("attach", ifname, &name, added);
        }
        failed
    }

    /// Counts what was done, and tells the pod; 1 where it failed.
    fn count(&self, action: &'static str, ifname: &str, network: &str, done: Result<()>) -> usize {
        let pod = format!("[{}/{}]", self.pod.namespace, self.pod.name);
        let attaches = action == "attach";
        self.metrics.plugged(action, done.is_ok());
        match done {
            Ok(()) => {
                let (reason, what) = if attaches {
                    ("AddedInterface", format!("added interface {ifname} to network: {network}"))
                } else {
                    let what = format!("removed interface {ifname} from network: {network}");
                    ("RemovedInterface", what)
                };
                tracing::info!(pod, ifname, network, reason);
                let message = format!("pod {pod}: {what}");
                self.cluster.record(self.pod, PodEvent { warning: false, reason, message });
                0
            }
            Err(error) => {
                let reason =
                    if attaches { "FailedAddingInterface" } else { "FailedRemovingInterface" };
                self.failed(reason, &error.context(format_args!("{ifname} on network {network}")));
                1
            }
        }
    }

    fn failed(&self, reason: &'static str, error: &dyn Display) -> Outcome {
        let pod = format!("[{}/{}]", self.pod.namespace, self.pod.name);
        tracing::warn!(pod, %error, reason);
        let message = format!("pod {pod}: {error}");
        self.cluster.record(self.pod, PodEvent { warning: true, reason, message });
        Outcome::Failed
    }
}
