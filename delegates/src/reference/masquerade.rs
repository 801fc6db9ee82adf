//! What masquerades (`ipMasq` of bridge and ptp).
//!
//! With iptables a chain for each network and container, which a rule in POSTROUTING leads to for each address; with nft a
//! rule for each address in one chain of a table of the plugins' own.

use std::{collections::HashSet, net::IpAddr};

use chain::ValidAttachment;
use nft_templates::{
    Error,
    others::{Chain, Family},
};

use super::{
    Addresses, Checked, Part, names,
    tables::{Said as _, Tables, Traces},
};

/// The families of iptables' tables.
const IPTABLES: [Family; 2] = [Family::Ip, Family::Ip6];

/// The masquerading of an attachment.
pub(crate) struct Masquerade<'c>(pub Addresses<'c>);

/// That of a network's attachments which are not valid.
pub(crate) struct StaleMasquerade<'c> {
    /// The network.
    pub network: &'c str,
    /// Its attachments that are to stay.
    pub valid: &'c [ValidAttachment],
}

fn postrouting(family: Family) -> Chain {
    Chain::new(family, "nat", "POSTROUTING")
}

fn of_nft() -> Chain {
    Chain::new(Family::Inet, "cni_plugins_masquerade", "masq_checks")
}

impl Masquerade<'_> {
    fn chain(&self) -> String {
        let attachment = self.0.attachment();
        names::chain("CNI-", &attachment.network, &attachment.container_id)
    }

    /// The finding where there is nothing of it.
    pub(crate) fn absent(&self) -> String {
        format!(
            "nothing masquerades what {} sends: table nat has no chain {}",
            self.0.attachment(),
            self.chain()
        )
    }

    fn comment(&self) -> String {
        let attachment = self.0.attachment();
        names::instance_hash(&attachment.network, &attachment.container_id, &attachment.ifname)
    }
}

impl Part for Masquerade<'_> {
    const LEGACY_TABLE: Option<&'static str> = Some("nat");

    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, Error> {
        let (name, comment) = (self.chain(), self.comment());
        let chains = IPTABLES.map(|family| Chain::new(family, "nat", &name));
        let mut traces = Traces::default();
        for chain in tables.present([&chains[..], &[of_nft()]].concat())? {
            if chain.family == Family::Inet {
                let mut rules = tables.rules(&chain)?;
                rules.retain(|rule| rule.comment().is_some_and(|is| is.starts_with(&comment)));
                traces.rules.append(&mut rules);
                continue;
            }
            let mut to_chain = tables.rules(&postrouting(chain.family))?;
            to_chain.retain(|rule| rule.leads_to().as_ref() == Some(&name));
            let all = to_chain.len();
            // Early releases led the whole subnet there.
            to_chain.retain(|rule| rule.source().is_none() || self.0.may_have(rule.source()));
            // Another interface of the same container on the same network has the chain as well.
            if to_chain.len() == all {
                traces.chains.push(chain);
            }
            traces.rules.append(&mut to_chain);
        }
        Ok(traces)
    }
}

impl Checked for Masquerade<'_> {
    fn missing<T: Tables>(&self, tables: &mut T) -> Result<Option<Vec<String>>, Error> {
        let (name, comment) = (self.chain(), self.comment());
        let mut of_nft = tables.rules(&of_nft())?;
        of_nft.retain(|rule| rule.comment().is_some_and(|is| is.starts_with(&comment)));
        let mut any = !of_nft.is_empty();
        let mut missing = Vec::new();
        for address in self.0.get() {
            let is_from = |source: Option<IpAddr>| source == Some(*address);
            if of_nft.iter().any(|rule| is_from(rule.source()) && rule.masquerades()) {
                continue;
            }
            let family = if address.is_ipv6() { Family::Ip6 } else { Family::Ip };
            let chain = Chain::new(family, "nat", &name);
            let rules = tables.rules(&chain)?;
            any |= !rules.is_empty();
            if !rules.iter().any(|rule| rule.masquerades()) {
                missing.push(format!("no rule in chain {chain} masquerades what {address} sends"));
            }
            let from = postrouting(family);
            let leads = tables
                .rules(&from)?
                .iter()
                .any(|rule| is_from(rule.source()) && rule.leads_to().as_ref() == Some(&name));
            any |= leads;
            if !leads {
                missing.push(format!("no rule in chain {from} leads {address} to chain {name}"));
            }
        }
        Ok(any.then_some(missing))
    }
}

impl Part for StaleMasquerade<'_> {
    const LEGACY_TABLE: Option<&'static str> = Some("nat");

    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, Error> {
        let mut traces = Traces::default();
        let ids: HashSet<_> = self.valid.iter().map(|valid| valid.container_id.as_str()).collect();
        for family in IPTABLES {
            for rule in tables.rules(&postrouting(family))? {
                let comment = rule.comment().unwrap_or_default();
                let Some(id) = names::container_in(comment, "", self.network) else { continue };
                let name = names::chain("CNI-", self.network, id);
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
        let network = names::network_hash(self.network);
        let valid = self
            .valid
            .iter()
            .map(|valid| names::instance_hash(self.network, &valid.container_id, &valid.ifname));
        let valid: Vec<_> = valid.collect();
        let mut rules = tables.rules(&of_nft())?;
        rules.retain(|rule| {
            let comment = rule.comment().unwrap_or_default();
            comment.starts_with(&network) && !valid.iter().any(|valid| comment.starts_with(valid))
        });
        traces.rules.append(&mut rules);
        Ok(traces)
    }
}
