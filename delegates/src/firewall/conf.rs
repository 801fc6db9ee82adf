//! The configuration of firewall.

use chain::{Attachment, CniResult, Error, PluginConf, Result};
use nft_templates::Element;
use serde::Deserialize;

use crate::{chained::own_ips, interface::null_is_default};

/// Longest name of a chain of iptables (XT_EXTENSION_MAXNAMELEN less the NUL).
const CHAIN_MAX: usize = 28;

/// firewall's configuration, checked.
pub(super) struct Conf {
    /// `iptablesAdminChainName` (default `CNI-ADMIN`): the chain of iptables for rules of the administrator's.
    pub admin_chain: String,
    /// `ingressPolicy` (default `open`).
    pub ingress: Ingress,
}

/// The chain of iptables that the administrator's own rules are in, unless the configuration names another.
pub(super) const ADMIN_CHAIN: &str = "CNI-ADMIN";

/// From where a container takes packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Ingress {
    /// From everywhere.
    #[default]
    #[serde(rename = "open", alias = "")]
    Open,
    /// From other bridges with a policy only what is not forwarded between the two.
    #[serde(rename = "same-bridge")]
    SameBridge,
    /// The same, and nothing from its own bridge.
    #[serde(rename = "isolated")]
    Isolated,
}

/// The configuration as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    /// Which of the reference's implementations to use; there is one here, for whatever filters on the node.
    #[serde(default, deserialize_with = "null_is_default")]
    backend: String,
    #[serde(default, deserialize_with = "null_is_default")]
    iptables_admin_chain_name: String,
    /// firewalld's zone that the reference puts the container's address into; no zone is changed here.
    #[serde(default, deserialize_with = "null_is_default")]
    firewalld_zone: String,
    #[serde(default, deserialize_with = "null_is_default")]
    ingress_policy: Ingress,
}

impl Conf {
    /// Reads the configuration.
    pub fn of(conf: &PluginConf) -> Result<Self> {
        let written: Written = conf.decode()?;
        for (name, value) in
            [("backend", &written.backend), ("firewalldZone", &written.firewalld_zone)]
        {
            if !value.is_empty() {
                tracing::debug!(name, value, "one rule in each chain that drops serves instead");
            }
        }
        let mut admin_chain = written.iptables_admin_chain_name;
        if admin_chain.is_empty() {
            ADMIN_CHAIN.clone_into(&mut admin_chain);
        }
        let fits = admin_chain.len() <= CHAIN_MAX
            && admin_chain.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && admin_chain.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        let built_in = ["INPUT", "FORWARD", "OUTPUT", "CNI-FORWARD"].contains(&&*admin_chain);
        if !fits || built_in {
            return Err(Error::config(format!(
                "iptablesAdminChainName {admin_chain:?} is no name for a chain of the administrator's: at most \
                 {CHAIN_MAX} letters, digits, \"_\", \"-\" and \".\", and none of iptables' own or CNI-FORWARD"
            )));
        }
        Ok(Self { admin_chain, ingress: written.ingress_policy })
    }

    /// The elements for the addresses of a result.
    pub fn elements(&self, attachment: &Attachment, result: &CniResult) -> Result<Vec<Element>> {
        let mut elements = Vec::new();
        for ip in own_ips(attachment, result) {
            let address = ip.address.addr();
            elements.push(Element::Forwarded { address });
            if self.ingress == Ingress::Open {
                continue;
            }
            let bridge = link_of(result)?;
            elements.push(Element::Closed { address, bridge: bridge.to_owned() });
            if self.ingress == Ingress::SameBridge {
                elements.push(Element::Neighbours { address, bridge: bridge.to_owned() });
            }
        }
        if self.ingress != Ingress::Open && !elements.is_empty() {
            elements.push(Element::ClosedBridge { ifname: link_of(result)?.to_owned() });
        }
        Ok(elements)
    }
}

/// The node's interface towards the container: the first of the result, as the reference plugin has it. Where that is
/// not a bridge (ptp), it is the container's own.
fn link_of(result: &CniResult) -> Result<&str> {
    match result.interfaces.first().filter(|link| link.sandbox.is_empty()) {
        Some(link) => Ok(&link.name),
        None => Err(Error::config(
            "ingressPolicy needs the node's interface first in prevResult: put firewall after bridge or ptp",
        )),
    }
}
