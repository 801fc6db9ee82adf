//! The IPAM plugin `host-local`: hands out the addresses of ranges, and remembers on disk who has which.
//!
//! The directory of leases is the reference plugin's, so that a node can switch in place and back. What Catena knows
//! beyond it (whose the leases are without reading all of them, and which boot they belong to) is kept beside it.

mod allocator;
mod config;
mod error;
mod owner;
mod range;
mod store;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use chain::{
    Attachment, Call, CniResult, Code, Dirs, Error, NetworkCall, Plugin, Records, Result,
    result::IpConfig,
};
use nix::unistd::{AccessFlags, access};

use self::{
    config::{Config, data_dir},
    owner::Owner,
    store::{Lease, Store},
};
use crate::Node;

/// `"type": "host-local"` in `ipam`.
#[derive(Clone, Copy, Debug)]
pub struct HostLocal;

impl Plugin<Node> for HostLocal {
    fn kind(&self) -> &'static str {
        "host-local"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        add(call, node.dirs())
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        del(call, node.dirs())
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        check(call, node.dirs())
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        repair(call, node.dirs())
    }

    fn gc(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        gc(call, node.dirs())
    }

    fn status(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        status(call, node.dirs())
    }
}

fn owner(attachment: &Attachment) -> Owner {
    Owner::new(&attachment.container_id, &attachment.ifname)
}

fn add<N>(call: &Call<'_, N>, dirs: &Dirs) -> Result<CniResult> {
    let config = Config::read(call.conf, &call.attachment.args)?;
    let dns = config.dns()?;
    let mut store = Store::open(dirs, &config.data_dir, &call.conf.name)?;
    let owner = owner(call.attachment);
    let addresses = allocator::allocate(&mut store, &owner, &config.sets, &config.requested)?;
    let ips = config
        .sets
        .iter()
        .zip(addresses)
        .map(|(set, address)| set.ip_config(address))
        .collect::<Vec<IpConfig>>();
    Ok(CniResult { ips, routes: config.routes, dns, ..CniResult::default() })
}

/// Reads no more of the configuration than where the leases are, so that DEL goes through whatever became of the rest.
fn del<N>(call: &Call<'_, N>, dirs: &Dirs) -> Result<()> {
    let data_dir = data_dir(call.conf);
    if let Some(mut store) = Store::open_existing(dirs, &data_dir, &call.conf.name)? {
        let owner = owner(call.attachment);
        let released = store.release(&owner)?;
        tracing::debug!(%owner, ?released, "leases released");
    }
    Ok(())
}

/// The attachment must have a lease, and one for each address of `prevResult` that is in the ranges.
fn check<N>(call: &Call<'_, N>, dirs: &Dirs) -> Result<()> {
    let config = Config::read(call.conf, &call.attachment.args)?;
    let owner = owner(call.attachment);
    let leases = config.data_dir.join(&call.conf.name);
    let held = match Store::open_existing(dirs, &config.data_dir, &call.conf.name)? {
        Some(mut store) => held(&mut store, &owner)?,
        None => Vec::new(),
    };
    if held.is_empty() {
        return Err(Error::internal(format!("{owner} has no lease in {}", leases.display())));
    }
    for address in expected(&config, call.prev_result) {
        if !held.contains(&address) {
            return Err(Error::internal(format!(
                "{owner} has no lease for {address} of prevResult in {}",
                leases.display()
            )));
        }
    }
    Ok(())
}

/// The addresses of a result that are in the ranges.
fn expected(config: &Config, result: Option<&CniResult>) -> Vec<IpAddr> {
    let ips = result.map_or(&[][..], |result| &result.ips).iter().map(|ip| ip.address.addr());
    ips.filter(|address| config.sets.iter().any(|set| set.range_of(*address).is_some())).collect()
}

/// Leases the addresses anew that the container uses, unless others have been given them meanwhile.
fn repair<N>(call: &Call<'_, N>, dirs: &Dirs) -> Result<()> {
    let config = Config::read(call.conf, &call.attachment.args)?;
    let owner = owner(call.attachment);
    let mut store = Store::open(dirs, &config.data_dir, &call.conf.name)?;
    let held = held(&mut store, &owner)?;
    let expected = expected(&config, call.prev_result);
    let lost: Vec<_> = expected.iter().filter(|address| !held.contains(address)).collect();
    for address in &lost {
        if let Lease::Held(holder) = store.lease(**address)? {
            return Err(Error::internal(format!(
                "{owner} uses {address}, whose lease is {holder}'s by now: DEL one of the two, and ADD it again"
            )));
        }
    }
    if !lost.is_empty() {
        // All in one go: so the index knows the boot of all of them.
        store.release(&owner)?;
        if let Some(taken) = store.lease_all(&owner, &[], &expected)? {
            return Err(Error::internal(format!("{owner} uses {taken}, whose lease is damaged")));
        }
    }
    Ok(())
}

/// What an attachment has; leases that name its container id alone (host-local before 0.7) where none names its interface.
fn held(store: &mut Store, owner: &Owner) -> Result<Vec<IpAddr>> {
    let (held, _) = store.held_by(owner)?;
    if held.is_empty() { Ok(store.held_by(&owner.without_ifname())?.0) } else { Ok(held) }
}

/// Releases the leases of attachments that are gone, the reference plugin's among them. One that is on record is not gone:
/// its record's DEL releases its leases. It may just be added by a process beside this one.
fn gc<N>(call: &NetworkCall<'_, N>, dirs: &Dirs) -> Result<()> {
    let data_dir = data_dir(call.conf);
    let Some(mut store) = Store::open_existing(dirs, &data_dir, &call.conf.name)? else {
        return Ok(());
    };
    let released = store.retain(|owner| {
        call.valid.iter().any(|valid| {
            valid.container_id == owner.container_id
                && (owner.ifname.is_empty() || valid.ifname == owner.ifname)
        }) || is_recorded(dirs, &call.conf.name, owner)
    })?;
    for (owner, address) in released {
        tracing::info!(%owner, %address, "lease released: its attachment is not valid any more");
    }
    Ok(())
}

/// Whether the attachment has a record, of this network or of one that has its addresses through this one's list. Leases
/// are made after records, so this is to be asked under the lock of the leases. Where it cannot be told, it has.
fn is_recorded(dirs: &Dirs, network: &str, owner: &Owner) -> bool {
    let records = Records::open(dirs);
    let recorded = || -> Result<bool> {
        for of in records.networks()? {
            let found = records.find(&of, &owner.container_id, &owner.ifname)?;
            let mut delegates = found.iter().flat_map(|record| &record.delegates);
            if delegates
                .any(|delegate| delegate.conf.get("name").is_some_and(|name| name == network))
            {
                return Ok(true);
            }
        }
        Ok(false)
    };
    recorded().unwrap_or_else(|error| {
        tracing::warn!(%owner, %error, "its leases are kept: the records cannot be read");
        true
    })
}

/// ADD can be served where leases can be written and each range set has an address to give.
fn status<N>(call: &NetworkCall<'_, N>, dirs: &Dirs) -> Result<()> {
    let config = Config::read(call.conf, &chain::CniArgs::default())?;
    for dir in [config.data_dir.join(&call.conf.name), dirs.state.join("leases")] {
        let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(&dir);
        if let Err(errno) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
            return Err(Error::new(
                Code::NotAvailable,
                format!("host-local cannot write leases in {}: {}", there.display(), errno.desc()),
            ));
        }
    }
    if let Some(store) = Store::open_existing(dirs, &config.data_dir, &call.conf.name)? {
        allocator::check_room(&store, &config.sets)
            .map_err(|error| Error::new(Code::NotAvailable, error.to_string()))?;
    }
    Ok(())
}
