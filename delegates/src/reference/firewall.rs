//! What lets a container's packets through (firewall, with its backend iptables): two rules for each address in one chain.

use nft_templates::{
    Error,
    others::{Chain, Family},
};

use super::{
    Addresses, Checked, Part,
    tables::{Said as _, Tables, Traces},
};

/// The rules of an attachment. They say nothing of it but its addresses.
pub(crate) struct Firewall<'c>(pub Addresses<'c>);

fn chain(family: Family) -> Chain {
    Chain::new(family, "filter", "CNI-FORWARD")
}

impl Part for Firewall<'_> {
    const LEGACY_TABLE: Option<&'static str> = Some("filter");

    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, Error> {
        let mut traces = Traces::default();
        for chain in tables.present([Family::Ip, Family::Ip6].map(chain).to_vec())? {
            let own = self.0.get();
            let mut rules = tables.rules(&chain)?;
            rules.retain(|rule| {
                // One of more words is an administrator's.
                let address = rule.accepts_all_from().or_else(|| rule.accepts_answers_to());
                address.is_some_and(|address| own.contains(&address))
            });
            traces.rules.append(&mut rules);
        }
        Ok(traces)
    }
}

impl Checked for Firewall<'_> {
    fn missing<T: Tables>(&self, tables: &mut T) -> Result<Option<Vec<String>>, Error> {
        let mut any = false;
        let mut missing = Vec::new();
        for address in self.0.get() {
            let chain = chain(if address.is_ipv6() { Family::Ip6 } else { Family::Ip });
            let rules = tables.rules(&chain)?;
            let from = rules.iter().any(|rule| rule.accepts_all_from() == Some(*address));
            let to = rules.iter().any(|rule| rule.accepts_answers_to() == Some(*address));
            any |= from || to;
            for (is_there, what) in [(from, "from"), (to, "to")] {
                if !is_there {
                    missing.push(format!(
                        "no rule in chain {chain} accepts what goes {what} {address}"
                    ));
                }
            }
            let forward = Chain { name: "FORWARD".to_owned(), ..chain.clone() };
            let leads = tables
                .rules(&forward)?
                .iter()
                .any(|rule| rule.leads_to().as_ref() == Some(&chain.name));
            if !leads {
                missing.push(format!("no rule in chain {forward} leads to chain {}", chain.name));
            }
        }
        Ok(any.then_some(missing))
    }
}
