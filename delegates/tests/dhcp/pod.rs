//! A container on a bridge, with what a client needs.

use std::{
    future::{Future, ready},
    net::Ipv4Addr,
    time::Duration,
};

use delegates::dhcp::{
    Client, Extension, Failure, Lease, Link, Socket, Timing, client_id, options, v4, v6,
};
use testnode::{Container, Node};
use tokio::runtime::Runtime;

/// How long a process or a packet may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The first request for more time.
pub fn extension(to: v4::To) -> Extension {
    Extension { to, xid: 7, elapsed: Duration::ZERO, patience: PATIENCE }
}

/// The container `pod`, whose interface eth0 has no address.
pub struct Pod {
    container: Option<Container>,
    pub client: Client,
    runtime: Runtime,
}

impl Pod {
    pub fn new(node: &Node, bridge: &str) -> Self {
        let container = node.container("pod");
        node.ip(&format!(
            "link add pod0 type veth peer name eth0 netns pod\nlink set pod0 master {bridge} up\n"
        ));
        container.ip("link set eth0 up\n");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mac = container.enter(|| Socket::open("eth0").unwrap().mac());
        let client = Client {
            mac,
            client_id: client_id("pod", "net", "eth0"),
            requests: options::requests(&[]).unwrap(),
            provides: vec![(12, b"web-0".to_vec())],
            broadcast: false,
        };
        Self { container: Some(container), client, runtime }
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

    /// The same with one of IPv6.
    pub fn run_v6<T>(&self, work: impl AsyncFnOnce(&v6::Link) -> T) -> T {
        let socket = self.container().enter(|| v6::Socket::open("eth0").unwrap());
        self.block_on(async { work(&v6::Link::new(socket).await.unwrap()).await })
    }

    pub fn acquire(&self, wanted: Option<Ipv4Addr>) -> Result<Lease, Failure> {
        let timing = Timing::default();
        self.run(async |link| v4::acquire(link, &self.client, timing, wanted, |_| ready(())).await)
    }

    pub fn confirm(&self, lease: &Lease) -> Result<Lease, Failure> {
        let timing = Timing::default();
        self.run(async |link| v4::confirm(link, &self.client, lease, timing).await)
    }

    pub fn extend(&self, lease: &Lease, to: v4::To) -> Result<Lease, Failure> {
        self.run(async |link| v4::extend(link, &self.client, lease, extension(to)).await)
    }

    pub fn release(&self, lease: &Lease) {
        self.run(async |link| v4::release(link, &self.client, lease).await).unwrap();
    }

    /// The container and its interface go.
    pub fn delete_container(&mut self) {
        self.container.take().unwrap().delete();
    }
}
