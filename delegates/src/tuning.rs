//! tuning: sysctls of the container, and settings of its interface.
//!
//! What is changed is saved before, in a file that the reference plugin reads as well (`tuning/backup.rs`), and DEL
//! restores it.
//!
//! <https://www.cni.dev/plugins/current/meta/tuning/>

mod allowlist;
mod backup;
mod conf;
mod link;

use chain::{Attachment, Call, CniResult, Plugin, Result};

use nft_templates::Element;

use crate::{
    chained::prev_result,
    host_veth,
    interface::{self, Findings},
    net::{Mac, Sysctl},
    node::{Container, Elements, Node, Undo, owner},
};

use allowlist::Allowlist;
use backup::{Backup, BackupFile};
use conf::Conf;

/// The plugin. Its result is the one it was given, with the interface's new hardware address and MTU.
pub struct Tuning;

impl Plugin<Node> for Tuning {
    fn kind(&self) -> &'static str {
        "tuning"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let attachment = call.attachment;
        let prev_result = prev_result(call)?;
        // IP and GATEWAY are for the IPAM plugin.
        attachment.args.refuse_unknown(&["MAC", "IP", "GATEWAY"])?;
        let conf = Conf::of(call.conf, attachment)?;
        Allowlist::read()?.check(&conf.sysctls)?;
        if conf.is_empty() {
            return Ok(prev_result.clone());
        }
        let ifname = &attachment.ifname;
        let container = node.container(attachment.netns()?)?;
        let saved = Backup::of(&conf, &container, ifname)?;
        let mut undo = Undo::on(node);
        save(&saved, &conf, attachment, &container, &mut undo)?;

        tune(&conf, &container, ifname)?;
        if let (Some(new), Some(old)) = (conf.link.mac, saved.mac()) {
            let (port, dirs) = (host_veth(attachment), undo.dirs().clone());
            let moved = (old.0, new.0);
            undo.elements().move_spoof_check(&dirs, &port, moved, &owner(attachment));
        }
        undo.keep();
        Ok(tuned(prev_result, &conf, ifname))
    }

    /// Restores by the file alone: the configuration may have changed. A value that cannot be restored keeps no container
    /// from being deleted.
    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let attachment = call.attachment;
        let file = BackupFile::of(&conf::data_dir(call.conf), attachment);
        if let Some(backup) = file.read()? {
            if backup.mac().is_some() {
                remove_spoof_check(call, node);
            }
            let container = node.container_if_there(attachment.netns.as_deref())?;
            if let Some(container) = container
                && backup.is_of(&container)?
            {
                backup.restore(&container, &attachment.ifname);
            }
        }
        file.remove()
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        prev_result(call)?;
        let conf = Conf::of(call.conf, call.attachment)?;
        let container = node.container(call.attachment.netns()?)?;
        let mut findings = Findings::default();
        let keys: Vec<_> = conf.sysctls.iter().map(|sysctl| sysctl.key.as_str()).collect();
        for (sysctl, found) in conf.sysctls.iter().zip(container.read(&keys)?) {
            // What can only be written holds nothing.
            let Some(found) = found.ok() else { continue };
            findings.expect(
                &format!("sysctl {}", sysctl.key),
                words(&sysctl.value).as_str(),
                words(found.as_deref().unwrap_or("absent")).as_str(),
            );
        }
        if let Some(link) = findings.link(container.net()?, &call.attachment.ifname)? {
            conf.link.compare(&link, &mut findings);
        }
        findings.verdict()
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let mut conf = Conf::of(call.conf, call.attachment)?;
        // CHECK wants it off where it is not asked for.
        conf.link.promisc.get_or_insert(false);
        let container = node.container(call.attachment.netns()?)?;
        tune(&conf, &container, &call.attachment.ifname)
    }
}

/// Makes the settings.
fn tune(conf: &Conf, container: &Container, ifname: &str) -> Result<()> {
    let sysctls = conf.sysctls.iter();
    let sysctls: Vec<_> =
        sysctls.map(|one| Sysctl::required(&*one.key, one.value.clone())).collect();
    container.write(&sysctls)?;
    for change in conf.link.changes() {
        container.net()?.link().set(ifname, &change)?;
    }
    Ok(())
}

/// Writes the file, and remembers to restore what was saved. What an earlier tuning of the same chain saved stays as it
/// is: that is what there was before both.
fn save(
    saved: &Backup,
    conf: &Conf,
    attachment: &Attachment,
    container: &Container,
    undo: &mut Undo<'_, '_>,
) -> Result<()> {
    let file = BackupFile::of(&conf.data_dir, attachment);
    let earlier = match file.read()? {
        Some(earlier) if earlier.is_made_for(container)? => Some(earlier),
        _ => None,
    };
    let both = match &earlier {
        Some(earlier) => earlier.clone().and(saved.clone()),
        None => saved.clone(),
    };
    let (netns, ifname) = (attachment.netns()?.to_owned(), attachment.ifname.clone());
    let (undone, saved) = (file.clone(), saved.clone());
    undo.push("tuning", move |node| {
        saved.restore(&*node.container(&netns)?, &ifname);
        match &earlier {
            Some(earlier) => undone.write(earlier),
            None => undone.remove(),
        }
    });
    file.write(&both)
}

/// Removes the spoof check of the new hardware address, which the plugin that made it may not know.
fn remove_spoof_check(call: &Call<'_, Node>, node: &mut Node) {
    let inside = call.prev_result.and_then(|result| interface::inside(call.attachment, result));
    let Some(mac) = inside.and_then(|inside| inside.mac.parse::<Mac>().ok()) else { return };
    let check = Element::SpoofCheck { port: host_veth(call.attachment), mac: mac.0 };
    let owner = owner(call.attachment);
    if Elements::has(node.dirs(), &check, &owner) {
        node.elements().remove(check.key(), &owner);
    }
}

/// The result with what has changed of the container's interface. The MTU is there since 1.1.0 of the specification.
fn tuned(prev_result: &CniResult, conf: &Conf, ifname: &str) -> CniResult {
    let mut result = prev_result.clone();
    let own = |own: &&mut chain::result::Interface| own.name == ifname && !own.sandbox.is_empty();
    for interface in result.interfaces.iter_mut().filter(own) {
        if let Some(mac) = conf.link.mac {
            interface.mac = mac.to_string();
        }
        if let Some(mtu) = conf.link.mtu {
            interface.mtu = mtu;
        }
    }
    result
}

/// Values of several numbers are printed with tabs between them, however they were written.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}
