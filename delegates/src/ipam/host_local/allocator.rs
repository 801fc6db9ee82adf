//! Which addresses an attachment gets.

use std::net::IpAddr;

use super::{
    error::Error,
    owner::Owner,
    range::{Range, RangeSet},
    store::{Lease, Store},
};

/// How many addresses are looked up one by one before the directory is listed instead: a look-up costs about a
/// microsecond, a listing about a quarter of one per lease.
const LOOKUPS: usize = 256;

/// How often an address is chosen anew after somebody who does not keep to the lock took it.
const ATTEMPTS: usize = 16;

/// Leases an attachment one address out of each set: those asked for, others round-robin. All or none.
pub fn allocate(
    store: &mut Store,
    owner: &Owner,
    sets: &[RangeSet],
    requested: &[IpAddr],
) -> Result<Vec<IpAddr>, Error> {
    let requested = assign(sets, requested)?;
    let (mut held, stale) = store.held_by(owner)?;
    if stale {
        // The container was there before the node restarted and is started anew.
        store.release(owner)?;
        held.clear();
    }
    let within = |address: &&IpAddr| sets.iter().any(|set| set.range_of(**address).is_some());
    if let Some(&address) = held.iter().find(within) {
        return Err(Error::Duplicate { address, owner: owner.clone() });
    }

    let mut taken = None;
    for _ in 0..ATTEMPTS {
        let chosen = sets
            .iter()
            .zip(&requested)
            .enumerate()
            .map(|(i, (set, requested))| match requested {
                Some(address) => choose_requested(store, set, *address),
                None => choose(store, set, i),
            })
            .collect::<Result<Vec<_>, _>>()?;
        taken = store.lease_all(owner, &held, &chosen)?;
        if taken.is_none() {
            return Ok(chosen);
        }
    }
    let address = taken.expect("the loop returns where nothing was taken");
    Err(Error::Taken { address, owner: None })
}

/// Whether each set has an address to give.
pub fn check_room(store: &Store, sets: &[RangeSet]) -> Result<(), Error> {
    for (i, set) in sets.iter().enumerate() {
        if free(store, set, i)?.is_none() && store.reclaimable()? == 0 {
            return Err(full(store, set)?);
        }
    }
    Ok(())
}

/// Gives each set the first address asked for that is in it.
fn assign(sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, Error> {
    let mut left = requested.to_vec();
    let assigned = sets
        .iter()
        .map(|set| {
            let i = left.iter().position(|address| set.range_of(*address).is_some())?;
            Some(left.remove(i))
        })
        .collect();
    if left.is_empty() {
        return Ok(assigned);
    }
    let sets = sets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Err(Error::NotAllocated { addresses: left, sets })
}

fn choose_requested(store: &mut Store, set: &RangeSet, address: IpAddr) -> Result<IpAddr, Error> {
    if set.is_gateway(address) {
        return Err(Error::Gateway(address));
    }
    if !store.is_leased(address)? || store.reclaim_address(address)? {
        return Ok(address);
    }
    let owner = match store.lease(address)? {
        Lease::Held(owner) => Some(owner),
        Lease::Free | Lease::Damaged => None,
    };
    Err(Error::Taken { address, owner })
}

fn choose(store: &mut Store, set: &RangeSet, index: usize) -> Result<IpAddr, Error> {
    if let Some(address) = free(store, set, index)? {
        return Ok(address);
    }
    if store.reclaim()? > 0
        && let Some(address) = free(store, set, index)?
    {
        return Ok(address);
    }
    Err(full(store, set)?)
}

/// The next address without a lease.
fn free(store: &Store, set: &RangeSet, index: usize) -> Result<Option<IpAddr>, Error> {
    let mut addresses = set.addresses_after(store.last_reserved(index));
    for address in addresses.by_ref().take(LOOKUPS) {
        if !store.is_leased(address)? {
            return Ok(Some(address));
        }
    }
    let Some(next) = addresses.next() else { return Ok(None) };
    let leased = store.leased()?;
    Ok(std::iter::once(next).chain(addresses).find(|address| !leased.contains(address)))
}

fn full(store: &Store, set: &RangeSet) -> Result<Error, Error> {
    let leases =
        store.leased()?.into_iter().filter(|address| set.range_of(*address).is_some()).count();
    let what = match set.ranges() {
        [one] if Range::new(one.subnet, None, None, Some(one.gateway)).as_ref() == Ok(one) => {
            format!("subnet {} has", one.subnet)
        }
        [one] => format!("range {one} has"),
        _ => format!("ranges {set} have"),
    };
    Err::<Error, _>(Error::Full { what, leases, dir: store.dir().to_owned() }).or_else(Ok)
}
