//! firewall: what forwards the container's packets lets them through, whatever else filters on the node.
//!
//! The container's addresses are elements of the node's ruleset (`nft-templates/catena.nft`), which marks their packets;
//! into chains of others that drop goes one rule that accepts what is so marked (`nft-templates/forward.nft`). It is the
//! same for all containers, and stays.
//!
//! <https://www.cni.dev/plugins/current/meta/firewall/>

mod conf;
mod legacy;
#[cfg(test)]
mod tests;

use chain::{
    Attachment, Call, CniResult, Code, Dirs, Error, History, NetworkCall, Plugin, PluginConf,
    Result, Version,
};
use nft_templates::Element;

use crate::{
    chained::prev_result,
    interface::{self, Findings},
    net::link::{Change, Link},
    node::{Elements, Node, owner},
    reference::{self, Addresses},
};

use conf::{ADMIN_CHAIN, Conf, Ingress};

/// The plugin. Its result is the one it was given.
pub struct Firewall;

impl Plugin<Node> for Firewall {
    fn kind(&self) -> &'static str {
        "firewall"
    }

    fn oldest_version(&self) -> Version {
        Version::V0_4_0
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let result = prev_result(call)?;
        let conf = Conf::of(call.conf)?;
        let elements = conf.elements(call.attachment, result)?;
        if elements.is_empty() {
            return Ok(result.clone());
        }
        let_through(&conf.admin_chain, node.dirs())?;
        isolate(&conf, result, node)?;
        let owner = owner(call.attachment);
        for element in elements {
            node.elements().add(element, &owner);
        }
        Ok(result.clone())
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        interface::remove_elements(call, node, elements);
        if call.history == History::Unknown {
            let firewall = reference::Firewall(Addresses::of(call, node));
            reference::remove(&firewall, node.dirs())?;
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let result = prev_result(call)?;
        let conf = Conf::of(call.conf)?;
        let elements = conf.elements(call.attachment, result)?;
        if elements.is_empty() {
            return Ok(());
        }
        let mut findings = Findings::default();
        let reference = reference::Firewall(Addresses::of(call, node));
        let owner = owner(call.attachment);
        if findings.elements_or_reference(node, elements, &owner, &reference)? {
            return findings.verdict();
        }
        if conf.ingress == Ingress::Isolated {
            for port in ports(result, node)? {
                let isolated = port.port.as_ref().is_some_and(|port| port.isolated);
                findings.expect_on(&format!("isolation of {}", port.name), true, isolated);
            }
        }
        for gap in Elements::forward_gaps(node.dirs(), &conf.admin_chain)? {
            findings.add(gap);
        }
        for gap in legacy::gaps(&conf.admin_chain)? {
            findings.add(gap);
        }
        findings.verdict()
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let result = prev_result(call)?;
        let conf = Conf::of(call.conf)?;
        let elements = conf.elements(call.attachment, result)?;
        if elements.is_empty() {
            return Ok(());
        }
        let_through(&conf.admin_chain, node.dirs())?;
        isolate(&conf, result, node)?;
        interface::repair_elements(call.attachment, elements, node)?;
        Ok(())
    }

    fn status(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        let conf = Conf::of(call.conf)?;
        Elements::can_let_through(node.dirs(), &conf.admin_chain)
            .map_err(|error| Error { code: Code::NotAvailable, ..error })
    }

    fn gc(&self, _call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        Elements::collect_bridges(node)
    }
}

/// The elements of the ruleset that an attachment has by this plugin.
pub fn elements(
    conf: &PluginConf,
    attachment: &Attachment,
    result: &CniResult,
) -> Result<Vec<Element>> {
    Conf::of(conf)?.elements(attachment, result)
}

/// Sees to it that the chains of others let containers' packets through, before any container is there that asks for it.
///
/// Errors: a chain drops them and cannot be changed. The error names chain and rule.
pub fn keep_open(dirs: &Dirs) -> Result<()> {
    let_through(ADMIN_CHAIN, dirs)
}

/// Takes away the rules that let containers' packets through from the chains of others: for a node that Catena leaves.
pub fn withdraw(dirs: &Dirs) -> Result<()> {
    Elements::withdraw(dirs)?;
    legacy::withdraw()
}

/// Sees to it that the chains of others let marked packets through.
fn let_through(admin_chain: &str, dirs: &Dirs) -> Result<()> {
    for gap in Elements::let_through(dirs, admin_chain)? {
        tracing::info!(%gap, "mended");
    }
    for gap in legacy::let_through(admin_chain, dirs)? {
        tracing::info!(gap, "mended");
    }
    Ok(())
}

/// Keeps a container apart from its neighbours on the bridge, where that is its policy.
fn isolate(conf: &Conf, result: &CniResult, node: &Node) -> Result<()> {
    if conf.ingress != Ingress::Isolated {
        return Ok(());
    }
    // What stays on the bridge passes the IP hooks only where bridge-nf-call-iptables is 1.
    for port in ports(result, node)? {
        let isolated = Change { isolated: Some(true), ..Change::default() };
        node.host()?.link().set(&port.name, &isolated)?;
    }
    Ok(())
}

/// The container's ports of bridges.
fn ports(result: &CniResult, node: &Node) -> Result<Vec<Link>> {
    let host = node.host()?;
    let mut ports = Vec::new();
    for interface in result.interfaces.iter().filter(|one| one.sandbox.is_empty()) {
        ports.extend(host.link().get(&interface.name)?.filter(|link| link.port.is_some()));
    }
    Ok(ports)
}
