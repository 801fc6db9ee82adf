//! snat: what leaves the cluster leaves it under an address of the node.
//!
//! Unlike `ipMasq` of the interface plugins it knows destinations besides the network's own that are reached under the
//! container's own address, and a fixed source address. Each container is an element that leads to the chain of its
//! network's policy (`nft-templates/policy.nft`).

use std::net::IpAddr;

use chain::{Attachment, Call, CniResult, Error, NetworkCall, Plugin, PluginConf, Result};
use ipnet::IpNet;
use nft_templates::{Action, Element, Policy};
use serde::Deserialize;

use crate::{
    chained::{own_ips, prev_result},
    interface::{self, Findings},
    node::{Elements, Node, owner},
};

/// The plugin. Its result is the one it was given.
pub struct Snat;

/// The configuration as it is written.
#[derive(Deserialize)]
struct Conf {
    /// Destinations that see the container's own address: usually the cluster's pods and services (default none). The
    /// network's own subnets and multicast always do. CIDRs of both families.
    #[serde(rename = "nonMasqueradeCIDRs", default)]
    non_masquerade: Option<Vec<IpNet>>,
    /// Whether the cluster's pods and Services do as well, and what else `catena daemon` is told to reach without
    /// translation (default false): those of the moment, also for containers that are there already.
    #[serde(rename = "nonMasqueradeCluster", default)]
    cluster: bool,
    /// The source address of what leaves, one for each family at most (default: that of the interface it leaves by).
    #[serde(rename = "sourceAddress", default)]
    source_address: Option<OneOrMore>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an IP address or a list of them")]
enum OneOrMore {
    One(IpAddr),
    More(Vec<IpAddr>),
}

impl Conf {
    fn of(conf: &PluginConf) -> Result<Self> {
        let conf: Self = conf.decode()?;
        for v6 in [false, true] {
            let mut sources = conf.sources().iter().filter(|source| source.is_ipv6() == v6);
            let source = sources.next();
            if let (Some(first), Some(second)) = (source, sources.next()) {
                return Err(Error::config(format!(
                    "sourceAddress has {first} and {second}: give one for each family"
                )));
            }
            if let Some(source) =
                source.filter(|ip| ip.is_unspecified() || ip.is_multicast() || ip.is_loopback())
            {
                return Err(Error::config(format!(
                    "sourceAddress {source} cannot be answered to: give an address of the node"
                )));
            }
        }
        Ok(conf)
    }

    fn sources(&self) -> &[IpAddr] {
        match &self.source_address {
            None => &[],
            Some(OneOrMore::One(source)) => std::slice::from_ref(source),
            Some(OneOrMore::More(sources)) => sources,
        }
    }

    /// An element for each of the container's addresses.
    fn elements(&self, attachment: &Attachment, result: &CniResult) -> Vec<Element> {
        let subnets = result.ips.iter().map(|ip| ip.address.trunc());
        let excluded: Vec<_> =
            self.non_masquerade.iter().flatten().map(IpNet::trunc).chain(subnets).collect();
        let element = |source: IpAddr| Element::Egress {
            source,
            policy: Policy {
                excluded: excluded.clone(),
                cluster: self.cluster,
                action: match self.sources().iter().find(|ip| ip.is_ipv6() == source.is_ipv6()) {
                    None => Action::Masquerade,
                    Some(fixed) => Action::Snat(*fixed),
                },
            },
        };
        own_ips(attachment, result).map(|ip| element(ip.address.addr())).collect()
    }
}

impl Plugin<Node> for Snat {
    fn kind(&self) -> &'static str {
        "snat"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let result = prev_result(call)?;
        let owner = owner(call.attachment);
        for element in Conf::of(call.conf)?.elements(call.attachment, result) {
            node.elements().add(element, &owner);
        }
        Ok(result.clone())
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        interface::remove_elements(call, node, elements);
        Ok(())
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let result = prev_result(call)?;
        let elements = Conf::of(call.conf)?.elements(call.attachment, result);
        let mut findings = Findings::default();
        findings.elements(node, elements, &owner(call.attachment))?;
        findings.verdict()
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let elements = elements(call.conf, call.attachment, prev_result(call)?)?;
        interface::repair_elements(call.attachment, elements, node)?;
        Ok(())
    }

    fn gc(&self, _call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        Elements::collect_policies(node.dirs())
    }
}

/// The elements of the ruleset that an attachment has by this plugin.
pub fn elements(
    conf: &PluginConf,
    attachment: &Attachment,
    result: &CniResult,
) -> Result<Vec<Element>> {
    Ok(Conf::of(conf)?.elements(attachment, result))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::chained::for_tests;

    fn of(more: &Value) -> Result<Vec<Element>> {
        let (conf, attachment) = for_tests("snat", more)?;
        let result = json!({ "ips": [{ "address": "10.1.0.2/24" }, { "address": "fd00::2/64" }] });
        let result = serde_json::from_value(result).unwrap();
        elements(&conf, &attachment, &result)
    }

    fn texts(elements: &[Element]) -> Vec<String> {
        let text = |element: &Element| match element {
            Element::Egress { source, policy } => {
                let excluded: Vec<_> = policy.excluded.iter().map(ToString::to_string).collect();
                format!("{source}: {:?} but {}", policy.action, excluded.join(" "))
            }
            other => panic!("{other}"),
        };
        elements.iter().map(text).collect()
    }

    #[test]
    fn each_address_leaves_as_its_family_is_configured() {
        let conf = json!({ "nonMasqueradeCIDRs": ["10.7.0.9/16", "fd07::/16"], "sourceAddress": "192.0.2.7" });
        let excluded = "10.7.0.0/16 fd07::/16 10.1.0.0/24 fd00::/64";
        assert_eq!(
            texts(&of(&conf).unwrap()),
            [
                format!("10.1.0.2: Snat(192.0.2.7) but {excluded}"),
                format!("fd00::2: Masquerade but {excluded}"),
            ]
        );
        let own = "10.1.0.0/24 fd00::/64";
        assert_eq!(
            texts(&of(&json!({})).unwrap()),
            [format!("10.1.0.2: Masquerade but {own}"), format!("fd00::2: Masquerade but {own}")],
            "a network's own subnets are never masqueraded"
        );
        let conf = json!({ "sourceAddress": ["2001:db8::7", "192.0.2.7"] });
        let elements = texts(&of(&conf).unwrap());
        assert!(elements[0].contains("Snat(192.0.2.7)"), "{elements:?}");
        assert!(elements[1].contains("Snat(2001:db8::7)"), "{elements:?}");
    }

    #[test]
    fn errors_name_the_value() {
        for (conf, message) in [
            (json!({ "nonMasqueradeCIDRs": ["10.0.0.0/33"] }), "nonMasqueradeCIDRs[0]"),
            (json!({ "sourceAddress": "here" }), "expected an IP address or a list of them"),
            (json!({ "sourceAddress": "0.0.0.0" }), "sourceAddress 0.0.0.0 cannot be answered to"),
            (json!({ "sourceAddress": "::1" }), "sourceAddress ::1 cannot be answered to"),
            (
                json!({ "sourceAddress": "224.0.0.1" }),
                "sourceAddress 224.0.0.1 cannot be answered to",
            ),
            (json!({ "sourceAddress": ["192.0.2.1", "192.0.2.2"] }), "give one for each family"),
        ] {
            let error = of(&conf).unwrap_err();
            assert!(error.msg.contains(message), "{error}");
        }
    }
}
