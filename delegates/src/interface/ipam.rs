//! The IPAM plugin's part.

use chain::{Call, CniResult, Error, History, Result};

use crate::node::{Node, Undo};

/// ADD of the IPAM plugin, which is undone where the ADD fails later. An IPAM plugin that gives no address is an error.
pub(crate) fn run_ipam<'c>(
    call: &'c Call<'c, Node>,
    node: &mut Undo<'_, 'c>,
) -> Result<Option<CniResult>> {
    let Some(result) = call.runner.ipam_add(call, node)? else { return Ok(None) };
    node.push("the addresses of IPAM", move |node| {
        call.runner.ipam_del(&Call { history: History::Added, ..*call }, node)
    });
    if result.ips.is_empty() {
        let kind = call.conf.ipam.as_ref().map(|ipam| ipam.kind.as_str()).unwrap_or_default();
        return Err(Error::config(format!(
            "IPAM plugin {kind} gave no address: configure one, or leave ipam out for an interface without"
        )));
    }
    Ok(Some(result))
}
