//! What the plugins have in common that stand in a chain after the one that made the interface.

use chain::{Attachment, Call, CniResult, Error, Result, result::IpConfig};

use crate::node::Node;

/// The result of the chain so far, which these plugins cannot do without.
pub(crate) fn prev_result<'c>(call: &Call<'c, Node>) -> Result<&'c CniResult> {
    call.prev_result.ok_or_else(|| {
        Error::config(format!(
            "{} needs prevResult: put it into a chain, after the plugin that makes the interface",
            call.conf.kind
        ))
    })
}

/// The addresses of a result that are the container's. As with the reference plugins, those that name another interface
/// than `CNI_IFNAME` are not, and those that name none are.
pub(crate) fn own_ips<'r>(
    attachment: &Attachment,
    result: &'r CniResult,
) -> impl Iterator<Item = &'r IpConfig> {
    result.ips.iter().filter(|ip| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|own| own.name == attachment.ifname && !own.sandbox.is_empty())
    })
}

/// The configuration of a plugin with these fields, and an attachment: `eth0` of `c1` to the network `web`.
#[cfg(test)]
pub(crate) fn for_tests(
    kind: &str,
    fields: &serde_json::Value,
) -> Result<(chain::PluginConf, Attachment)> {
    let mut conf = serde_json::Map::new();
    for (key, value) in [("cniVersion", "1.1.0"), ("name", "web"), ("type", kind)] {
        conf.insert(key.to_owned(), value.into());
    }
    conf.extend(fields.as_object().cloned().unwrap_or_default());
    let attachment = Attachment {
        network: "web".to_owned(),
        container_id: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        netns: None,
        args: chain::CniArgs::default(),
    };
    Ok((chain::PluginConf::from_object(conf)?, attachment))
}
