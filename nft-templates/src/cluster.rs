//! The addresses of the cluster that a node belongs to: what its rules know beside the node's own pods.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    owner::Owner,
    stored::{Entry, Family, Place, Value},
};

/// The sets with these addresses, which are of ranges. Each is replaced as a whole.
pub(crate) const SETS: [&str; 8] = [
    "cluster_pods4",
    "cluster_pods6",
    "cluster_nodes4",
    "cluster_nodes6",
    "services4",
    "services6",
    "direct4",
    "direct6",
];

/// The addresses of a cluster, both families mixed. Networks may overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Cluster {
    /// Of its pods: a policy of the cluster's network leaves them alone, and others' forward chains let through what comes
    /// from them to a pod of the plugin firewall.
    pub pods: Vec<IpNet>,
    /// Of its nodes: the same of what comes from them.
    pub nodes: Vec<IpNet>,
    /// Of its Services: no host port takes them, and a policy of the cluster's network leaves them alone.
    pub services: Vec<IpNet>,
    /// What such a policy leaves alone besides.
    pub direct: Vec<IpNet>,
}

impl Cluster {
    /// The elements of the sets, each set's in ascending order.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let all = [&self.pods, &self.nodes, &self.services, &self.direct];
        let mut entries = Vec::new();
        for (nets, sets) in all.into_iter().zip(SETS.chunks(2)) {
            for (set, is_v4) in sets.iter().zip([true, false]) {
                for (first, last) in ranges(nets, is_v4) {
                    entries.push(entry(set, first, is_v4, Value::Nothing));
                    // A range up to the last address of all has no end.
                    if let Some(end) = last.checked_add(1).filter(|end| *end <= highest(is_v4)) {
                        entries.push(entry(set, end, is_v4, Value::End));
                    }
                }
            }
        }
        entries
    }
}

fn entry(set: &'static str, address: u128, is_v4: bool, value: Value) -> Entry {
    let bytes = address.to_be_bytes();
    let key = bytes[if is_v4 { 12 } else { 0 }..].to_vec();
    Entry {
        place: Place { family: Family::Inet, set, key },
        value,
        owner: Owner::from_comment(None),
    }
}

fn highest(is_v4: bool) -> u128 {
    if is_v4 { u32::MAX.into() } else { u128::MAX }
}

/// The networks of one family as ranges of addresses (first, last), of which none touches another: two that do would have
/// an end and a beginning in one place.
fn ranges(nets: &[IpNet], is_v4: bool) -> Vec<(u128, u128)> {
    let mut all: Vec<_> = nets
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(net) if is_v4 => {
                Some((u32::from(net.network()).into(), u32::from(net.broadcast()).into()))
            }
            IpNet::V6(net) if !is_v4 => Some((net.network().into(), net.broadcast().into())),
            _ => None,
        })
        .collect();
    all.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in all {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(nets: &[&str]) -> Vec<String> {
        let pods = nets.iter().map(|net| net.parse().unwrap()).collect();
        let entries = Cluster { pods, ..Cluster::default() }.entries();
        let text = |entry: &Entry| {
            let address = crate::stored::address(&entry.place.key).unwrap();
            let end = if entry.value == Value::End { "to " } else { "" };
            format!("{end}{address}")
        };
        entries.iter().map(text).collect()
    }

    #[test]
    fn networks_that_touch_are_one_range() {
        assert_eq!(texts(&["10.1.1.0/24", "10.1.2.0/24"]), ["10.1.1.0", "to 10.1.3.0"]);
        assert_eq!(
            texts(&["10.2.0.0/16", "10.1.0.9/16", "10.1.7.0/24", "10.4.0.0/16"]),
            ["10.1.0.0", "to 10.3.0.0", "10.4.0.0", "to 10.5.0.0"]
        );
        assert_eq!(texts(&["fd00::/64", "fd00:0:0:1::/64"]), ["fd00::", "to fd00:0:0:2::"]);
    }

    #[test]
    fn a_range_up_to_the_last_address_is_open() {
        assert_eq!(texts(&["0.0.0.0/0", "10.0.0.0/8", "::/0"]), ["0.0.0.0", "::"]);
        assert_eq!(texts(&["240.0.0.0/4"]), ["240.0.0.0"]);
        assert_eq!(texts(&[]), Vec::<String>::new());
    }
}
