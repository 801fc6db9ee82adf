//! Ports of the node (portmap).
//!
//! With iptables a chain for each network and container, which rules in one chain for all lead to; with nft rules whose
//! comment is the container's id, in chains for all.

use std::{collections::HashSet, net::SocketAddr};

use chain::ValidAttachment;
use nft_templates::{
    Error,
    others::{Chain, Family},
};

use super::{
    Addresses, Checked, Part, names,
    tables::{Said as _, Tables, Traces},
};

/// The families of both tables.
const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];
/// Prefix of a container's chains, and the chain that leads to them: what translates destinations, and what releases before
/// 0.8 did to sources.
const IPTABLES: [(&str, &str); 2] =
    [("CNI-DN-", "CNI-HOSTPORT-DNAT"), ("CNI-SN-", "CNI-HOSTPORT-SNAT")];
/// The chains of nft; the first of them has the ports.
const NFT: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];

/// The ports of an attachment.
pub(crate) struct Ports<'c> {
    /// Whose they are.
    pub addresses: Addresses<'c>,
    /// CHECK: those that it should have.
    pub wanted: Vec<Wanted>,
}

/// A port that leads into a container.
pub(crate) struct Wanted {
    /// The node's.
    pub host_port: u16,
    /// The container's.
    pub to: SocketAddr,
}

/// The ports of a network's containers that are not valid.
pub(crate) struct StalePorts<'c> {
    /// The network.
    pub network: &'c str,
    /// Its attachments that are to stay.
    pub valid: &'c [ValidAttachment],
}

impl Part for Ports<'_> {
    const LEGACY_TABLE: Option<&'static str> = Some("nat");

    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, Error> {
        let attachment = self.addresses.attachment();
        let mut chains = Vec::new();
        for family in FAMILIES {
            for (prefix, _) in IPTABLES {
                let name = names::chain(prefix, &attachment.network, &attachment.container_id);
                chains.push(Chain::new(family, "nat", &name));
            }
            chains.extend(NFT.map(|name| Chain::new(family, "cni_hostport", name)));
        }
        let mut traces = Traces::default();
        for chain in tables.present(chains)? {
            if let Some((_, entry)) =
                IPTABLES.iter().find(|(prefix, _)| chain.name.starts_with(prefix))
            {
                let mut rules =
                    tables.rules(&Chain { name: (*entry).to_owned(), ..chain.clone() })?;
                rules.retain(|rule| rule.leads_to().as_ref() == Some(&chain.name));
                traces.rules.append(&mut rules);
                traces.chains.push(chain);
            } else {
                let mut rules = tables.rules(&chain)?;
                // The container's ports on other networks have the same comment.
                rules.retain(|rule| {
                    let to = rule.dnat_to().map(|to| to.ip()).or_else(|| rule.destination());
                    rule.comment() == Some(&attachment.container_id) && self.addresses.may_have(to)
                });
                traces.rules.append(&mut rules);
            }
        }
        Ok(traces)
    }
}

impl Checked for Ports<'_> {
    fn missing<T: Tables>(&self, tables: &mut T) -> Result<Option<Vec<String>>, Error> {
        let attachment = self.addresses.attachment();
        let mut any = false;
        let mut missing = Vec::new();
        for family in FAMILIES {
            let of_family = |wanted: &&Wanted| wanted.to.is_ipv6() == (family == Family::Ip6);
            let wanted: Vec<_> = self.wanted.iter().filter(of_family).collect();
            if wanted.is_empty() {
                continue;
            }
            let name = names::chain(IPTABLES[0].0, &attachment.network, &attachment.container_id);
            let chain = Chain::new(family, "nat", &name);
            let entry = Chain::new(family, "nat", IPTABLES[0].1);
            let mut rules = tables.rules(&Chain::new(family, "cni_hostport", NFT[0]))?;
            rules.retain(|rule| rule.comment() == Some(&attachment.container_id));
            let of_nft = !rules.is_empty();
            let of_iptables = tables.rules(&chain)?;
            let leads =
                tables.rules(&entry)?.iter().any(|rule| rule.leads_to().as_ref() == Some(&name));
            any |= of_nft || leads || !of_iptables.is_empty();
            if !of_nft && !leads {
                missing.push(format!("no rule in chain {entry} leads to chain {name}"));
            }
            rules.extend(of_iptables);
            for Wanted { host_port, to } in wanted {
                let leads = |rule: &T::Rule| {
                    rule.dnat_to() == Some(*to) && rule.destination_port() == Some(*host_port)
                };
                if !rules.iter().any(leads) {
                    missing
                        .push(format!("no rule in chain {chain} leads port {host_port} to {to}"));
                }
            }
        }
        Ok(any.then_some(missing))
    }
}

impl Part for StalePorts<'_> {
    const LEGACY_TABLE: Option<&'static str> = Some("nat");

    /// Those of iptables: the rules of nft name no network.
    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, Error> {
        let (prefix, entry) = IPTABLES[0];
        let ids: HashSet<_> = self.valid.iter().map(|valid| valid.container_id.as_str()).collect();
        let mut traces = Traces::default();
        for family in FAMILIES {
            for rule in tables.rules(&Chain::new(family, "nat", entry))? {
                let comment = rule.comment().unwrap_or_default();
                let Some(id) = names::container_in(comment, "dnat ", self.network) else {
                    continue;
                };
                let name = names::chain(prefix, self.network, id);
                if ids.contains(id) || rule.leads_to().as_ref() != Some(&name) {
                    continue;
                }
                let chain = Chain::new(family, "nat", &name);
                if !traces.chains.contains(&chain) {
                    traces.chains.push(chain);
                }
                traces.rules.push(rule);
            }
        }
        Ok(traces)
    }
}
