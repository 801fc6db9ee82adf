//! DEL and CHECK of what the reference plugins made.

use chain::{Call, Error, NetworkCall, Result};

use super::{Findings, veth};
use crate::{
    node::Node,
    reference::{self, Addresses, Masquerade, SpoofCheck, StaleMasquerade},
};

/// DEL where there is no record: what the reference plugin of this type would have made. Goes on over errors.
pub(crate) fn del_unrecorded(call: &Call<'_, Node>, node: &Node) -> Result<()> {
    let masquerade = Masquerade(Addresses::of(call, node));
    let done = [
        // First: the container's addresses may be known from its interface only.
        reference::remove(&masquerade, node.dirs()),
        reference::remove(&SpoofCheck(call.attachment), node.dirs()),
        veth::delete_unrecorded(call.attachment, node),
    ];
    let errors = done.into_iter().filter_map(Result::err).collect();
    Error::join(errors).map_or(Ok(()), Err)
}

/// CHECK of an attachment that another implementation made, whose rules are elsewhere.
pub(crate) fn check_unrecorded(
    findings: &mut Findings,
    call: &Call<'_, Node>,
    node: &Node,
    (masquerades, checks_mac): (bool, bool),
) -> Result<()> {
    if masquerades {
        let masquerade = Masquerade(Addresses::of(call, node));
        match reference::missing(&masquerade, node.dirs())? {
            Some(missing) => missing.into_iter().for_each(|one| findings.add(one)),
            None => findings.add(masquerade.absent()),
        }
    }
    if checks_mac {
        let check = SpoofCheck(call.attachment);
        match reference::missing(&check, node.dirs())? {
            Some(missing) => missing.into_iter().for_each(|one| findings.add(one)),
            None => findings.add(check.absent()),
        }
    }
    Ok(())
}

/// GC of the masquerading that the reference plugins made.
pub(crate) fn gc_unrecorded(call: &NetworkCall<'_, Node>, node: &Node) -> Result<()> {
    let stale = StaleMasquerade { network: &call.conf.name, valid: call.valid };
    reference::remove(&stale, node.dirs())
}
