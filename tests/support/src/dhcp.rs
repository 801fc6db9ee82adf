//! Real DHCP servers from Debian's packages, each in a namespace of its own, or on the node itself.

mod programs;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::exec::Background;
use crate::netns::{Container, Netns};
use crate::node::Node;
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);

/// Which program serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// dnsmasq, of both families. Its leases last for two minutes at least.
    Dnsmasq,
    /// Kea's kea-dhcp4 and kea-dhcp6.
    Kea,
    /// ISC's dhcpd.
    Isc,
}

/// Which DHCP it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// DHCP of IPv4: addresses from 10.7.0.50 on, in 10.7.0.0/24.
    V4,
    /// DHCPv6: addresses from fd07::50 on, in fd07::/64.
    V6,
}

/// What it serves. The options are the same always: router 10.7.0.1, DNS server 10.7.0.2 or fd07::2, domain example.org,
/// an MTU of 1400, and the classless routes 10.9.0.0/16 by 10.7.0.3 and everything by 10.7.0.1.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// IPv4 or IPv6.
    pub family: Family,
    /// How many addresses there are, up to 200.
    pub addresses: u8,
    /// How long a lease lasts, in seconds.
    pub lease: u32,
    /// When it is to be renewed and when to be rebound, in seconds. dnsmasq's DHCPv6 takes its own times.
    pub times: [u32; 2],
    /// The length of the subnet's prefix that clients are told (IPv4 by dhcpd; the others say 24, as it is).
    pub prefix: u8,
    /// The last byte of the router that 10.9.0.0/16 is behind (IPv4; 10.7.0.3 as a rule).
    pub via: u8,
}

impl Pool {
    /// Ten addresses for an hour.
    pub fn new(family: Family) -> Self {
        Self { family, addresses: 10, lease: 3600, times: [1800, 3150], prefix: 24, via: 3 }
    }
}

/// A host `server` with addresses 10.7.0.1 and fd07::1 on the node's bridge `cni1`, and what serves there. Or the node
/// has these addresses, and serves.
#[derive(Debug)]
pub struct DhcpServer<'n> {
    node: &'n Node,
    /// `None` where that is the node.
    host: Option<Rc<Container>>,
    program: Program,
    pool: Pool,
    /// Where it keeps its leases.
    leases: PathBuf,
    running: Option<Background>,
    /// What programs that are stopped have logged.
    before: String,
}

impl<'n> DhcpServer<'n> {
    /// Makes bridge and host, and starts the program.
    pub fn start(node: &'n Node, program: Program, pool: Pool) -> Self {
        let host = node.container("server");
        without_dad(&host);
        node.ip("link add cni1 type bridge\nlink set cni1 up\n\
             link add lan type veth peer name eth0 netns server\nlink set lan master cni1 up\n");
        host.ip(
            "link set lo up\naddr add 10.7.0.1/24 dev eth0\naddr add fd07::1/64 dev eth0 nodad\n\
             link set eth0 up\n",
        );
        Self::on(node, Some(Rc::new(host)), program, pool)
    }

    /// Makes the bridge with the addresses, and starts the program on the node. The bridge has no hardware address of its
    /// own, but that of the container which came first, as long as that is there.
    pub fn start_on_the_node(node: &'n Node, program: Program, pool: Pool) -> Self {
        let neighbour = node.container("neighbour");
        without_dad(node);
        // Kea does not serve where there is no carrier yet.
        node.ip("link add cni1 type bridge\n\
             link add lan address fe:ff:ff:ff:ff:ff type veth peer name eth0 netns neighbour\n\
             link set lan master cni1 up\naddr add 10.7.0.1/24 dev cni1\n\
             addr add fd07::1/64 dev cni1 nodad\nlink set cni1 up\n");
        neighbour.ip("link set eth0 up\n");
        Self::on(node, None, program, pool)
    }

    /// Starts another program on the same host, which serves the other family.
    pub fn beside(&self, program: Program, pool: Pool) -> Self {
        Self::on(self.node, self.host.clone(), program, pool)
    }

    fn on(node: &'n Node, host: Option<Rc<Container>>, program: Program, pool: Pool) -> Self {
        let leases = node.fresh_path("leases");
        let mut server =
            Self { node, host, program, pool, leases, running: None, before: String::new() };
        server.resume();
        server
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Netns {
        self.host.as_ref().map_or(self.node, |host| host)
    }

    /// The interface that it serves on.
    fn interface(&self) -> &'static str {
        if self.host.is_some() { "eth0" } else { "cni1" }
    }

    /// Everything it has logged, from its first start on.
    pub fn log(&self) -> String {
        let now = self.running.as_ref().map(Background::log).unwrap_or_default();
        format!("{}{now}", self.before)
    }

    /// Kills it. Its leases stay on file.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
            self.before.push_str(&running.log());
        }
    }

    /// What it serves when it is started next.
    pub fn serve(&mut self, pool: Pool) {
        self.pool = pool;
    }

    /// Has it begin anew with a lease of `address` (IPv4) to another client, and none else.
    pub fn lease_to_another(&mut self, address: &str) {
        self.stop();
        self.leases = self.node.fresh_path("leases");
        self.node.write(&self.leases, &self.lease_of_another(address));
        self.resume();
    }

    /// Starts it again.
    pub fn resume(&mut self) {
        self.stop();
        let command = match self.program {
            Program::Dnsmasq => self.dnsmasq(),
            Program::Kea => self.kea(),
            Program::Isc => self.isc(),
        };
        let mut running = command.spawn(self.node.fresh_path("server.log"));
        let is_up = match (self.program, self.pool.family) {
            (Program::Dnsmasq, Family::V4) => "DHCP, IP range",
            (Program::Dnsmasq, Family::V6) => "DHCPv6, IP range",
            (Program::Kea, Family::V4) => "DHCP4_STARTED",
            (Program::Kea, Family::V6) => "DHCP6_STARTED",
            (Program::Isc, _) => "Server starting service",
        };
        until("the DHCP server serves", PATIENCE, || {
            running.assert_alive();
            running.log().contains(is_up).then_some(())
        });
        self.running = Some(running);
    }

    /// How often it has granted a lease of `address`, or prolonged it.
    pub fn granted(&self, address: &str) -> usize {
        self.said(
            match (self.program, self.pool.family) {
                (Program::Dnsmasq, Family::V4) => &["DHCPACK("],
                (Program::Dnsmasq, Family::V6) => &["DHCPREPLY("],
                (Program::Kea, Family::V4) => &["DHCP4_LEASE_ALLOC "],
                (Program::Kea, Family::V6) => &["DHCP6_LEASE_ALLOC ", "DHCP6_LEASE_RENEW "],
                (Program::Isc, Family::V4) => &["DHCPACK on "],
                (Program::Isc, Family::V6) => &["Reply NA: address "],
            },
            address,
        )
    }

    /// How many leases dnsmasq has on file; the others' files say how each came to its end as well.
    pub fn leased(&self) -> usize {
        self.clients().len()
    }

    /// The client identifiers of the leases that dnsmasq has on file (IPv4).
    pub fn clients(&self) -> Vec<String> {
        assert_eq!(self.program, Program::Dnsmasq);
        let leases = std::fs::read_to_string(&self.leases).unwrap_or_default();
        leases.lines().map(|line| line.rsplit(' ').next().unwrap_or_default().to_owned()).collect()
    }

    /// How often a lease of `address` was given back to it.
    pub fn released(&self, address: &str) -> usize {
        self.said(
            match (self.program, self.pool.family) {
                (Program::Dnsmasq, _) => &["DHCPRELEASE("],
                (Program::Kea, Family::V4) => &["DHCP4_RELEASE "],
                (Program::Kea, Family::V6) => &["DHCP6_RELEASE_NA "],
                (Program::Isc, Family::V4) => &["DHCPRELEASE of "],
                (Program::Isc, Family::V6) => &["Releasing address ", " releases address "],
            },
            address,
        )
    }

    /// How often it was told that another host has an address (IPv6). dnsmasq does not say which.
    pub fn declined(&self) -> usize {
        let event = match self.program {
            Program::Dnsmasq => "DHCPDECLINE(",
            Program::Kea => "DHCP6_DECLINE_LEASE ",
            Program::Isc => "is already in use by another host",
        };
        self.log().matches(event).count()
    }

    /// How often it has refused to go on with a lease of `address` (IPv4).
    pub fn refused(&self, address: &str) -> usize {
        self.said(
            match self.program {
                Program::Dnsmasq => &["DHCPNAK("],
                Program::Kea => &["DHCP4_PACKET_NAK_"],
                Program::Isc => &["DHCPNAK on "],
            },
            address,
        )
    }

    fn said(&self, events: &[&str], address: &str) -> usize {
        let names = |line: &str| {
            line.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':')))
                .any(|word| word.trim_end_matches(['.', ':']) == address)
        };
        let is_one = |line: &&str| events.iter().any(|event| line.contains(event)) && names(line);
        self.log().lines().filter(is_one).count()
    }
}

/// Kea does not wait for the kernel to be sure that nobody else has the host's addresses.
fn without_dad(host: &Netns) {
    host.set_sysctl("ipv6.conf.all.accept_dad", "0");
    host.set_sysctl("ipv6.conf.default.accept_dad", "0");
}

#[cfg(test)]
mod tests;
