//! What a port of a bridge may send from (`macspoofchk` of bridge): two chains for each attachment, always of nft.

use chain::Attachment;
use nft_templates::{
    Error,
    others::{Chain, Family},
};

use super::{
    Checked, Part, names,
    tables::{Said as _, Tables, Traces},
};

/// The spoof check of an attachment.
pub(crate) struct SpoofCheck<'c>(pub &'c Attachment);

impl SpoofCheck<'_> {
    /// The finding where there is nothing of it.
    pub(crate) fn absent(&self) -> String {
        let (_, [chain, _]) = self.chains();
        format!("nothing checks the hardware address of {}: there is no chain {chain}", self.0)
    }

    /// The chain that leads to its own, and its own.
    fn chains(&self) -> (Chain, [Chain; 2]) {
        let name = names::spoof_check(self.0);
        let chain = |name: &str| Chain::new(Family::Bridge, "nat", name);
        (chain("PREROUTING"), [chain(&name), chain(&format!("{name}-mac"))])
    }
}

impl Part for SpoofCheck<'_> {
    const LEGACY_TABLE: Option<&'static str> = None;

    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, Error> {
        let (entry, own) = self.chains();
        let name = own[0].name.clone();
        let mut traces = Traces { rules: Vec::new(), chains: tables.present(own.to_vec())? };
        if !traces.chains.is_empty() {
            traces.rules = tables.rules(&entry)?;
            traces.rules.retain(|rule| rule.leads_to().as_ref() == Some(&name));
        }
        Ok(traces)
    }
}

impl Checked for SpoofCheck<'_> {
    fn missing<T: Tables>(&self, tables: &mut T) -> Result<Option<Vec<String>>, Error> {
        let (entry, own) = self.chains();
        if tables.present(own.to_vec())?.is_empty() {
            return Ok(None);
        }
        let mut missing = Vec::new();
        let [first, second] = &own;
        for (from, to) in [(&entry, first), (first, second)] {
            if !tables.rules(from)?.iter().any(|rule| rule.leads_to().as_ref() == Some(&to.name)) {
                missing.push(format!("no rule in chain {from} leads to chain {}", to.name));
            }
        }
        if tables.rules(second)?.len() < 2 {
            missing.push(format!("chain {second} does not drop all but one hardware address"));
        }
        Ok(Some(missing))
    }
}
