//! The file in which the kubelet keeps what it gave to which pod, for where it has no pod-resources API.

use std::{collections::BTreeMap, path::Path};

use chain::{
    Code, Error, Result,
    files::{self, Found},
};
use serde::Deserialize;

use super::Assigned;

/// `kubelet_internal_checkpoint`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checkpoint {
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    pod_device_entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod_uid: String,
    #[serde(rename = "ResourceName")]
    resource_name: String,
    #[serde(rename = "DeviceIDs")]
    device_ids: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    /// By NUMA node, since Kubernetes 1.20.
    ByNode(BTreeMap<String, Vec<String>>),
    /// Before.
    Plain(Vec<String>),
}

/// What the checkpoint says that the pod of this UID has; `None` where there is no such file.
///
/// Errors: 5 where it cannot be read, 6 where it is none.
pub fn of_pod(file: &Path, uid: &str) -> Result<Option<Assigned>> {
    let broken = |code, why: &str| {
        Error::new(code, format!("the kubelet's checkpoint {}: {why}", file.display()))
    };
    let text = match files::read(file) {
        Ok(Found::Content(text)) => text,
        Ok(Found::Nothing) => return Ok(None),
        Ok(Found::NoFile(why)) => return Err(broken(Code::Io, why)),
        Err(error) => return Err(broken(Code::Io, &error.to_string())),
    };
    let checkpoint: Checkpoint =
        serde_json::from_slice(&text).map_err(|error| broken(Code::Decode, &error.to_string()))?;
    let mut assigned = Assigned::default();
    let entries = checkpoint.data.pod_device_entries.into_iter().flatten();
    for entry in entries.filter(|entry| entry.pod_uid == uid) {
        match entry.device_ids {
            Some(Ids::ByNode(nodes)) => {
                assigned.add(entry.resource_name, nodes.into_values().flatten());
            }
            Some(Ids::Plain(ids)) => assigned.add(entry.resource_name, ids),
            None => {}
        }
    }
    Ok(Some(assigned))
}
