//! A pod by its name and UID.

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use chain::{Code, Error, Result};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::core::ObjectMeta;

use super::{CALL_LIMIT, calls::Server, failure::Asked};
use crate::kubernetes::cluster::{Pod, PodId};

/// How long a pod that is not there is waited for, as long as Multus does: kubelet may have it before another API server of
/// the cluster has, and a static pod runs before its mirror is there.
const WAIT: Duration = Duration::from_millis(2500);

/// Where a static pod comes from (`file`, `http`); of others it is `api`.
const CONFIG_SOURCE: &str = "kubernetes.io/config.source";

/// On the mirror of a static pod: the UID that kubelet has for the static pod.
const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

/// Why there is no pod yet.
enum Absence {
    /// There may be one in a moment.
    Yet(Error),
    /// There will be none.
    ForGood(Error),
}

/// The pod of this name and UID, waited for.
pub async fn get(server: &Server, id: &PodId) -> Result<Pod> {
    let asked = Asked::new("get", "pods", "", &id.namespace, &id.name)?;
    let started = Instant::now();
    let look = async || {
        let got = server
            .call(&asked, CALL_LIMIT, |client| async move {
                kube::Api::<PodObject>::namespaced(client, &id.namespace)
                    .get_metadata(&id.name)
                    .await
            })
            .await;
        match got {
            Ok(object) => known_as(server, id, object.metadata),
            Err(failure) if failure.code() == Some(404) => Err(Absence::Yet(Error::new(
                Code::TryAgain,
                format!(
                    "{server}: there is no pod {id}, also after {:.1} s of waiting: it was deleted, or the runtime is of \
                     another cluster",
                    WAIT.as_secs_f32()
                ),
            ))),
            Err(failure) => Err(Absence::ForGood(failure.into())),
        }
    };
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(250))
        .without_max_times();
    look.retry(pauses)
        .when(|absence| matches!(absence, Absence::Yet(_)))
        .adjust(|_, pause| pause.filter(|pause| started.elapsed() + *pause < WAIT))
        .await
        .map_err(|(Absence::Yet(error) | Absence::ForGood(error))| error)
}

/// The pod that the API has under this name, where it is the one that the runtime means.
fn known_as(server: &Server, id: &PodId, metadata: ObjectMeta) -> Result<Pod, Absence> {
    let annotations = metadata.annotations.unwrap_or_default();
    let uid = metadata.uid.unwrap_or_default();
    if let Some(expected) = id.uid.as_ref().filter(|expected| **expected != uid) {
        let is_static = annotations.get(CONFIG_SOURCE).is_some_and(|source| source != "api");
        match annotations.get(CONFIG_MIRROR) {
            Some(mirrored) if mirrored == expected => {}
            Some(mirrored) => {
                return Err(Absence::Yet(Error::new(
                    Code::TryAgain,
                    format!(
                        "{server}: pod {id} is the mirror of static pod {mirrored}, and the runtime means {expected}: \
                         kubelet has not replaced it yet"
                    ),
                )));
            }
            None if is_static => {}
            None => {
                return Err(Absence::ForGood(Error::new(
                    Code::TryAgain,
                    format!(
                        "{server}: pod {id} was deleted and made anew: its UID is {uid}, and the runtime means {expected}"
                    ),
                )));
            }
        }
    }
    Ok(Pod { namespace: id.namespace.clone(), name: id.name.clone(), uid, annotations })
}

/// The error for a pod that is no longer the one that it was.
pub fn gone(server: &Server, pod: &Pod, how: &str) -> Error {
    Error::new(
        Code::TryAgain,
        format!(
            "{server}: pod {}/{} with UID {} {how}: its network status cannot be written",
            pod.namespace, pod.name, pod.uid
        ),
    )
}
