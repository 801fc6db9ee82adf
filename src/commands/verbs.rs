//! The verbs of the specification on the command line, with cnitool's habits.

use std::path::{Path, PathBuf};

use chain::{
    Attachment, CniArgs, Code, ConfList, Error, Records, Request, Result, ValidAttachment, Version,
    check_container_id, check_ifname, check_network_name,
};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::{
    cli::{Format, GcTarget, NetworkArgs, NetworkTarget, Target},
    kubernetes::definition,
    output, wiring,
};

/// `catena add`.
pub fn add(target: &Target) -> Result<()> {
    let (list, attachment, cap_args) = read(target)?;
    let result = wiring::with_executor(None, target.network.path(), |executor, node| {
        executor.add(&request(&list, &attachment, &cap_args), node)
    })?;
    let printed = match Format::or_suitable(target.output) {
        Format::Json => output::print_json(&result.to_json(list.cni_version)?),
        Format::Table => output::print_text(&output::result_table(&result)),
    };
    printed.map_err(|error| Error::io(format!("standard output: {error}")))
}

/// `catena del`.
pub fn del(target: &Target) -> Result<()> {
    let (attachment, cap_args) = read_attachment(target)?;
    wiring::with_executor(None, target.network.path(), |executor, node| {
        let list = target.network.load();
        let network = network_name(&list, &target.network);
        if check_network_name(&network).is_err() {
            // The path of a file that cannot be read is no network's name.
            return list.map(drop);
        }
        let attachment = Attachment { network, ..attachment };
        if executor.del_recorded(&attachment, None, node)? {
            return Ok(());
        }
        executor.del(&request(&list?, &attachment, &cap_args), node)
    })
}

/// `catena check`.
pub fn check(target: &Target) -> Result<()> {
    let (list, attachment, cap_args) = read(target)?;
    wiring::with_executor(None, target.network.path(), |executor, node| {
        executor.check(&request(&list, &attachment, &cap_args), node)
    })
}

/// `catena gc`.
pub fn gc(target: &GcTarget) -> Result<()> {
    let list = target.network.load()?;
    let keep = target.keep.iter().map(|text| attachment_to_keep(text));
    let keep = keep.collect::<Result<Vec<_>>>()?;
    if list.disable_gc {
        return Ok(());
    }
    wiring::with_executor(None, target.network.path(), |executor, node| {
        if target.keep.is_empty() && !target.all {
            // With nothing said, what a person wants to be rid of is what no longer has a namespace. Plugins are not
            // asked: to them everything without a record of ours would belong to nobody.
            let live = live_attachments(&executor.records, &list.name)?;
            return executor.gc_records(&list.name, &live, None, node);
        }
        executor.gc(&list.name, &list, &keep, None, node)
    })
}

/// `catena status`.
pub fn status(target: &NetworkTarget) -> Result<()> {
    let list = target.network.load()?;
    wiring::with_executor(None, target.network.path(), |executor, node| {
        executor.status(&list, None, node)
    })
}

/// `catena version`.
pub fn version() -> Result<()> {
    let versions: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
    output::print_json(&json!({
        "cniVersion": Version::LATEST.as_str(),
        "supportedVersions": versions,
        "catena": env!("CARGO_PKG_VERSION"),
        "plugins": wiring::builtin_kinds(),
    }))
    .map_err(|error| Error::io(format!("standard output: {error}")))
}

/// The attachments of a network whose namespace is still there.
fn live_attachments(records: &Records, network: &str) -> Result<Vec<ValidAttachment>> {
    let boot = records.dirs().boot()?;
    let records = records.list(network)?.into_iter();
    let live = records.filter(|record| record.is_live(record.netns.as_deref(), &boot));
    Ok(live
        .map(|record| ValidAttachment { container_id: record.container_id, ifname: record.ifname })
        .collect())
}

impl NetworkArgs {
    /// The network's chain.
    pub fn load(&self) -> Result<ConfList> {
        definition::load_network(&self.network, &self.conf_dir)
    }

    /// `CNI_PATH`, split.
    pub fn path(&self) -> Vec<PathBuf> {
        std::env::split_paths(&self.cni_path).collect()
    }
}

/// The chain, the container and the capability arguments that a command line names.
fn read(target: &Target) -> Result<(ConfList, Attachment, Map<String, Value>)> {
    let (attachment, cap_args) = read_attachment(target)?;
    let list = target.network.load()?;
    let attachment = Attachment { network: list.name.clone(), ..attachment };
    Ok((list, attachment, cap_args))
}

/// The container (its network's name still missing) and the capability arguments that a command line names.
fn read_attachment(target: &Target) -> Result<(Attachment, Map<String, Value>)> {
    let netns = netns_path(&target.netns);
    let container_id = target.container_id.clone().unwrap_or_else(|| cnitool_id(&netns));
    check_container_id(&container_id)?;
    check_ifname(&target.ifname)?;
    let cap_args = serde_json::from_str(&target.cap_args).map_err(|error| {
        Error::new(Code::Decode, format!("CAP_ARGS (--cap-args) is no JSON object: {error}"))
    })?;
    let attachment = Attachment {
        network: String::new(),
        container_id,
        ifname: target.ifname.clone(),
        netns: Some(netns),
        args: CniArgs::parse(&target.args)?,
    };
    Ok((attachment, cap_args))
}

/// The network's name for the record: that of its configuration, or, where the file is gone, what the user typed.
fn network_name(list: &Result<ConfList>, args: &NetworkArgs) -> String {
    match list {
        Ok(list) => list.name.clone(),
        Err(_) => args.network.clone(),
    }
}

fn request<'a>(
    list: &'a ConfList,
    attachment: &'a Attachment,
    capability_args: &'a Map<String, Value>,
) -> Request<'a> {
    Request { list, attachment, capability_args, prev_result: None, observer: None }
}

/// A namespace's path; a bare name is one of `ip netns`.
fn netns_path(netns: &str) -> PathBuf {
    if netns.contains('/') { Path::new(netns).into() } else { Path::new("/run/netns").join(netns) }
}

/// The container id that cnitool gives to a namespace, so that either undoes what the other did.
fn cnitool_id(netns: &Path) -> String {
    let digest = Sha512::digest(netns.as_os_str().as_encoded_bytes());
    format!("cnitool-{}", HEXLOWER.encode(&digest[..10]))
}

/// `CONTAINERID/IFNAME`.
fn attachment_to_keep(text: &str) -> Result<ValidAttachment> {
    let (container_id, ifname) = text.split_once('/').ok_or_else(|| {
        Error::environment(format!(
            "--keep {text:?} must read CONTAINERID/IFNAME, for example web-1/eth0"
        ))
    })?;
    check_container_id(container_id)?;
    check_ifname(ifname)?;
    Ok(ValidAttachment { container_id: container_id.into(), ifname: ifname.into() })
}
