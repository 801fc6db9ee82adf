//! The elements of the ruleset.

use chain::{Attachment, Call, CniResult, History, PluginConf, Result};
use ipnet::IpNet;
use nft_templates::{Action, Element, Policy};

use crate::node::{Node, owner};

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
