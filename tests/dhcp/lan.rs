//! A node on whose bridge a DHCP server is, and the daemon that gets leases there.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testnode::dhcp::{DhcpServer, Family, Pool, Program};
use testnode::{Background, Catena, Netns, Node, Run, links, until};

use crate::{CATENA, PATIENCE, REFERENCE, SOCKET};

/// The bridge `cni1` of a node, with a server on it.
pub struct Lan<'n> {
    pub node: &'n Node,
    pub server: DhcpServer<'n>,
}

/// A pool of IPv4 whose leases last some seconds.
pub fn short(lease: u32, times: [u32; 2]) -> Pool {
    Pool { lease, times, ..Pool::new(Family::V4) }
}

impl<'n> Lan<'n> {
    pub fn new(node: &'n Node) -> Self {
        Self::with(node, Program::Dnsmasq, Pool::new(Family::V4))
    }

    pub fn with(node: &'n Node, program: Program, pool: Pool) -> Self {
        Self { node, server: DhcpServer::start(node, program, pool) }
    }

    /// The server is on the node.
    pub fn on_the_node(node: &'n Node, program: Program, pool: Pool) -> Self {
        Self { node, server: DhcpServer::start_on_the_node(node, program, pool) }
    }

    pub fn catena(&self) -> Catena<'n> {
        Catena::new(self.node, CATENA)
    }

    /// The daemon of the reference plugins.
    pub fn reference(&self) -> Daemon {
        self.node.run(["mkdir", "-p", "/run/cni"]);
        Daemon::start(self.node, REFERENCE, &[])
    }

    /// Catena's.
    pub fn daemon(&self) -> Daemon {
        Daemon::catenas(self.node, &[])
    }

    /// Waits until the server has granted a lease of an address that often in all.
    #[track_caller]
    pub fn await_granted(&self, address: &str, often: usize) {
        until(&format!("{address} is granted {often} times"), PATIENCE, || {
            (self.server.granted(address) >= often).then_some(())
        });
    }

    /// Waits until a lease of an address was given back.
    #[track_caller]
    pub fn await_released(&self, address: &str) {
        until(&format!("{address} is given back"), PATIENCE, || {
            (self.server.released(address) > 0).then_some(())
        });
    }
}

/// `dhcp daemon`; killed on drop.
pub struct Daemon(Background);

impl Daemon {
    /// Catena's under the name dhcp, with further flags.
    pub fn catenas(node: &Node, flags: &[&str]) -> Self {
        Self::start(node, program(node), flags)
    }

    pub fn start(node: &Node, program: impl AsRef<Path>, flags: &[&str]) -> Self {
        Self::run(node, command(node, program, flags))
    }

    pub fn run(node: &Node, run: Run) -> Self {
        let mut daemon = Self(run.env("CATENA_LOG", "debug").spawn(node.fresh_path("dhcp.log")));
        until("the DHCP daemon listens", PATIENCE, || {
            daemon.0.assert_alive();
            std::os::unix::net::UnixStream::connect(SOCKET).ok()
        });
        daemon
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Waits until it has logged this.
    #[track_caller]
    pub fn await_log(&self, text: &str) {
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(text, PATIENCE, || self.log().contains(text).then_some(()));
        }));
        assert!(found.is_ok(), "no {text:?} in\n{}", self.log());
    }

    /// What it has open that leads into another network namespace: the namespace itself, or a socket that its own does not know.
    pub fn abroad(&self) -> Vec<PathBuf> {
        let process = PathBuf::from(format!("/proc/{}", self.pid()));
        let links = fs::read_dir(process.join("fd")).unwrap().flatten();
        let open: Vec<_> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
        let known = ["unix", "netlink", "packet", "udp", "tcp"]
            .map(|kind| fs::read_to_string(process.join("net").join(kind)).unwrap())
            .join("\n");
        let is_known = |inode: &str| known.split_whitespace().any(|word| word == inode);
        let is_abroad = |path: &PathBuf| {
            let path = path.to_string_lossy();
            let inode = path.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            inode.map_or(path.starts_with("net:") || path.contains("netns"), |inode| {
                !is_known(inode)
            })
        };
        open.into_iter().filter(is_abroad).collect()
    }
}

impl Deref for Daemon {
    type Target = Background;

    fn deref(&self) -> &Background {
        &self.0
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Background {
        &mut self.0
    }
}

/// Catena under the name dhcp.
pub fn program(node: &Node) -> PathBuf {
    links(node, CATENA, &["dhcp"]).join("dhcp")
}

pub fn command(node: &Node, program: impl AsRef<Path>, flags: &[&str]) -> Run {
    node.cmd([program.as_ref().as_os_str(), "daemon".as_ref()]).args(flags)
}

/// A bridge network with these members of `ipam` beside its type.
pub fn list_with(ipam: Value) -> Value {
    let mut conf = json!({ "type": "dhcp" });
    conf.as_object_mut().unwrap().extend(ipam.as_object().unwrap().clone());
    let bridge = json!({ "type": "bridge", "bridge": "cni1", "ipam": conf });
    json!({ "cniVersion": "1.1.0", "name": "leased", "plugins": [bridge] })
}

pub fn list() -> Value {
    list_with(json!({ "request": [{ "option": "121" }] }))
}

/// The address of a result, without its prefix length.
pub fn address(result: &Value) -> String {
    let text = result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("{result}"));
    text.split('/').next().unwrap().to_owned()
}

/// The IPv4 addresses of an interface, and the routes of its namespace.
pub fn state(container: &Netns, ifname: &str) -> (Vec<String>, String) {
    let shown = container.json(["ip", "-json", "-4", "addr", "show", ifname]);
    // Where it has none, nothing is shown.
    let all = shown[0]["addr_info"].as_array().into_iter().flatten();
    let addresses = all.map(|one| one["local"].as_str().unwrap().to_owned()).collect();
    (addresses, container.run(["ip", "-4", "route"]))
}

/// Waits until an interface has exactly this IPv4 address, or none.
#[track_caller]
pub fn await_address(container: &Netns, address: Option<&str>) {
    let wanted: Vec<_> = address.into_iter().map(str::to_owned).collect();
    until(&format!("the address is {address:?}"), PATIENCE, || {
        (state(container, "eth0").0 == wanted).then_some(())
    });
}
