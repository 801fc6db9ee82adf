//! What a server leases.

use std::net::{IpAddr, Ipv6Addr};

use chain::{
    CniResult,
    result::{Dns, IpConfig},
};
use serde::{Deserialize, Serialize};

/// A lease of an IPv6 address. All times are seconds from the moment at which it was asked for; `None` is for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address. Which others are on the link a router says, and no server.
    pub address: Ipv6Addr,
    /// The server's DUID.
    pub server: Vec<u8>,
    /// When it is no longer to be used for new connections.
    pub preferred_time: Option<u32>,
    /// When it ends (at most a year).
    pub lease_time: Option<u32>,
    /// When its server is to be asked for more (T1; half of the preferred time where that is not in order).
    pub renew_after: Option<u32>,
    /// When any server is to be asked (T2; four fifths of the preferred time where that is not in order).
    pub rebind_after: Option<u32>,
    /// Name servers (option 23).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
    /// The domains to look names up in (option 24).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
}

/// The result that a lease gives: the address alone on its subnet, and name resolution. Servers know no routers.
pub fn result(lease: &Lease) -> CniResult {
    CniResult {
        ips: vec![IpConfig {
            address: IpAddr::V6(lease.address).into(),
            gateway: None,
            interface: None,
        }],
        dns: Dns {
            nameservers: lease.dns.iter().map(Ipv6Addr::to_string).collect(),
            search: lease.search.clone(),
            ..Dns::default()
        },
        ..CniResult::default()
    }
}
