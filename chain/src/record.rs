//! The record of an attachment: written before the first deed, kept until the last trace is gone.
//!
//! DEL, CHECK, GC and whoever looks at a node work from it: with the network's definition deleted, the namespace gone,
//! or the process killed at any point. It is a file of JSON lines. The first line is the whole record as it was
//! planned, and is on the disk (fsync) before anything is done. Each further line is a step of ADD:
//!
//! - between delegates a line is appended without fsync: that survives the death of the process, which is what it is
//!   for. A rewritten file without fsync would be a risk instead: after a power cut it may be empty.
//! - after a power cut the last lines may be missing or torn. What comes from a torn one on is passed over; an ADD that
//!   was not finished counts as begun in all its delegates (see [`Record::take_begun`]).
//! - the line that completes the ADD is synced again: one fsync before the first deed, one after the last.

mod boot;
mod journal;
mod lock;
mod store;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use self::journal::Journal;
pub(crate) use self::store::hex;
pub use self::{lock::Lock, store::Records};
use crate::{
    Attachment, CniArgs, CniResult, History, PluginConf, Result, Version, check_container_id,
    check_ifname, check_network_name, check_plugin_type,
};

/// What a record is about. There is one record for each, and one ADD or DEL at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The network.
    network: String,
    /// The container.
    container_id: String,
    /// Its interface.
    ifname: String,
    /// Who keeps the record: [`Key::CHAIN`] for a chain that Catena runs as a runtime does, else the type of the
    /// plugin that a runtime ran. So a chain and its parts, run as executables, do not meet.
    scope: String,
}

impl Key {
    /// The scope of a chain that Catena runs as a runtime does.
    pub const CHAIN: &str = "conflist";

    /// The scope for a chain that a delegate runs itself. It differs from the one that the delegate stands in, and from
    /// those of other such delegates of the same chain, and is the same in DEL as in ADD.
    pub fn scope_within(conf: &PluginConf) -> String {
        let mut conf_of_all = conf.raw.clone();
        conf_of_all.shift_remove("runtimeConfig");
        let digest = digest_of(&Value::Object(conf_of_all));
        format!("{}-{}", conf.kind, &digest[..16])
    }

    /// Who keeps the record.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The key of an attachment. Paths are built from it, so its names are checked.
    pub fn new(attachment: &Attachment, scope: &str) -> Result<Self> {
        check_network_name(&attachment.network)?;
        check_container_id(&attachment.container_id)?;
        check_ifname(&attachment.ifname)?;
        check_plugin_type(scope)?;
        Ok(Self {
            network: attachment.network.clone(),
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            scope: scope.to_owned(),
        })
    }
}

/// A digest of JSON, in hex.
pub(crate) fn digest_of(json: &Value) -> String {
    hex(&json.to_string())
}

/// An attachment as it was planned and as far as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The form of the record ([`Record::FORMAT`]).
    pub format: u32,
    /// The network's name.
    pub network: String,
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// Who keeps the record (see [`Key`]).
    pub scope: String,
    /// Which of several plugins of one type it is of: a digest of its configuration; empty for a chain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// `CNI_NETNS` of ADD.
    pub netns: Option<PathBuf>,
    /// Which namespace that was: a path can be used again for another one.
    #[serde(rename = "netnsID")]
    pub netns_id: Option<NetnsId>,
    /// The boot in which ADD ran ([`crate::Dirs::boot`]).
    pub boot: String,
    /// When ADD began, in seconds since 1970.
    pub created: u64,
    /// The version that is spoken with the delegates.
    pub cni_version: Version,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH` of ADD: DEL looks there too.
    pub cni_path: Vec<PathBuf>,
    /// The capability arguments, before they were filtered for each delegate.
    pub capability_args: Map<String, Value>,
    /// Whether the network is not to be checked (`disableCheck`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disable_check: bool,
    /// The result that the chain was given: it stands in a chain itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev_result: Option<CniResult>,
    /// The delegates, in the order of ADD.
    pub delegates: Vec<DelegateRecord>,
    /// The result of the last delegate that was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CniResult>,
    /// Whether ADD was finished and no DEL has begun to undo it.
    #[serde(default)]
    pub complete: bool,
    /// Whether a DEL wrote the record: the states of its delegates are then what is left to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undoing: bool,
}

/// One delegate of a record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DelegateRecord {
    /// Its configuration, with `name`, `cniVersion` and `runtimeConfig` in it, without `prevResult`.
    pub conf: Map<String, Value>,
    /// Whether it ran as an executable. DEL does the same, whatever is built in by then.
    pub foreign: bool,
    /// Whether its IPAM plugin ran as an executable.
    #[serde(default)]
    pub ipam_foreign: bool,
    /// How far it came.
    pub state: State,
    /// The result of its ADD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<CniResult>,
}

/// How far a delegate came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has done nothing, or all of it is undone.
    Planned,
    /// Its ADD was begun: it may have done anything.
    Begun,
    /// Its ADD was done.
    Added,
}

/// A network namespace, by its file: it is the same as long as it lives. (Numbers are used again later; the boot and
/// the path are compared as well.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    /// The device of the namespace file system.
    pub dev: u64,
    /// The namespace's number there.
    pub ino: u64,
}

impl NetnsId {
    /// The namespace that a path leads to; `None` where it leads nowhere.
    pub fn of(path: &Path) -> Option<Self> {
        let file = std::fs::metadata(path).ok()?;
        Some(Self { dev: file.dev(), ino: file.ino() })
    }
}

impl Record {
    /// The form that is written here.
    pub const FORMAT: u32 = 1;

    /// What the record is about.
    pub fn key(&self) -> Key {
        Key {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            scope: self.scope.clone(),
        }
    }

    /// The result by which a built-in delegate names what it made: the last one, as the specification has it, or its own
    /// where a delegate after it has dropped what that had.
    pub fn result_for(&self, index: usize) -> Option<&CniResult> {
        let last = self.result.as_ref().or(self.prev_result.as_ref());
        let own = self.delegates.get(index).and_then(|delegate| delegate.result.as_ref());
        own.filter(|own| last.is_none_or(|last| !last.keeps(own))).or(last)
    }

    /// Takes the result that later plugins of the attachment came to, as each delegate of a chain does. Where a runtime
    /// runs plugins one by one, each has a record of its own, and what ties one to the next is the result it was given. A chain
    /// within another one goes by that one's.
    pub fn take_later_result(&mut self, all: &[Self]) {
        let mut others: Vec<_> = all.iter().filter(|other| self.stands_beside(other)).collect();
        while let Some(next) = others.iter().position(|other| other.prev_result == self.result) {
            self.result.clone_from(&others.swap_remove(next).result);
        }
        let (around, others): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(|one| self.is_of_same_interface(one))
            .cloned()
            .partition(|one| one.complete && one.keys_within().contains(&self.key()));
        if let Some(mut around) = around.into_iter().next() {
            around.take_later_result(&others);
            self.result = around.result.or_else(|| self.result.take());
        }
    }

    /// The keys of the records that delegates of this one keep themselves, if any do.
    pub(crate) fn keys_within(&self) -> Vec<Key> {
        let Ok(attachment) = self.attachment(None, &self.boot) else { return Vec::new() };
        let confs = self.delegates.iter().filter_map(|delegate| delegate.plugin_conf().ok());
        confs.filter_map(|conf| Key::new(&attachment, &Key::scope_within(&conf)).ok()).collect()
    }

    /// Whether a record is about the same interface of the same container.
    fn is_of_same_interface(&self, other: &Self) -> bool {
        other.container_id == self.container_id
            && other.ifname == self.ifname
            && other.network == self.network
            && other.netns_id == self.netns_id
    }

    /// Whether another plugin of the same attachment, which a runtime ran by itself, left that record.
    fn stands_beside(&self, other: &Self) -> bool {
        self.is_of_same_interface(other)
            && other.scope != self.scope
            && other.complete
            && other.prev_result.is_some()
            && other.result.is_some()
    }

    /// Whether the attachment lives in the namespace at `netns`: its ADD was finished, in this boot, and in the very
    /// namespace that is there now.
    pub fn is_live(&self, netns: Option<&Path>, boot: &str) -> bool {
        self.complete
            && self.boot == boot
            && self.netns_id.is_some()
            && netns.and_then(NetnsId::of) == self.netns_id
    }

    /// Whether its ADD was begun in this boot, and its namespace is still the one of then.
    pub fn namespace_lives(&self, boot: &str) -> bool {
        self.boot == boot
            && self.netns_id.is_some()
            && self.netns.as_deref().and_then(NetnsId::of) == self.netns_id
    }

    /// The attachment for DEL. Its namespace is the recorded one, at the recorded path or at the one that DEL was given;
    /// where neither leads to it, it is gone, and DEL goes without. So a DEL never reaches into another container.
    pub fn attachment(&self, given: Option<&Path>, boot: &str) -> Result<Attachment> {
        let paths = [self.netns.as_deref(), given];
        let alive = |path: &&Path| self.netns_id.is_some() && NetnsId::of(path) == self.netns_id;
        let netns = paths.into_iter().flatten().find(alive).filter(|_| self.boot == boot);
        Ok(Attachment {
            network: self.network.clone(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            netns: netns.map(Path::to_owned),
            args: CniArgs::parse(&self.args)?,
        })
    }

    /// What is known of each delegate when an ADD is not said to be finished: that any may have been begun. The lines that
    /// say how far it came may be lost, since they were not synced before a power cut, or somebody has cut the file.
    pub fn take_begun(&mut self) {
        if self.complete || self.undoing {
            return;
        }
        for delegate in &mut self.delegates {
            if delegate.state == State::Planned {
                delegate.state = State::Begun;
            }
        }
    }
}

impl DelegateRecord {
    /// Its type.
    pub fn kind(&self) -> &str {
        self.conf.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Its configuration; it runs the way it ran in ADD.
    pub fn plugin_conf(&self) -> Result<PluginConf> {
        let mut conf = PluginConf::from_object(self.conf.clone())?;
        conf.exec = self.foreign;
        if let Some(ipam) = &mut conf.ipam {
            ipam.exec |= self.ipam_foreign;
        }
        Ok(conf)
    }

    /// What DEL has to know of its ADD; `None` where nothing is left to undo.
    pub fn history(&self) -> Option<History> {
        match self.state {
            State::Planned => None,
            State::Begun => Some(History::Begun),
            State::Added => Some(History::Added),
        }
    }
}
