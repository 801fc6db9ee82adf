//! What the interface has of a lease.

use chain::{CniResult, result::IpConfig};
use delegates::dhcp::Family;
use ipnet::IpNet;

use super::Attachment;
use crate::dhcp::{
    interface::{self, Seen},
    keeper::blocking,
    lease::Lease,
};

impl Attachment {
    /// Gives the interface what `new` says in place of what `old` said; whether all of that was done.
    pub(super) async fn configure(&self, family: Family, old: CniResult, new: CniResult) -> bool {
        let (record, dirs) = (self.record().await, self.keeper.dirs.clone());
        let work = move || interface::configure(&record, family, &old, &new, &dirs);
        let done = blocking(work).await;
        if let Err(error) = &done {
            tracing::warn!(
                "{}: the interface does not follow the lease, and is seen to again: {error}",
                self.name
            );
        }
        done.is_ok()
    }

    /// Whether the interface may still have something of leases that are no more.
    pub(super) async fn has_left(&self, family: Family) -> bool {
        self.record().await.leases.left(family).is_some()
    }

    /// Takes that off the interface, but for what the lease that there is gives it as well.
    pub(super) async fn take_off(&self, family: Family, lease: Option<&Lease>) {
        let record = self.record().await;
        let Some(left) = record.leases.left(family).cloned() else { return };
        let addresses: Vec<_> = left.ips.iter().map(|ip| ip.address.to_string()).collect();
        let (name, addresses) = (&self.name, addresses.join(", "));
        let new = lease.map(|lease| self.result(lease)).unwrap_or_default();
        match blocking(move || interface::take_off(&record, &left, &new)).await {
            Ok(()) => {
                tracing::info!(
                    "{name}: what was left of the lease of {addresses} is off the interface"
                );
                self.now(|state| state.record.leases.clear_left(family)).await;
            }
            Err(error) => {
                tracing::warn!(
                    "{name}: the lease of {addresses} is still on the interface: {error}"
                );
            }
        }
    }

    /// Whether it is known which of a lease's routes its interface is to have.
    pub(super) async fn is_seen(&self, family: Family) -> bool {
        self.record().await.leases.without(family).is_some()
    }

    /// Sees that the interface has what a lease gives it, and nothing of earlier ones; whether it has.
    pub(super) async fn see_to_interface(&self, lease: &Lease) -> bool {
        self.take_off(lease.family(), Some(lease)).await;
        let (record, dirs) = (self.record().await, self.keeper.dirs.clone());
        let (name, family, result) = (&self.name, lease.family(), self.result(lease));
        let ifname = record.key.ifname.clone();
        let seen = blocking(move || interface::see_to(&record, family, &result, &dirs)).await;
        let is_seen_to = seen.is_ok();
        match seen {
            Ok(Seen::Nothing) => {}
            Ok(Seen::Without(without)) => {
                if !without.is_empty() {
                    let all: Vec<_> = without.iter().map(ToString::to_string).collect();
                    tracing::info!(
                        "{name}: {ifname} has no route to {}: it stays without",
                        all.join(", ")
                    );
                }
                self.now(|state| state.record.leases.set_without(family, without)).await;
            }
            Ok(Seen::PutBack(lost)) => {
                tracing::warn!("{name}: {ifname} had lost {}, and has it again", lost.join(", "));
            }
            Err(error) => {
                tracing::warn!("{name}: what {ifname} has of the lease is not seen to: {error}");
            }
        }
        is_seen_to && !self.has_left(family).await
    }

    /// What the interface has in place of a new lease: nothing, unless the lease before is not known any more.
    pub(super) async fn before(&self, lease: &Lease) -> CniResult {
        let before = &mut self.state.lock().await.record.before;
        let is_of = |net: &IpNet| Family::of(net.addr()) == lease.family();
        let (of, others) = std::mem::take(before).into_iter().partition::<Vec<_>, _>(is_of);
        *before = others;
        let result = self.result(lease);
        // All of it is as its plugins have left it.
        if result.ips.iter().all(|ip| of.contains(&ip.address)) {
            return result;
        }
        let ip = |address| IpConfig { address, gateway: None, interface: None };
        CniResult { ips: of.into_iter().map(ip).collect(), ..CniResult::default() }
    }
}
