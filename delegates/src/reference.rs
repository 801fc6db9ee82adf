//! What the reference plugins (github.com/containernetworking/plugins, "the Go plugins") leave on a node: their rules of
//! iptables and nftables, for attachments that they made and Catena DELs or CHECKs.
//!
//! Nobody looks here for an attachment of Catena's own: DEL does where there is no record, CHECK where something of
//! Catena's is missing. iptables' tools make rules of nf_tables, which are read as those of nft are; only the tables from
//! before need a tool. Names and comments are those of the reference's releases 1.0 to 1.9.

mod addresses;
mod firewall;
mod legacy;
mod masquerade;
mod names;
mod ports;
mod spoof_check;
mod tables;

use chain::{Code, Dirs, Error, Result};
use nft_templates::others::Removal;

pub(crate) use self::{
    addresses::Addresses,
    firewall::Firewall,
    masquerade::{Masquerade, StaleMasquerade},
    ports::{Ports, StalePorts, Wanted},
    spoof_check::SpoofCheck,
};
use self::{
    legacy::Legacy,
    tables::{Tables, Traces},
};
use crate::node::Elements;

/// A part of what the reference plugins leave.
pub(crate) trait Part {
    /// The table that its rules would be in with iptables from before nf_tables; `None`: it has none there.
    const LEGACY_TABLE: Option<&'static str>;

    /// The rules and chains that are to go.
    fn traces<T: Tables>(&self, tables: &mut T) -> Result<Traces<T::Rule>, nft_templates::Error>;
}

/// A part that CHECK can compare.
pub(crate) trait Checked: Part {
    /// What is missing of it, or `None` where there is nothing at all of the reference's.
    fn missing<T: Tables>(
        &self,
        tables: &mut T,
    ) -> Result<Option<Vec<String>>, nft_templates::Error>;
}

/// DEL and GC: takes a part away, wherever it is. What is not there is no error.
pub(crate) fn remove<P: Part>(part: &P, dirs: &Dirs) -> Result<()> {
    let mut removed = Elements::remove_of_others(dirs, |others| {
        let traces = part.traces(others)?;
        Ok(Removal { rules: traces.rules, chains: traces.chains })
    })?;
    if let Some(mut legacy) = Legacy::load(P::LEGACY_TABLE)? {
        let traces = part.traces(&mut legacy).map_err(unreadable)?;
        removed += legacy.remove(&traces)?;
    }
    if removed > 0 {
        tracing::info!(removed, "rules and chains of the reference plugins removed");
    }
    Ok(())
}

/// CHECK: what is missing of a part, or `None` where there is nothing at all of the reference's.
pub(crate) fn missing<C: Checked>(part: &C, dirs: &Dirs) -> Result<Option<Vec<String>>> {
    if let Some(missing) = Elements::look_at_others(dirs, |others| part.missing(others))? {
        return Ok(Some(missing));
    }
    match Legacy::load(C::LEGACY_TABLE)? {
        Some(mut legacy) => part.missing(&mut legacy).map_err(unreadable),
        None => Ok(None),
    }
}

fn unreadable(error: nft_templates::Error) -> Error {
    Error::new(Code::Internal, error.to_string())
}
