//! What there was before tuning: saved in ADD, restored in DEL.
//!
//! The file `<dataDir>/<container id>_<interface>.json` is the reference plugin's, with fields that it passes over: each of
//! the two restores what the other has changed, but for sysctls, which the reference does not restore.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use chain::{Attachment, Error, Result, files, record::NetnsId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{conf::Conf, link::LinkSettings};
use crate::{
    net::{Mac, Sysctl},
    node::Container,
};

/// What was saved of a container. Absent is what was not changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Backup {
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue_len: Option<u32>,
    /// Sysctls by their path below `/proc/sys`, in the order in which they were changed. Not the reference's.
    #[serde(skip_serializing_if = "Map::is_empty")]
    sysctl: Map<String, Value>,
    /// The container's namespace: a file without it is the reference's. Not the reference's.
    #[serde(rename = "netnsID", skip_serializing_if = "Option::is_none")]
    netns_id: Option<NetnsId>,
}

impl Backup {
    /// What the configuration is about to change.
    pub(super) fn of(conf: &Conf, container: &Container, ifname: &str) -> Result<Self> {
        let mut backup = Self { netns_id: Some(id(container)?), ..Self::default() };
        let keys: Vec<_> = conf.sysctls.iter().map(|sysctl| sysctl.key.as_str()).collect();
        for (key, value) in keys.iter().zip(container.read(&keys)?) {
            // What can only be written has no value to restore; what is absent ADD will fail over.
            if let Ok(Some(value)) = value {
                backup.sysctl.insert((*key).to_owned(), value.into());
            }
        }
        if conf.link != LinkSettings::default() {
            let link = container.net()?.link().require(ifname)?;
            backup.mac = conf.link.mac.map(|_| link.mac_text());
            backup.promisc = conf.link.promisc.map(|_| link.promisc);
            backup.mtu = conf.link.mtu.map(|_| link.mtu);
            backup.allmulti = conf.link.allmulti.map(|_| link.allmulti);
            backup.tx_queue_len = conf.link.tx_queue_len.map(|_| link.tx_queue_len);
        }
        Ok(backup)
    }

    /// This one, with what only a later one has.
    pub(super) fn and(self, later: Self) -> Self {
        let mut sysctl = self.sysctl;
        for (key, value) in later.sysctl {
            sysctl.entry(key).or_insert(value);
        }
        Self {
            mac: self.mac.or(later.mac),
            promisc: self.promisc.or(later.promisc),
            mtu: self.mtu.or(later.mtu),
            allmulti: self.allmulti.or(later.allmulti),
            tx_queue_len: self.tx_queue_len.or(later.tx_queue_len),
            sysctl,
            netns_id: self.netns_id,
        }
    }

    /// The hardware address that the interface had.
    pub(super) fn mac(&self) -> Option<Mac> {
        self.mac.as_ref().and_then(|mac| mac.parse().ok())
    }

    /// Whether it may be of this container: it is, or it is the reference's, which does not say.
    pub(super) fn is_of(&self, container: &Container) -> Result<bool> {
        Ok(self.netns_id.is_none() || self.is_made_for(container)?)
    }

    /// Whether it was made for this very container. (The file of an earlier one of the same name may have been left.)
    pub(super) fn is_made_for(&self, container: &Container) -> Result<bool> {
        Ok(self.netns_id == Some(id(container)?))
    }

    /// Restores what was saved, in reverse order. What cannot be restored is said in the log.
    pub(super) fn restore(&self, container: &Container, ifname: &str) {
        let saved = LinkSettings {
            mac: self.mac(),
            promisc: self.promisc,
            // 0 is "not changed" in the reference's.
            mtu: self.mtu.filter(|mtu| *mtu != 0),
            allmulti: self.allmulti,
            tx_queue_len: self.tx_queue_len,
        };
        let net = container.net();
        let net = net.as_ref().ok().filter(|net| net.link().get(ifname).is_ok_and(|l| l.is_some()));
        for (change, net) in saved.changes().iter().rev().zip(net.into_iter().cycle()) {
            if let Err(error) = net.link().set(ifname, change) {
                tracing::warn!(%error, "not restored");
            }
        }
        let saved = self.sysctl.iter().rev().filter_map(|(key, value)| {
            // Somebody may have written to the file.
            let below_net = key.starts_with("net/") && !key.split('/').any(|part| part == "..");
            below_net.then(|| Sysctl::wanted(key, value.as_str().unwrap_or_default().to_owned()))
        });
        if let Err(error) = container.write(&saved.collect::<Vec<_>>()) {
            tracing::warn!(%error, "sysctls are not restored");
        }
    }
}

fn id(container: &Container) -> Result<NetnsId> {
    let identity = container.netns().identity()?;
    Ok(NetnsId { dev: identity.dev, ino: identity.ino })
}

/// The file of an attachment's backup.
#[derive(Clone, Debug)]
pub(super) struct BackupFile(PathBuf);

impl BackupFile {
    /// The file in this directory. Container ids and interfaces' names have no slashes.
    pub(super) fn of(data_dir: &Path, attachment: &Attachment) -> Self {
        Self(data_dir.join(format!("{}_{}.json", attachment.container_id, attachment.ifname)))
    }

    /// What is in it; `None` where it is not there. One that cannot be understood is set aside:
    /// nothing else says what to restore.
    pub(super) fn read(&self) -> Result<Option<Backup>> {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(self.failed("read", &error)),
        };
        match serde_json::from_slice(&text) {
            Ok(backup) => Ok(Some(backup)),
            Err(error) => {
                files::set_aside(&self.0, &error.to_string());
                Ok(None)
            }
        }
    }

    /// Replaces it, in one step. It is not synced: no container outlives a power cut.
    pub(super) fn write(&self, backup: &Backup) -> Result<()> {
        let text = serde_json::to_vec_pretty(backup).map_err(|e| Error::internal(e.to_string()))?;
        let draft = self.draft();
        let written = match self.0.parent() {
            Some(dir) => DirBuilder::new().recursive(true).mode(0o700).create(dir),
            None => Ok(()),
        }
        .and_then(|()| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).open(&draft)
        })
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&draft, &self.0));
        written.map_err(|error| self.failed("write", &error))
    }

    /// Removes it, and what a write that was killed has left of it.
    pub(super) fn remove(&self) -> Result<()> {
        for path in [&self.draft(), &self.0] {
            match fs::remove_file(path) {
                Err(error) if !is_absence(&error) => return Err(self.failed("remove", &error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Where it is written before it gets its name. No container id begins with a dot.
    fn draft(&self) -> PathBuf {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy();
        self.0.with_file_name(format!(".{name}"))
    }

    fn failed(&self, doing: &str, error: &io::Error) -> Error {
        Error::io(format!("cannot {doing} tuning's backup {}: {error}", self.0.display()))
    }
}

/// Whether there is no such file. One whose name is too long cannot be.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
    )
}
