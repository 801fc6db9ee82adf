//! Ranges of addresses, and the sets of them that one address is taken from.

use std::{fmt, net::IpAddr};

use chain::result::IpConfig;
use ipnet::IpNet;

/// Addresses of one subnet, from a first to a last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The subnet that the addresses are part of.
    pub subnet: IpNet,
    /// The first address that may be given out.
    pub start: IpAddr,
    /// The last address that may be given out.
    pub end: IpAddr,
    /// The subnet's gateway, which is never given out. It may lie outside the range, and outside the subnet.
    pub gateway: IpAddr,
}

impl Range {
    /// A range of this subnet. Absent ends mean the first address after the network's own and the last one (before
    /// the broadcast address in IPv4); an absent gateway means the first address after the network's own.
    ///
    /// Errors: a sentence on what is wrong with which value.
    pub fn new(
        subnet: IpNet,
        start: Option<IpAddr>,
        end: Option<IpAddr>,
        gateway: Option<IpAddr>,
    ) -> Result<Self, String> {
        if subnet.addr() != subnet.network() {
            return Err(format!("subnet {subnet} has host bits set: write {}", subnet.trunc()));
        }
        if subnet.prefix_len() + 2 > subnet.max_prefix_len() {
            return Err(format!(
                "subnet {subnet} is too small to allocate from: the longest prefix is /{}",
                subnet.max_prefix_len() - 2
            ));
        }
        let first = step(subnet.network(), 1);
        let last = match subnet {
            IpNet::V4(_) => from_number(subnet.broadcast(), number(subnet.broadcast()) - 1),
            IpNet::V6(_) => subnet.broadcast(),
        };
        for (name, end) in [("rangeStart", start), ("rangeEnd", end)] {
            if let Some(end) = end
                && !subnet.contains(&end)
            {
                return Err(format!("{name} {end} is not in subnet {subnet}"));
            }
        }
        if let Some(gateway) = gateway
            && gateway.is_ipv4() != subnet.addr().is_ipv4()
        {
            return Err(format!(
                "gateway {gateway} is not of the address family of subnet {subnet}"
            ));
        }
        let (start, end) = (start.unwrap_or(first), end.unwrap_or(last));
        if start > end {
            return Err(format!(
                "the range of subnet {subnet} is reversed: rangeStart {start} is after rangeEnd {end}"
            ));
        }
        Ok(Self { subnet, start, end, gateway: gateway.unwrap_or(first) })
    }

    /// Whether the address is one of the range's.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }

    /// Whether an address is in both ranges.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4()
            && self.start <= other.end
            && other.start <= self.end
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{} of subnet {}", self.start, self.end, self.subnet)
    }
}

/// Ranges of one address family that are used like one: an attachment gets one address out of each set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// A set of these ranges.
    ///
    /// Errors: a sentence on what is wrong: no ranges, two address families, two ranges that overlap.
    pub fn new(ranges: Vec<Range>) -> Result<Self, String> {
        let Some(first) = ranges.first() else {
            return Err("it has no ranges".to_owned());
        };
        if let Some(other) = ranges.iter().find(|r| r.start.is_ipv4() != first.start.is_ipv4()) {
            return Err(format!(
                "it mixes address families ({} and {}): give each family a set of its own",
                first.subnet, other.subnet
            ));
        }
        for (i, a) in ranges.iter().enumerate() {
            if let Some(b) = ranges[i + 1..].iter().find(|b| a.overlaps(b)) {
                return Err(format!("its ranges {a} and {b} overlap"));
            }
        }
        Ok(Self(ranges))
    }

    /// Its ranges; at least one.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Whether its addresses are IPv4 ones.
    pub fn is_ipv4(&self) -> bool {
        self.0[0].start.is_ipv4()
    }

    /// The range that an address is in.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// One of its addresses as a result has it.
    pub fn ip_config(&self, address: IpAddr) -> IpConfig {
        let range = self.range_of(address).unwrap_or(&self.0[0]);
        let address = IpNet::new(address, range.subnet.prefix_len())
            .expect("an address of a subnet takes the prefix length of that subnet");
        IpConfig { address, gateway: Some(range.gateway), interface: None }
    }

    /// A range of this set and one of the other that overlap.
    pub fn overlap<'a>(&'a self, other: &'a Self) -> Option<(&'a Range, &'a Range)> {
        self.0.iter().find_map(|a| other.0.iter().find(|b| a.overlaps(b)).map(|b| (a, b)))
    }

    /// Whether an address is a gateway of one of its ranges.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.gateway == address)
    }

    /// Each address that may be given out, once, in the order in which they are tried: round-robin from the one after
    /// `last`, so that an address is used again as late as possible.
    pub fn addresses_after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + '_ {
        let start = last.and_then(|last| {
            let index = self.0.iter().position(|range| range.contains(last))?;
            Some((index, number(last)))
        });
        // The tail of the range after `last`, the other ranges, the head of the range up to `last`.
        let (first, last) = start.map_or((0, None), |(index, last)| (index, Some(last)));
        let tail = self.0[first].span(last, None).skip(usize::from(last.is_some()));
        let others = (1..self.0.len())
            .flat_map(move |k| self.0[(first + k) % self.0.len()].span(None, None));
        let head = last.into_iter().flat_map(move |last| self.0[first].span(None, Some(last)));
        tail.chain(others).chain(head).filter(|address| !self.is_gateway(*address))
    }
}

impl Range {
    /// The addresses between two numbers, or from its first and to its last.
    fn span(&self, from: Option<u128>, to: Option<u128>) -> impl Iterator<Item = IpAddr> + use<> {
        let family = self.start;
        let (from, to) =
            (from.unwrap_or_else(|| number(self.start)), to.unwrap_or_else(|| number(self.end)));
        (from..=to).map(move |n| from_number(family, n))
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{range}")?;
        }
        Ok(())
    }
}

/// The address as a number.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address of a number, in the family of `family`.
fn from_number(family: IpAddr, n: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(u32::try_from(n).unwrap_or(u32::MAX).into()),
        IpAddr::V6(_) => IpAddr::V6(n.into()),
    }
}

fn step(address: IpAddr, by: u128) -> IpAddr {
    from_number(address, number(address).saturating_add(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(subnet: &str, start: &str, end: &str) -> Result<Range, String> {
        let parse = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        Range::new(subnet.parse().unwrap(), parse(start), parse(end), None)
    }

    #[test]
    fn ends_and_gateway_default_to_what_the_subnet_has() {
        let v4 = range("10.1.0.0/24", "", "").unwrap();
        assert_eq!(v4.to_string(), "10.1.0.1-10.1.0.254 of subnet 10.1.0.0/24");
        assert_eq!(v4.gateway.to_string(), "10.1.0.1");
        let v6 = range("fd00::/120", "", "").unwrap();
        assert_eq!(v6.to_string(), "fd00::1-fd00::ff of subnet fd00::/120");
    }

    #[test]
    fn errors_name_the_range_and_the_way_out() {
        for (subnet, start, end, expected) in [
            ("10.1.0.7/24", "", "", "subnet 10.1.0.7/24 has host bits set: write 10.1.0.0/24"),
            (
                "10.1.0.0/31",
                "",
                "",
                "subnet 10.1.0.0/31 is too small to allocate from: the longest prefix is /30",
            ),
            (
                "fd00::/127",
                "",
                "",
                "subnet fd00::/127 is too small to allocate from: the longest prefix is /126",
            ),
            ("10.1.0.0/24", "10.2.0.1", "", "rangeStart 10.2.0.1 is not in subnet 10.1.0.0/24"),
            ("10.1.0.0/24", "", "fd00::1", "rangeEnd fd00::1 is not in subnet 10.1.0.0/24"),
            (
                "10.1.0.0/24",
                "10.1.0.9",
                "10.1.0.5",
                "the range of subnet 10.1.0.0/24 is reversed: rangeStart 10.1.0.9 is after rangeEnd 10.1.0.5",
            ),
        ] {
            assert_eq!(range(subnet, start, end).unwrap_err(), expected);
        }
        let one = range("10.1.0.0/24", "", "").unwrap();
        let two = range("10.1.0.0/16", "10.1.0.200", "10.1.1.5").unwrap();
        assert_eq!(
            RangeSet::new(vec![one.clone(), two]).unwrap_err(),
            "its ranges 10.1.0.1-10.1.0.254 of subnet 10.1.0.0/24 and 10.1.0.200-10.1.1.5 of subnet 10.1.0.0/16 overlap"
        );
        let v6 = range("fd00::/64", "", "").unwrap();
        assert!(RangeSet::new(vec![one, v6]).unwrap_err().starts_with("it mixes address families"));
        assert_eq!(RangeSet::new(vec![]).unwrap_err(), "it has no ranges");
    }

    #[test]
    fn addresses_go_round_from_the_last_one_and_skip_gateways() {
        let set = RangeSet::new(vec![
            range("10.1.0.0/29", "", "").unwrap(),
            range("10.2.0.0/30", "", "").unwrap(),
        ])
        .unwrap();
        let after = |last: Option<&str>| {
            set.addresses_after(last.map(|a| a.parse().unwrap()))
                .map(|a| a.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            after(None),
            ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.2.0.2"]
        );
        assert_eq!(
            after(Some("10.1.0.4")),
            ["10.1.0.5", "10.1.0.6", "10.2.0.2", "10.1.0.2", "10.1.0.3", "10.1.0.4"]
        );
        assert_eq!(after(Some("10.2.0.2")).first().unwrap(), "10.1.0.2");
        assert_eq!(after(Some("192.0.2.1")), after(None), "an address of no range starts anew");
    }

    #[test]
    fn a_range_to_the_end_of_the_address_space_ends() {
        let set = RangeSet::new(vec![
            range("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", "", "").unwrap(),
        ])
        .unwrap();
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(set.addresses_after(Some(last)).count(), 2);
    }
}
