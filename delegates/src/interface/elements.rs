//! The elements of the ruleset.

use chain::{Attachment, Call, CniResult, Error, History, PluginConf, Result};
use ipnet::IpNet;
use nft_templates::{Action, Element, Missing, Policy, Problem};

use crate::node::{Node, owner};

/// The elements that masquerade what the result's addresses send beyond their own subnets.
pub(crate) fn masquerade(result: &CniResult) -> Vec<Element> {
    let excluded: Vec<IpNet> = result.ips.iter().map(|ip| ip.address.trunc()).collect();
    result
        .ips
        .iter()
        .map(|ip| Element::Egress {
            source: ip.address.addr(),
            policy: Policy {
                excluded: excluded.clone(),
                cluster: false,
                action: Action::Masquerade,
            },
        })
        .collect()
}

/// Whether what an interface plugin misses is no fault: a delegate after it in the chain may have given an address another
/// policy of egress (snat), and then that one counts.
pub(crate) fn is_later_ones(missing: &Missing) -> bool {
    matches!(missing.element, Element::Egress { .. }) && missing.problem == Problem::OtherValue
}

/// Puts back the elements of an attachment that are not as they should be, and returns them.
pub(crate) fn repair_elements(
    attachment: &Attachment,
    elements: Vec<Element>,
    node: &mut Node,
) -> Result<Vec<Element>> {
    repair(attachment, elements, node, |_| false)
}

/// The same for those of an interface plugin (see [`is_later_ones`]).
pub(crate) fn repair_elements_but_later_ones(
    attachment: &Attachment,
    elements: Vec<Element>,
    node: &mut Node,
) -> Result<Vec<Element>> {
    repair(attachment, elements, node, is_later_ones)
}

fn repair(
    attachment: &Attachment,
    elements: Vec<Element>,
    node: &mut Node,
    passed_over: fn(&Missing) -> bool,
) -> Result<Vec<Element>> {
    let owner = owner(attachment);
    let wanted: Vec<_> = elements.into_iter().map(|element| (element, owner.clone())).collect();
    let mut missing = node.repair_ruleset(&wanted)?;
    missing.retain(|missing| !passed_over(missing));
    let (lost, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|missing| {
        matches!(&missing.problem, Problem::OtherOwner(holder) if node.is_anothers(&owner, holder))
    });
    for missing in &missing {
        node.elements().add(missing.element.clone(), &owner);
    }
    if let Some(lost) = lost.first() {
        return Err(Error::internal(format!(
            "{lost}, which lives and came later: one of the two has to go (DEL)"
        )));
    }
    Ok(missing.into_iter().map(|missing| missing.element).collect())
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
