//! A bridge of the node's with a container on it and a server behind it.

use std::{fs, path::PathBuf};

use delegates::{dhcp::Socket, net::Mac};
use testnode::{Background, Container, Node, until};

use crate::pod::{PATIENCE, Pod};

/// Counts what the server hears and says, by how it is addressed.
const COUNTERS: &str = "
table ip seen {
    counter unicast {}
    counter broadcast {}
    counter answers_to_one {}
    counter answers_to_all {}
    chain heard {
        type filter hook input priority 0;
        udp dport 67 ip daddr 10.7.0.1 counter name unicast
        udp dport 67 ip daddr 255.255.255.255 counter name broadcast
    }
    chain said {
        type filter hook output priority 0;
        udp sport 67 ip daddr 10.7.0.0/24 counter name answers_to_one
        udp sport 67 ip daddr 255.255.255.255 counter name answers_to_all
    }
}
";

/// The network 10.7.0.0/24, of which dnsmasq leases 10.7.0.50 to 10.7.0.59.
pub struct Lan {
    pub server: Container,
    pub pod: Pod,
    dnsmasq: Background,
    leases: PathBuf,
}

impl Lan {
    /// A network whose server has these options besides.
    pub fn new(node: &Node, options: &[&str]) -> Self {
        let server = node.container("server");
        node.ip("link add br0 type bridge\nlink set br0 up\n\
             link add lan type veth peer name eth0 netns server\nlink set lan master br0 up\n");
        server.ip("link set lo up\naddr add 10.7.0.1/24 dev eth0\nlink set eth0 up\n");
        server.cmd(["nft", "-f", "-"]).stdin(COUNTERS).output().success();
        let leases = node.fresh_path("leases");
        let dnsmasq = server
            .cmd([
                "dnsmasq",
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
            ])
            .args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"])
            .args([
                "--dhcp-range=10.7.0.50,10.7.0.59,255.255.255.0,1h",
                "--log-dhcp",
                "--log-facility=-",
            ])
            .args([format!("--dhcp-leasefile={}", leases.display()), "--pid-file=".into()])
            .args(options)
            .spawn(node.fresh_path("dnsmasq.log"));
        until("dnsmasq serves", PATIENCE, || {
            dnsmasq.log().contains("DHCP, IP range").then_some(())
        });
        Self { server, pod: Pod::new(node, "br0"), dnsmasq, leases }
    }

    pub fn stop_server(&mut self) {
        self.dnsmasq.kill();
    }

    pub fn log(&self) -> String {
        self.dnsmasq.log()
    }

    /// The server's own list of leases.
    pub fn leases(&self) -> String {
        fs::read_to_string(&self.leases).unwrap()
    }

    pub fn server_mac(&self) -> Mac {
        self.server.enter(|| Socket::open("eth0").unwrap().mac())
    }

    /// How many packets a counter has seen.
    pub fn counter(&self, name: &str) -> u64 {
        let listed = self.server.json(["nft", "-j", "list", "counter", "ip", "seen", name]);
        let counter =
            listed["nftables"].as_array().unwrap().iter().find_map(|one| one.get("counter"));
        counter.unwrap()["packets"].as_u64().unwrap()
    }
}
