//! Real DHCP servers from Debian's packages, each in a namespace of its own.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::exec::{Background, Run};
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
}

impl Pool {
    /// Ten addresses for an hour.
    pub fn new(family: Family) -> Self {
        Self { family, addresses: 10, lease: 3600, times: [1800, 3150] }
    }
}

/// A host `server` with addresses 10.7.0.1 and fd07::1 on the node's bridge `cni1`, and what serves there.
#[derive(Debug)]
pub struct DhcpServer<'n> {
    node: &'n Node,
    host: Container,
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
        node.ip("link add cni1 type bridge\nlink set cni1 up\n\
             link add lan type veth peer name eth0 netns server\nlink set lan master cni1 up\n");
        host.ip(
            "link set lo up\naddr add 10.7.0.1/24 dev eth0\naddr add fd07::1/64 dev eth0 nodad\n\
             link set eth0 up\n",
        );
        let leases = node.fresh_path("leases");
        let mut server =
            Self { node, host, program, pool, leases, running: None, before: String::new() };
        server.resume();
        server
    }

    /// The host that it runs on.
    pub fn host(&self) -> &Netns {
        &self.host
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

    /// Has it begin without a lease when it is started next.
    pub fn forget(&mut self) {
        self.leases = self.node.fresh_path("leases");
    }

    /// What it serves when it is started next.
    pub fn serve(&mut self, pool: Pool) {
        self.pool = pool;
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
                (Program::Dnsmasq, Family::V4) => &["DHCPACK(eth0) "],
                (Program::Dnsmasq, Family::V6) => &["DHCPREPLY(eth0) "],
                (Program::Kea, Family::V4) => &["DHCP4_LEASE_ALLOC "],
                (Program::Kea, Family::V6) => &["DHCP6_LEASE_ALLOC ", "DHCP6_LEASE_RENEW "],
                (Program::Isc, Family::V4) => &["DHCPACK on "],
                (Program::Isc, Family::V6) => &["Reply NA: address "],
            },
            address,
        )
    }

    /// How often a lease of `address` was given back to it.
    pub fn released(&self, address: &str) -> usize {
        self.said(
            match (self.program, self.pool.family) {
                (Program::Dnsmasq, _) => &["DHCPRELEASE(eth0) "],
                (Program::Kea, Family::V4) => &["DHCP4_RELEASE "],
                (Program::Kea, Family::V6) => &["DHCP6_RELEASE_NA "],
                (Program::Isc, Family::V4) => &["DHCPRELEASE of "],
                (Program::Isc, Family::V6) => &["Releasing address ", "Client releases address "],
            },
            address,
        )
    }

    /// How often it has refused to go on with a lease of `address` (IPv4).
    pub fn refused(&self, address: &str) -> usize {
        self.said(
            match self.program {
                Program::Dnsmasq => &["DHCPNAK(eth0) "],
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

    /// The first and the last address.
    fn range(&self) -> [String; 2] {
        [0, self.pool.addresses - 1].map(|n| match self.pool.family {
            Family::V4 => format!("10.7.0.{}", 50 + u16::from(n)),
            Family::V6 => format!("fd07::{:x}", 0x50 + u16::from(n)),
        })
    }

    fn dnsmasq(&self) -> Run {
        let ([first, last], Pool { lease, times: [renew, rebind], .. }) = (self.range(), self.pool);
        let [range, options] = match self.pool.family {
            Family::V4 => [
                format!("{first},{last},255.255.255.0,{lease}"),
                format!(
                    "3,10.7.0.1 6,10.7.0.2 15,example.org 26,1400 58,{renew} 59,{rebind} \
                     option:classless-static-route,10.9.0.0/16,10.7.0.3,0.0.0.0/0,10.7.0.1"
                ),
            ],
            Family::V6 => [
                format!("{first},{last},64,{lease}"),
                "option6:dns-server,[fd07::2] option6:domain-search,example.org".to_owned(),
            ],
        };
        self.host
            .cmd([
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
            ])
            .args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"])
            .args(["--log-dhcp", "--log-facility=-", "--pid-file=", "--dhcp-lease-max=1000"])
            .args([
                format!("--dhcp-leasefile={}", self.leases.display()),
                format!("--dhcp-range={range}"),
            ])
            .args(options.split(' ').map(|option| format!("--dhcp-option={option}")))
    }

    fn kea(&self) -> Run {
        let ([first, last], Pool { lease, times: [renew, rebind], .. }) = (self.range(), self.pool);
        let pools = json!([{ "pool": format!("{first}-{last}") }]);
        let option = |name: &str, data: &str| json!({ "name": name, "data": data });
        let leases = json!({ "type": "memfile", "name": self.leases, "lfc-interval": 0 });
        let log = |name: &str| {
            let output = json!([{ "output": "stdout", "flush": true }]);
            json!([{ "name": name, "severity": "DEBUG", "debuglevel": 50, "output_options": output }])
        };
        let conf: Value = match self.pool.family {
            Family::V4 => json!({ "Dhcp4": {
                "interfaces-config": { "interfaces": ["eth0"] }, "lease-database": leases, "authoritative": true,
                "valid-lifetime": lease, "renew-timer": renew, "rebind-timer": rebind, "loggers": log("kea-dhcp4"),
                "subnet4": [{ "subnet": "10.7.0.0/24", "pools": pools, "option-data": [
                    option("routers", "10.7.0.1"), option("domain-name-servers", "10.7.0.2"),
                    option("domain-name", "example.org"), option("interface-mtu", "1400"),
                    // 10.9.0.0/16 by 10.7.0.3, 0.0.0.0/0 by 10.7.0.1; this Kea knows the option by its number alone.
                    { "code": 121, "csv-format": false, "data": "100A090A070003000A070001" }] }] } }),
            Family::V6 => json!({ "Dhcp6": {
                "interfaces-config": { "interfaces": ["eth0"] }, "lease-database": leases,
                "server-id": { "type": "EN", "enterprise-id": 2495, "identifier": "0123456789", "persist": false },
                "valid-lifetime": lease, "preferred-lifetime": lease, "renew-timer": renew,
                "rebind-timer": rebind, "loggers": log("kea-dhcp6"),
                "subnet6": [{ "subnet": "fd07::/64", "interface": "eth0", "pools": pools, "option-data": [
                    option("dns-servers", "fd07::2"), option("domain-search", "example.org")] }] } }),
        };
        let program = match self.pool.family {
            Family::V4 => "kea-dhcp4",
            Family::V6 => "kea-dhcp6",
        };
        // It keeps a file about itself, and one of its process.
        let dir = self.node.fresh_path("kea");
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("making {}: {e}", dir.display()));
        std::fs::create_dir_all("/var/lib/kea")
            .unwrap_or_else(|e| panic!("making /var/lib/kea: {e}"));
        self.host
            .cmd([program, "-c"])
            .args([self.node.json_file("kea.json", &conf)])
            .env("KEA_PIDFILE_DIR", &dir)
            .env("KEA_LOCKFILE_DIR", &dir)
    }

    fn isc(&self) -> Run {
        let ([first, last], Pool { lease, times: [renew, rebind], .. }) = (self.range(), self.pool);
        let general = format!(
            "authoritative; ddns-update-style none; ping-check false; \
             default-lease-time {lease}; max-lease-time {lease}; min-lease-time {lease};\n"
        );
        let (flag, own) = match self.pool.family {
            Family::V4 => (
                "-4",
                format!(
                    "option classless code 121 = array of unsigned integer 8;\n\
                     option dhcp-renewal-time {renew}; option dhcp-rebinding-time {rebind};\n\
                     subnet 10.7.0.0 netmask 255.255.255.0 {{ range {first} {last}; option routers 10.7.0.1; \
                     option domain-name-servers 10.7.0.2; option domain-name \"example.org\"; option interface-mtu 1400; \
                     option classless 16,10,9,10,7,0,3,0,10,7,0,1; }}\n"
                ),
            ),
            Family::V6 => (
                "-6",
                format!(
                    "preferred-lifetime {lease}; option dhcp-renewal-time {renew}; option dhcp-rebinding-time {rebind};\n\
                     subnet6 fd07::/64 {{ range6 {first} {last}; option dhcp6.name-servers fd07::2; \
                     option dhcp6.domain-search \"example.org\"; }}\n"
                ),
            ),
        };
        let conf = self.node.fresh_path("dhcpd.conf");
        self.node.write(&conf, &format!("{general}{own}"));
        if !self.leases.exists() {
            self.node.write(&self.leases, "");
        }
        self.host
            .cmd(["dhcpd", flag, "-d", "-f", "-user", "root", "-group", "root", "--no-pid", "-cf"])
            .args([conf.as_os_str(), "-lf".as_ref(), self.leases.as_os_str(), "eth0".as_ref()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_client_is_served(program: Program) {
        let node = Node::new();
        let mut server = DhcpServer::start(&node, program, Pool::new(Family::V4));
        let client = node.container("client");
        node.ip("link add c0 type veth peer name eth0 netns client\nlink set c0 master cni1 up\n");
        client.ip("link set eth0 up\n");
        let script = node.fresh_path("told");
        node.write(
            &script,
            "#!/bin/sh\n[ $1 != bound ] || ip addr replace $ip/$mask dev eth0\n\
             echo \"$1 $ip $router $dns $domain $mtu $lease $staticroutes\"\n",
        );
        node.run(["chmod".as_ref(), "+x".as_ref(), script.as_os_str()]);
        let lease = || {
            client
                .cmd([
                    "busybox",
                    "udhcpc",
                    "-i",
                    "eth0",
                    "-f",
                    "-O",
                    "staticroutes",
                    "-O",
                    "mtu",
                    "-s",
                ])
                .args([&script])
                .spawn(node.fresh_path("client.log"))
        };
        let udhcpc = lease();
        let bound = until("it is bound", PATIENCE, || {
            let log = udhcpc.log();
            log.lines().find_map(|line| line.strip_prefix("bound ")).map(ToOwned::to_owned)
        });
        let (address, rest) = bound.split_once(' ').expect("an address");
        assert_eq!(
            rest,
            "10.7.0.1 10.7.0.2 example.org 1400 3600 10.9.0.0/16 10.7.0.3 0.0.0.0/0 10.7.0.1"
        );
        assert!(address.starts_with("10.7.0.5"), "{address}");
        assert_eq!(server.granted(address), 1, "{}", server.log());
        node.run(["kill", "-USR2", &udhcpc.pid().to_string()]);
        until("it is given back", PATIENCE, || (server.released(address) == 1).then_some(()));
        drop(udhcpc);
        server.resume();
        let _again = lease();
        until("it is granted again", PATIENCE, || (server.granted(address) == 2).then_some(()));
    }

    #[test]
    fn dnsmasq_serves() {
        a_client_is_served(Program::Dnsmasq);
    }

    #[test]
    fn kea_serves() {
        a_client_is_served(Program::Kea);
    }

    #[test]
    fn dhcpd_serves() {
        a_client_is_served(Program::Isc);
    }
}
