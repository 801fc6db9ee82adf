//! What a server leases.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::net::Mac;

/// A lease of an IPv4 address. All times are seconds from the moment at which it was asked for; `None` is for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its subnet's prefix (option 1; where the server has none, that of the address's class).
    pub prefix: u8,
    /// The server, as it calls itself (option 54).
    pub server: Ipv4Addr,
    /// Where its answer came from on the link: the server itself, or the relay or router before it. What is for the server
    /// alone is sent there.
    #[serde(with = "hardware")]
    pub server_mac: Mac,
    /// When it ends (option 51; at most a year, and an hour where the server does not say).
    pub lease_time: Option<u32>,
    /// When its server is to be asked for more (T1, option 58; half of the lease where that is not in order).
    pub renew_after: Option<u32>,
    /// When any server is to be asked (T2, option 59; seven eighths of the lease where that is not in order).
    pub rebind_after: Option<u32>,
    /// Routers, the preferred one first (option 3).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<Ipv4Addr>,
    /// Routes of the old kind (option 33), to networks of their class or to hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub static_routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Classless routes (option 121), which stand for all others; 0.0.0.0 is a destination on the link.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classless_routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// The MTU of the link (option 26; from 68 on).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name servers (option 6).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// The domain (option 15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The domains to look names up in (option 119, or the further names of option 15).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// The times of a lease, in seconds: its end, T1 and T2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub end: Option<u32>,
    pub renew: Option<u32>,
    pub rebind: Option<u32>,
}

/// What a server means by "for ever" (RFC 2131, 3.3; RFC 8415, 7.7).
pub(super) const FOR_EVER: u32 = u32::MAX;
/// The longest lease that is believed: timers of another year than this are a mistake, and asking once in half a year
/// costs nothing.
const LONGEST: u32 = 365 * 24 * 60 * 60;
/// For how long an address is leased where the server does not say, as with the reference plugin.
const UNSAID: u32 = 60 * 60;

impl Times {
    /// The times that a server gave, in order: T1 before T2 before the end. None where the lease ends as it begins.
    pub fn of(end: Option<u32>, renew: Option<u32>, rebind: Option<u32>) -> Option<Self> {
        let end = match end {
            Some(FOR_EVER) => return Some(Self { end: None, renew: None, rebind: None }),
            Some(0) => return None,
            end => end.unwrap_or(UNSAID).min(LONGEST),
        };
        let (default_renew, default_rebind) = (end.div_ceil(2), end - end / 8);
        let (renew, rebind) = match (renew, rebind) {
            (Some(renew), Some(rebind)) if 0 < renew && renew < rebind && rebind < end => {
                (renew, rebind)
            }
            (Some(renew), None) if 0 < renew && renew < default_rebind => (renew, default_rebind),
            (None, Some(rebind)) if default_renew < rebind && rebind < end => {
                (default_renew, rebind)
            }
            _ => (default_renew, default_rebind),
        };
        Some(Self { end: Some(end), renew: Some(renew), rebind: Some(rebind) })
    }

    /// The same moments, seen later.
    pub fn after(self, seconds: u32) -> Self {
        let left = |time: Option<u32>| time.map(|time| time.saturating_sub(seconds));
        Self { end: left(self.end), renew: left(self.renew), rebind: left(self.rebind) }
    }
}

/// Hardware addresses as text.
mod hardware {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::net::Mac;

    pub fn serialize<S: Serializer>(mac: &Mac, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mac)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mac, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(end: u32, renew: u32, rebind: u32) -> Option<Times> {
        Some(Times { end: Some(end), renew: Some(renew), rebind: Some(rebind) })
    }

    #[test]
    fn t1_and_t2_are_the_servers_where_they_are_in_order() {
        assert_eq!(Times::of(Some(3600), None, None), times(3600, 1800, 3150));
        assert_eq!(Times::of(Some(3600), Some(60), Some(90)), times(3600, 60, 90));
        assert_eq!(Times::of(Some(3600), Some(60), None), times(3600, 60, 3150));
        assert_eq!(Times::of(Some(3600), None, Some(3000)), times(3600, 1800, 3000));
        for (renew, rebind) in [(90, 60), (60, 3600), (0, 60), (4000, 5000), (FOR_EVER, FOR_EVER)] {
            assert_eq!(Times::of(Some(3600), Some(renew), Some(rebind)), times(3600, 1800, 3150));
        }
    }

    #[test]
    fn a_lease_is_for_ever_or_a_year_at_most_or_an_hour_if_unsaid() {
        let for_ever = Times { end: None, renew: None, rebind: None };
        assert_eq!(Times::of(Some(FOR_EVER), Some(60), Some(90)), Some(for_ever));
        assert_eq!(for_ever.after(10), for_ever);
        assert_eq!(Times::of(Some(0), None, None), None);
        assert_eq!(Times::of(None, None, None), times(3600, 1800, 3150));
        let year = 365 * 24 * 3600;
        assert_eq!(Times::of(Some(FOR_EVER - 1), None, None), times(year, year / 2, year / 8 * 7));
        assert_eq!(Times::of(Some(3600), None, None).map(|t| t.after(10)), times(3590, 1790, 3140));
    }

    proptest! {
        #[test]
        fn times_are_in_order_whatever_a_server_says(end: Option<u32>, renew: Option<u32>, rebind: Option<u32>) {
            if let Some(Times { end: Some(end), renew: Some(renew), rebind: Some(rebind) }) = Times::of(end, renew, rebind) {
                prop_assert!(0 < renew && renew <= rebind && rebind <= end && end <= LONGEST);
            }
        }
    }

    #[test]
    fn a_lease_is_kept_as_json() {
        let lease = Lease {
            address: [10, 0, 0, 2].into(),
            prefix: 24,
            server: [10, 0, 0, 1].into(),
            server_mac: Mac([2, 0, 0, 0, 0, 1]),
            lease_time: None,
            renew_after: Some(60),
            rebind_after: None,
            routers: vec![[10, 0, 0, 1].into()],
            static_routes: Vec::new(),
            classless_routes: vec![("10.9.0.0/16".parse().unwrap(), [0, 0, 0, 0].into())],
            mtu: Some(1400),
            dns: Vec::new(),
            domain: Some("example.org".to_owned()),
            search: Vec::new(),
        };
        let text = serde_json::to_string(&lease).unwrap();
        assert!(text.contains("\"server_mac\":\"02:00:00:00:00:01\""), "{text}");
        assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease);
    }
}
