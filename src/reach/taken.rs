//! Who has an address, or a part of the pods' addresses, without comparing each node with each.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::Peer;

/// The addresses of all nodes, in order.
pub struct Addresses<'a>(Vec<(IpAddr, &'a str)>);

impl<'a> Addresses<'a> {
    /// Those of these nodes.
    pub fn of(nodes: &'a [Peer]) -> Self {
        let all = nodes.iter().flat_map(|node| node.addresses.iter().map(|ip| (*ip, &*node.name)));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        Self(all)
    }

    /// The first one in a network, and whose it is.
    pub fn first_within(&self, net: &IpNet) -> Option<(IpAddr, &'a str)> {
        let first = self.0.partition_point(|(ip, _)| *ip < net.network());
        self.0.get(first).copied().filter(|(ip, _)| net.contains(ip))
    }
}

/// Parts of the pods' addresses that nodes have.
pub struct Taken<'a> {
    own: &'a Peer,
    /// Of the others, none of which overlaps another: in the order of their addresses, each with when it was taken.
    others: BTreeMap<IpNet, (usize, &'a str)>,
}

impl<'a> Taken<'a> {
    /// Those of this node.
    pub fn by_own(own: &'a Peer) -> Self {
        Self { own, others: BTreeMap::new() }
    }

    /// The node whose part overlaps this one; of several the first that took it.
    pub fn overlapping(&self, net: &IpNet) -> Option<&'a str> {
        if self.own.pod_cidrs.iter().any(|own| own.contains(net) || net.contains(own)) {
            return Some(&self.own.name);
        }
        // Nothing is between a part and what holds it: it would overlap that.
        let around =
            self.others.range(..=*net).next_back().filter(|(other, _)| other.contains(net));
        let inside = || {
            let inside = self.others.range(*net..).take_while(|(other, _)| net.contains(*other));
            inside.min_by_key(|(_, (when, _))| *when)
        };
        around.or_else(inside).map(|(_, (_, name))| *name)
    }

    /// A node takes a part that overlaps none.
    pub fn take(&mut self, net: IpNet, node: &'a str) {
        let when = self.others.len();
        self.others.insert(net, (when, node));
    }
}
