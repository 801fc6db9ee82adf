//! What DEL and ADD of the interface plugins have in common beyond the interface itself.

use std::net::IpAddr;

use chain::{
    Attachment, Call, CniResult, Error, History, PluginConf, Result,
    result::{Interface, Route},
};
use ipnet::IpNet;
use nft_templates::{Action, Element, Policy};

use crate::node::{Node, Undo, owner};

/// ADD of the IPAM plugin, which is undone where the ADD fails later. An IPAM plugin that gives no address is an error.
pub(crate) fn run_ipam<'c>(
    call: &'c Call<'c, Node>,
    node: &mut Undo<'_, 'c>,
) -> Result<Option<CniResult>> {
    let Some(mut result) = call.runner.ipam_add(call, node)? else { return Ok(None) };
    node.push("the addresses of IPAM", move |node| {
        call.runner.ipam_del(&Call { history: History::Added, ..*call }, node)
    });
    if result.ips.is_empty() {
        let kind = call.conf.ipam.as_ref().map(|ipam| ipam.kind.as_str()).unwrap_or_default();
        return Err(Error::config(format!(
            "IPAM plugin {kind} gave no address: configure one, or leave ipam out for an interface without"
        )));
    }
    if !call.conf.dns.is_empty() {
        result.dns = call.conf.dns.clone();
    }
    Ok(Some(result))
}

/// Where the container's interface stands in a result.
pub(crate) fn position(attachment: &Attachment, result: &CniResult) -> Option<usize> {
    result
        .interfaces
        .iter()
        .position(|interface| interface.name == attachment.ifname && !interface.sandbox.is_empty())
}

/// The container's interface in a result.
pub(crate) fn inside<'r>(attachment: &Attachment, result: &'r CniResult) -> Option<&'r Interface> {
    position(attachment, result).and_then(|position| result.interfaces.get(position))
}

/// The elements that masquerade what the result's addresses send beyond their own subnets.
pub(crate) fn masquerade(result: &CniResult) -> Vec<Element> {
    let excluded: Vec<IpNet> = result.ips.iter().map(|ip| ip.address.trunc()).collect();
    result
        .ips
        .iter()
        .map(|ip| Element::Egress {
            source: ip.address.addr(),
            policy: Policy { excluded: excluded.clone(), action: Action::Masquerade },
        })
        .collect()
}

/// Removes the elements of an attachment: those that the result names, or, where ADD was not finished, whatever is its.
pub(crate) fn remove_elements(
    call: &Call<'_, Node>,
    node: &mut Node,
    elements: impl FnOnce(&PluginConf, &Attachment, &CniResult) -> Result<Vec<Element>>,
) {
    let owner = owner(call.attachment);
    let named = match (call.history, call.prev_result) {
        (History::Added, Some(result)) => elements(call.conf, call.attachment, result).ok(),
        _ => None,
    };
    match named {
        Some(elements) => {
            for element in &elements {
                node.elements().remove(element, &owner);
            }
        }
        None => node.elements().purge(&owner),
    }
}

/// Deletes the container's interface by its name, where there is no record: another implementation made it, and gave
/// the host's end a name that says nothing.
pub(crate) fn delete_inside(call: &Call<'_, Node>, node: &Node) -> Result<()> {
    let attachment = call.attachment;
    let Some(container) = node.container_if_there(attachment.netns.as_deref())? else {
        return Ok(());
    };
    let net = container.net();
    if net.link().get(&attachment.ifname)?.is_some_and(|link| link.kind == "veth") {
        net.link().del(&attachment.ifname)?;
    }
    Ok(())
}

/// A route of a result.
pub(crate) fn route_via(dst: IpNet, gateway: IpAddr) -> Route {
    Route {
        dst,
        gw: Some(gateway),
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        scope: None,
    }
}
