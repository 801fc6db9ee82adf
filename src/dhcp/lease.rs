//! A lease of either family.

use std::net::IpAddr;

use chain::CniResult;
use data_encoding::HEXLOWER;
use delegates::dhcp::{self, Family, v6};

/// A lease.
#[derive(Clone, Debug)]
pub enum Lease {
    V4(dhcp::Lease),
    V6(v6::Lease),
}

/// When it ends, when its server is to be asked for more and when any server is, in seconds from when it was asked for; `None` is
/// never.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub end: Option<u32>,
    pub renew: Option<u32>,
    pub rebind: Option<u32>,
}

impl Lease {
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    pub fn address(&self) -> IpAddr {
        match self {
            Self::V4(lease) => lease.address.into(),
            Self::V6(lease) => lease.address.into(),
        }
    }

    /// The server as it calls itself: an address, or a DUID.
    pub fn server(&self) -> String {
        match self {
            Self::V4(lease) => lease.server.to_string(),
            Self::V6(lease) => HEXLOWER.encode(&lease.server),
        }
    }

    pub fn times(&self) -> Times {
        let (end, renew, rebind) = match self {
            Self::V4(lease) => (lease.lease_time, lease.renew_after, lease.rebind_after),
            Self::V6(lease) => (lease.lease_time, lease.renew_after, lease.rebind_after),
        };
        Times { end, renew, rebind }
    }

    /// The result that it gives; `priority` is the metric of its routes.
    pub fn result(&self, priority: Option<u32>) -> CniResult {
        match self {
            Self::V4(lease) => dhcp::result(lease, priority),
            Self::V6(lease) => v6::result(lease),
        }
    }
}

/// What the leases of an attachment give together: the first one's comes first.
pub fn joined(results: impl IntoIterator<Item = CniResult>) -> CniResult {
    let mut results = results.into_iter();
    let first = results.next().unwrap_or_default();
    results.fold(first, |mut all, more| {
        all.ips.extend(more.ips);
        all.routes.extend(more.routes);
        all.dns.nameservers.extend(more.dns.nameservers);
        if all.dns.domain.is_empty() {
            all.dns.domain = more.dns.domain;
        }
        for domain in more.dns.search {
            if !all.dns.search.contains(&domain) {
                all.dns.search.push(domain);
            }
        }
        all
    })
}
