//! The record of a pod: which attachments belong to it.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use chain::{
    Attachment, Code, ConfList, Dirs, Error, NetnsId, Result,
    files::{self, Found},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    super::{
        networks::{Network, Role},
        selection::Selection,
    },
    PodRequest,
    defaults::PutAway,
};

/// A pod's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRecord {
    /// The form of the record ([`PodRecord::FORMAT`]).
    pub format: u32,
    /// The network that the runtime knows: the name in the meta plugin's configuration.
    pub network: String,
    /// `CNI_CONTAINERID`: the pod's sandbox.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`: the interface that the runtime knows.
    pub ifname: String,
    /// The pod; absent where the runtime named none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodName>,
    /// Who keeps the record of the cluster network's attachment ([`chain::Executor::scope`]).
    pub scope: String,
    /// Which of several plugins of that type ([`chain::Executor::instance`]).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// `CNI_NETNS` of ADD.
    pub netns: Option<PathBuf>,
    /// Which namespace that was.
    #[serde(rename = "netnsID")]
    pub netns_id: Option<NetnsId>,
    /// The boot in which ADD ran ([`Dirs::boot`]).
    pub boot: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// How ADD was called, for networks that come while the pod runs; absent in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<Caller>,
    /// The attachments, in the order of ADD.
    pub attachments: Vec<PodAttachment>,
    /// Whether ADD was finished and no DEL has begun to undo it.
    #[serde(default)]
    pub complete: bool,
    /// Whether its DEL has begun, and left something to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undoing: bool,
}

/// How the meta plugin was called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Caller {
    /// The name that it was called by.
    pub kind: String,
    /// Its configuration.
    pub conf: Map<String, Value>,
    /// Where executables are looked for.
    pub cni_path: Vec<PathBuf>,
}

/// Which pod a record is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID in the cluster.
    pub uid: String,
}

/// One attachment of a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodAttachment {
    /// What the network is called in the status (see [`Network::name`]).
    pub name: String,
    /// Whose wish it was.
    pub role: Role,
    /// The network under which the attachment is recorded.
    pub network: String,
    /// The interface inside the pod.
    pub ifname: String,
    /// Its chain, for a DEL whose own record is lost.
    pub conf: Value,
    /// The capability arguments of its chain.
    pub capability_args: Map<String, Value>,
    /// `CNI_ARGS` of its delegates.
    pub args: String,
    /// Its device's resource and id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<(String, String)>,
    /// The address families (IPv4, IPv6) of which it is not to have the pod's default route; none in older records.
    #[serde(default, skip_serializing_if = "is_none")]
    pub loses_default: (bool, bool),
    /// The default routes that its chain made and it does not have now.
    #[serde(default, skip_serializing_if = "PutAway::is_empty")]
    pub put_away: PutAway,
    /// The element of the pod's annotation that asked for it; absent where none did, and in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Selection>,
}

fn is_none(families: &(bool, bool)) -> bool {
    *families == (false, false)
}

impl PodRecord {
    /// The form that is written here.
    pub const FORMAT: u32 = 1;

    /// The record of a pod that is about to be attached to its networks.
    pub fn plan(request: &PodRequest<'_>, (scope, instance): (&str, &str), boot: String) -> Self {
        let PodRequest { attachment, pod, networks, caller, .. } = *request;
        Self {
            format: Self::FORMAT,
            network: attachment.network.clone(),
            scope: scope.to_owned(),
            instance: instance.to_owned(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            pod: pod.map(|pod| PodName {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
            }),
            netns: attachment.netns.as_deref().and_then(|path| std::path::absolute(path).ok()),
            netns_id: attachment.netns.as_deref().and_then(NetnsId::of),
            boot,
            args: attachment.args.to_string(),
            caller: caller.cloned(),
            attachments: networks
                .iter()
                .map(|network| PodAttachment::plan(network, &attachment.network))
                .collect(),
            complete: false,
            undoing: false,
        }
    }

    /// The attachment that the runtime knows, in the namespace that is given.
    pub fn attachment(&self, netns: Option<&Path>) -> Result<Attachment> {
        Ok(Attachment {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            netns: netns.map(Path::to_owned),
            args: chain::CniArgs::parse(&self.args)?,
        })
    }

    /// Whether an attachment on record is one of the pod's.
    pub fn has(&self, record: &chain::Record) -> bool {
        self.container_id == record.container_id
            && self
                .attachments
                .iter()
                .any(|one| one.network == record.network && one.ifname == record.ifname)
    }

    /// Whether the pod lives in the namespace at `netns`: its ADD was finished in this boot and in the very namespace that
    /// is there now.
    pub fn is_live(&self, netns: Option<&Path>, boot: &str) -> bool {
        self.complete
            && !self.undoing
            && self.boot == boot
            && self.netns_id.is_some()
            && netns.and_then(NetnsId::of) == self.netns_id
    }
}

impl PodAttachment {
    /// `meta`: the network that the runtime knows, under which the cluster network is recorded.
    pub fn plan(network: &Network, meta: &str) -> Self {
        let recorded = match network.role {
            Role::Cluster => meta,
            Role::Default | Role::Selected | Role::Auxiliary => &network.list.name,
        };
        Self {
            name: network.name.clone(),
            role: network.role,
            network: recorded.to_owned(),
            ifname: network.ifname.clone(),
            conf: to_json(&network.list),
            capability_args: network.capability_args.clone(),
            args: network.args.to_string(),
            device: network.resource.clone().zip(network.device_id.clone()),
            loses_default: network.default_routes.loses,
            put_away: PutAway::default(),
            asked: network.asked.clone(),
        }
    }
}

/// A chain as a configuration.
fn to_json(list: &ConfList) -> Value {
    json!({
        "cniVersion": list.cni_version.as_str(),
        "name": list.name,
        "disableCheck": list.disable_check,
        "disableGC": list.disable_gc,
        "plugins": list.plugins,
    })
}

/// The records of a node's pods: `<state>/pods/<container>@<ifname>:<network>.json`.
#[derive(Clone, Debug)]
pub struct PodRecords {
    dir: PathBuf,
}

impl PodRecords {
    /// The records in these folders. They need not exist yet.
    pub fn open(dirs: &Dirs) -> Self {
        Self { dir: dirs.state.join("pods") }
    }

    /// Those of a meta plugin within another one, which keeps its own: both know the pod by the same names.
    pub fn within(dirs: &Dirs, scope: &str) -> Self {
        Self { dir: dirs.state.join("pods").join(scope) }
    }

    /// The file of a pod's record.
    pub fn path(&self, network: &str, container_id: &str, ifname: &str) -> PathBuf {
        // An interface's name has no ':', so the parts cannot run into each other.
        let stem = files::short(&format!("{container_id}@{ifname}"), 120);
        self.dir.join(format!("{stem}:{}.json", files::short(network, 80)))
    }

    /// The pod's record, if there is one. One that cannot be understood counts as none, and is set aside with a warning.
    ///
    /// Errors: where it cannot be read, or (6) was written by a newer Catena.
    pub fn read(&self, of: &Attachment) -> Result<Option<PodRecord>> {
        let _step = tracing::debug_span!("read record").entered();
        self.load(&self.path(&of.network, &of.container_id, &of.ifname))
    }

    /// Writes a record, atomically and durably.
    pub fn write(&self, record: &PodRecord) -> Result<()> {
        let path = self.path(&record.network, &record.container_id, &record.ifname);
        let text = serde_json::to_vec(record).map_err(|error| {
            Error::internal(format!("the pod's record cannot be written: {error}"))
        })?;
        let _step = tracing::debug_span!("write record").entered();
        files::write(&path, &text).map(drop)
    }

    /// Removes a record; it need not be there, nor have got its name.
    pub fn remove(&self, of: &Attachment) -> Result<()> {
        let path = self.path(&of.network, &of.container_id, &of.ifname);
        files::remove_file(&files::draft(&path))?;
        files::remove_file(&path)
    }

    /// All pods' records, sorted by file name. Those that cannot be read are passed over with a warning.
    pub fn list(&self) -> Result<Vec<PodRecord>> {
        let mut names = files::names(&self.dir)?;
        names.retain(|name| !name.starts_with('.') && name.ends_with(".json"));
        names.sort();
        let load = |name: &String| {
            self.load(&self.dir.join(name)).unwrap_or_else(|error| {
                tracing::warn!(%error, "passing over a pod's record");
                None
            })
        };
        Ok(names.iter().filter_map(load).collect())
    }

    /// The same with those of the meta plugins within others.
    pub fn list_all(&self) -> Result<Vec<PodRecord>> {
        let mut all = self.list()?;
        for name in files::names(&self.dir)? {
            let within = Self { dir: self.dir.join(name) };
            if within.dir.is_dir() {
                all.extend(within.list()?);
            }
        }
        Ok(all)
    }

    /// The pods whose records never got their names, since a process was killed over them: network, container, interface.
    pub fn unborn(&self) -> Result<Vec<(String, String, String)>> {
        let names = files::names(&self.dir)?;
        let unborn = names.iter().filter_map(|name| {
            let record = name.strip_prefix('.')?.strip_suffix(".json.new")?;
            let (stem, network) = record.rsplit_once(':')?;
            let (container_id, ifname) = stem.rsplit_once('@')?;
            Some((network.to_owned(), container_id.to_owned(), ifname.to_owned()))
        });
        Ok(unborn.collect())
    }

    fn load(&self, path: &Path) -> Result<Option<PodRecord>> {
        let text = match files::read(path).map_err(|error| files::at(path, &error))? {
            Found::Nothing => return Ok(None),
            Found::Content(text) => text,
            Found::NoFile(why) => {
                files::set_aside(path, why);
                return Ok(None);
            }
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let format = serde_json::from_slice::<Format>(&text).ok().map(|form| form.format);
        if let Some(format) = format.filter(|format| *format > PodRecord::FORMAT) {
            return Err(Error::new(
                Code::Decode,
                format!(
                    "{} has format {format}, and this version of catena knows {}: a newer one wrote it; use that one",
                    path.display(),
                    PodRecord::FORMAT
                ),
            ));
        }
        match serde_json::from_slice::<PodRecord>(&text) {
            Ok(pod) if self.path(&pod.network, &pod.container_id, &pod.ifname) == path => {
                Ok(Some(pod))
            }
            Ok(_) => {
                files::set_aside(path, "it is about another pod than its name says");
                Ok(None)
            }
            Err(error) => {
                files::set_aside(path, &error.to_string());
                Ok(None)
            }
        }
    }
}
