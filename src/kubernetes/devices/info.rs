//! Files that tell of a device, as the Device Information Specification 1.1.0 has them
//! (<https://github.com/k8snetworkplumbingwg/device-info-spec>).
//!
//! A device plugin writes `dp/<resource>-<id>-device.json`; each attachment with a device has a
//! `cni/<network>-<container id>_<interface>`, which is a copy of it, or is written by the delegate. What it says becomes
//! `device-info` in the pod's network status.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use chain::{
    Error, Result,
    files::{self, Found},
};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Devices, declares};
use crate::kubernetes::networks::Network;

/// The capability by which a delegate learns of the attachment's file.
const CAPABILITY: &str = "CNIDeviceInfoFile";

/// What is told of a device: the object that its `type` names is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DeviceInfo {
    #[serde(rename = "type")]
    kind: Kind,
    /// The specification's: `1.0.0` or `1.1.0`.
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pci: Option<Pci>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vdpa: Option<Vdpa>,
    #[serde(rename = "vhost-user", skip_serializing_if = "Option::is_none")]
    vhost_user: Option<VhostUser>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memif: Option<Memif>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Pci,
    Vdpa,
    VhostUser,
    Memif,
}

/// Defines a type of device: all that may be said of it is text, and may be left out.
macro_rules! device {
    ($(#[$doc:meta])* $name:ident { $($field:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", default)]
        struct $name {
            $(#[serde(skip_serializing_if = "String::is_empty")] $field: String,)*
        }
    };
}

device! {
    /// A function on the PCI bus.
    Pci { pci_address, vhost_net, rdma_device, pf_pci_address, representor_device }
}
device! {
    /// A vDPA device; `driver` is `vhost` or `virtio`, `path` where it is found.
    Vdpa { parent_device, driver, path, pci_address, pf_pci_address, representor_device }
}
device! {
    /// A vhost-user socket; `mode` is `client` or `server`.
    VhostUser { mode, path }
}
device! {
    /// A memif socket; `role` is `master` or `slave`, `mode` is `ethernet`, `ip` or `punt`.
    Memif { role, path, mode }
}

impl DeviceInfo {
    /// Reads the text of a file; the error says what is wrong with it.
    fn parse(text: &[u8]) -> Result<Self, String> {
        let info: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let (kind, told) = match info.kind {
            Kind::Pci => ("pci", info.pci.is_some()),
            Kind::Vdpa => ("vdpa", info.vdpa.is_some()),
            Kind::VhostUser => ("vhost-user", info.vhost_user.is_some()),
            Kind::Memif => ("memif", info.memif.is_some()),
        };
        if !info.version.starts_with("1.") {
            return Err(format!("version {:?} is not known: it must be 1.1.0", info.version));
        }
        if !told {
            return Err(format!("type is {kind}, but there is no object {kind:?}"));
        }
        Ok(info)
    }

    /// What the file tells; `None` where there is none. One that cannot be used is a warning.
    fn read(path: &Path) -> Option<Self> {
        let why = match files::read(path) {
            Ok(Found::Nothing) => return None,
            Ok(Found::Content(text)) => match Self::parse(&text) {
                Ok(info) => return Some(info),
                Err(why) => why,
            },
            Ok(Found::NoFile(why)) => why.to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!("device information {} is not used: {why}", path.display());
        None
    }
}

impl Devices {
    /// Readies what tells of the network's device before its ADD: the attachment's file, with what the device plugin
    /// wrote, and the capability `CNIDeviceInfoFile` for delegates that declare it. Does nothing for a network without a
    /// device, and warns where it cannot: a network does not fail for what is said of it.
    pub fn prepare(&self, network: &mut Network, container_id: &str) {
        let Some(id) = &network.device_id else { return };
        let file = self.attachment_file(&network.name, container_id, &network.ifname);
        // Of an attachment of this name that was never deleted.
        let known = remove_file(&file).and_then(|()| {
            let folder = file.parent().expect("it is in a folder");
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
            let told = network
                .resource
                .as_deref()
                .and_then(|resource| DeviceInfo::read(&self.device_file(resource, id)));
            told.map_or(Ok(()), |info| write(&file, &info))
        });
        if let Err(error) = known {
            tracing::warn!("device information {} is not written: {error}", file.display());
        }
        if declares(&network.list, CAPABILITY) {
            let path = file.to_string_lossy().into_owned();
            network.capability_args.insert(CAPABILITY.to_owned(), path.into());
        }
    }

    /// What is told of the network's device after its ADD, for `device-info` of the status.
    pub fn info(&self, network: &Network, container_id: &str) -> Option<Value> {
        network.device_id.as_ref()?;
        self.info_of(&network.name, container_id, &network.ifname)
    }

    /// The same by the names of an attachment that has a device.
    pub fn info_of(&self, network: &str, container_id: &str, ifname: &str) -> Option<Value> {
        let file = self.attachment_file(network, container_id, ifname);
        serde_json::to_value(DeviceInfo::read(&file)?).ok()
    }

    /// Removes an attachment's file after its DEL. That there is none is fine.
    ///
    /// Errors (5): it cannot be removed.
    pub fn remove(&self, network: &str, container_id: &str, ifname: &str) -> Result<()> {
        let file = self.attachment_file(network, container_id, ifname);
        remove_file(&file).map_err(|error| {
            Error::io(format!("device information {} cannot be removed: {error}", file.display()))
        })
    }

    /// The device plugin's file.
    fn device_file(&self, resource: &str, id: &str) -> PathBuf {
        self.devinfo.join("dp").join(format!("{}-{}-device.json", word(resource), word(id)))
    }

    /// The attachment's file. Its name is Catena's to choose, and Multus's where a file may have that.
    fn attachment_file(&self, network: &str, container_id: &str, ifname: &str) -> PathBuf {
        let mut name = format!("{}-{}_{}", word(network), word(container_id), word(ifname));
        if name.len() > 255 {
            name = HEXLOWER.encode(&Sha256::digest(&name));
        }
        self.devinfo.join("cni").join(name)
    }
}

/// A part of a file's name. Each name has a '-' or '_' between parts, so none is `..`.
fn word(text: &str) -> String {
    text.replace(['/', '\0'], "-")
}

fn remove_file(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Writes a file that is not there, for all to read.
fn write(file: &Path, info: &DeviceInfo) -> io::Result<()> {
    let text = serde_json::to_vec(info)?;
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o444).open(file)?;
    opened.write_all(&text)
}
