//! A bridge of the node's with a container on it and a server behind it.

use std::{fs, future::Future, net::Ipv4Addr, path::PathBuf, time::Duration};

use delegates::{
    dhcp::{Client, Failure, Lease, Link, Socket, Timing, client_id, options, v4},
    net::Mac,
};
use testnode::{Background, Container, Node, until};
use tokio::runtime::Runtime;

/// How long a process or a packet may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

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
    container: Option<Container>,
    dnsmasq: Background,
    leases: PathBuf,
    client: Client,
    runtime: Runtime,
}

impl Lan {
    /// A network whose server has these options besides.
    pub fn new(node: &Node, options: &[&str]) -> Self {
        let (server, container) = (node.container("server"), node.container("pod"));
        node.ip("link add br0 type bridge\nlink set br0 up\n\
             link add lan0 type veth peer name eth0 netns server\nlink set lan0 master br0 up\n\
             link add lan1 type veth peer name eth0 netns pod\nlink set lan1 master br0 up\n");
        server.ip("link set lo up\naddr add 10.7.0.1/24 dev eth0\nlink set eth0 up\n");
        container.ip("link set eth0 up\n");
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mac = container.enter(|| Socket::open("eth0").unwrap().mac());
        let client = Client {
            mac,
            client_id: client_id("pod", "net", "eth0"),
            requests: options::requests(&[]).unwrap(),
            provides: vec![(12, b"web-0".to_vec())],
            broadcast: false,
        };
        Self { server, container: Some(container), dnsmasq, leases, client, runtime }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    pub fn container(&self) -> &Container {
        self.container.as_ref().unwrap()
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// Does something with a socket on the container's interface.
    pub fn run<T>(&self, work: impl AsyncFnOnce(&Link) -> T) -> T {
        let socket = self.container().enter(|| Socket::open("eth0").unwrap());
        self.block_on(async { work(&Link::new(socket).unwrap()).await })
    }

    pub fn acquire(&self, wanted: Option<Ipv4Addr>) -> Result<Lease, Failure> {
        let timing = Timing::default();
        self.run(async |link| v4::acquire(link, &self.client, timing, wanted).await)
    }

    pub fn confirm(&self, lease: &Lease) -> Result<Lease, Failure> {
        let timing = Timing::default();
        self.run(async |link| v4::confirm(link, &self.client, lease, timing).await)
    }

    /// The container and its interface go.
    pub fn delete_container(&mut self) {
        self.container.take().unwrap().delete();
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
