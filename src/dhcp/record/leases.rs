//! The leases of one attachment, as they are on record.

use std::time::Duration;

use chain::CniResult;
use delegates::dhcp::{self, Family, v6};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dhcp::lease::Lease;

/// The leases of an attachment: one of each family that it asks for, but where none was got yet, or the last one was lost.
///
/// Their times count from a second of this boot: no clock that is set makes a lease older or younger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leases {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<dhcp::Lease>,
    #[serde(default)]
    since: u64,
    /// The destinations of its routes that the interface was without when it was first looked at: others have taken them away. `None`
    /// where nobody has looked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without: Option<Vec<IpNet>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_v6: Option<v6::Lease>,
    #[serde(default)]
    since_v6: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without_v6: Option<Vec<IpNet>>,
    /// What the interface may still have of leases that are no more: it could not be taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<CniResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_v6: Option<CniResult>,
}

impl Leases {
    /// The lease of a family, and from when its times count.
    pub fn of(&self, family: Family) -> Option<(Lease, Duration)> {
        let (lease, since) = match family {
            Family::V4 => (self.lease.clone().map(Lease::V4), self.since),
            Family::V6 => (self.lease_v6.clone().map(Lease::V6), self.since_v6),
        };
        lease.map(|lease| (lease, Duration::from_secs(since)))
    }

    /// A lease that stands for the one of its family from now on.
    pub fn put(&mut self, lease: Lease, since: Duration) {
        let since = since.as_secs();
        match lease {
            Lease::V4(lease) => (self.lease, self.since) = (Some(lease), since),
            Lease::V6(lease) => (self.lease_v6, self.since_v6) = (Some(lease), since),
        }
    }

    /// Which of a family's routes others have taken from the interface, as far as it was looked at.
    pub fn without(&self, family: Family) -> Option<&[IpNet]> {
        match family {
            Family::V4 => self.without.as_deref(),
            Family::V6 => self.without_v6.as_deref(),
        }
    }

    /// It was looked at.
    pub fn set_without(&mut self, family: Family, without: Vec<IpNet>) {
        match family {
            Family::V4 => self.without = Some(without),
            Family::V6 => self.without_v6 = Some(without),
        }
    }

    /// What the interface may still have of a family's leases that are no more.
    pub fn left(&self, family: Family) -> Option<&CniResult> {
        match family {
            Family::V4 => self.left.as_ref(),
            Family::V6 => self.left_v6.as_ref(),
        }
    }

    /// The interface may still have what an earlier lease of a family gave it. From now on it is for this daemon alone to say what it
    /// is to have: an address that goes may take that of the next lease with it.
    pub fn leave(&mut self, family: Family, old: CniResult) {
        let (left, without) = match family {
            Family::V4 => (&mut self.left, &mut self.without),
            Family::V6 => (&mut self.left_v6, &mut self.without_v6),
        };
        let left = left.get_or_insert_default();
        left.ips.extend(old.ips);
        left.routes.extend(old.routes);
        without.get_or_insert_default();
    }

    /// The interface has nothing any more of a family's earlier leases.
    pub fn clear_left(&mut self, family: Family) {
        match family {
            Family::V4 => self.left = None,
            Family::V6 => self.left_v6 = None,
        }
    }

    /// Has no lease begin later than now: one whose time is still to come would end much too late.
    pub(super) fn begin_by(&mut self, now: Duration) {
        for since in [&mut self.since, &mut self.since_v6] {
            *since = now.as_secs().min(*since);
        }
    }

    /// That of a family is no more.
    pub fn take(&mut self, family: Family) -> Option<Lease> {
        match family {
            Family::V4 => self.lease.take().map(Lease::V4),
            Family::V6 => self.lease_v6.take().map(Lease::V6),
        }
    }
}
