//! A network with pods on it.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::Path;

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use crate::catena::Catena;
use crate::netns::Container;
use crate::node::Node;
use crate::plugins::Plugins;
use crate::runtime::{Attachment, Runtime};

/// The environment variable with other plugins for [`Network`].
const OTHER_PLUGINS: &str = "TESTNODE_PLUGINS";

/// A network that the binary under test runs (`catena add`, `catena del`), for tests of what
/// containers can then do.
///
/// With `TESTNODE_PLUGINS=/usr/lib/cni` in the environment the plugins of that directory run it
/// instead, as a runtime would: this shows whether a test asks for what the reference plugins do, too.
#[derive(Debug)]
pub struct Network<'n> {
    node: &'n Node,
    conflist: Value,
    driver: Driver<'n>,
}

#[derive(Debug)]
enum Driver<'n> {
    Tool(Catena<'n>),
    Plugins(Runtime<'n>),
}

impl<'n> Network<'n> {
    /// The network `name` with these plugins in its chain; `binary` is
    /// `env!("CARGO_BIN_EXE_catena")` of the calling test.
    pub fn new(node: &'n Node, binary: impl AsRef<Path>, name: &str, chain: &[Value]) -> Self {
        match env::var_os(OTHER_PLUGINS) {
            Some(dir) => Self::by_plugins(node, Plugins::new(node, [dir]), name, chain),
            None => {
                let driver = Driver::Tool(Catena::new(node, binary));
                Self { node, conflist: conflist(name, chain), driver }
            }
        }
    }

    /// The network of a conflist that somebody else has written.
    pub fn of_conflist(node: &'n Node, binary: impl AsRef<Path>, conflist: Value) -> Self {
        Self { node, conflist, driver: Driver::Tool(Catena::new(node, binary)) }
    }

    /// The network `name`, each plugin of its chain executed by itself.
    pub fn by_plugins(node: &'n Node, plugins: Plugins<'n>, name: &str, chain: &[Value]) -> Self {
        let conflist = conflist(name, chain);
        let driver = Driver::Plugins(Runtime::new(plugins, conflist.clone()));
        Self { node, conflist, driver }
    }

    /// A new container on the network, with nothing from the runtime.
    #[track_caller]
    pub fn pod(&self, name: &str) -> Pod<'_> {
        self.pod_with(name, &json!({}))
    }

    /// A new container on the network, with these capability arguments.
    #[track_caller]
    pub fn pod_with(&self, name: &str, capabilities: &Value) -> Pod<'_> {
        self.attach(self.node.container(name), capabilities)
    }

    /// Puts a container on the network.
    #[track_caller]
    pub fn attach(&self, container: Container, capabilities: &Value) -> Pod<'_> {
        let result = match &self.driver {
            Driver::Tool(catena) => {
                catena.clone().cap_args(capabilities).add(&self.conflist, &container)
            }
            Driver::Plugins(runtime) => runtime
                .add(&attachment(&container, capabilities))
                .unwrap_or_else(|failure| panic!("{failure}")),
        };
        Pod { network: self, container, capabilities: capabilities.clone(), result }
    }
}

/// A container on a [`Network`]; it stays there until [`del`](Self::del) or the node's end.
#[derive(Debug)]
pub struct Pod<'n> {
    network: &'n Network<'n>,
    container: Container,
    capabilities: Value,
    /// The result of ADD.
    pub result: Value,
}

impl Pod<'_> {
    /// Takes it off the network; its namespace stays.
    #[track_caller]
    pub fn del(&self) {
        match &self.network.driver {
            Driver::Tool(catena) => catena
                .clone()
                .cap_args(&self.capabilities)
                .del(&self.network.conflist, &self.container),
            Driver::Plugins(runtime) => runtime
                .del(&attachment(&self.container, &self.capabilities))
                .unwrap_or_else(|failure| panic!("{failure}")),
        }
    }

    /// Its (first) IPv4 address, as the result has it.
    #[track_caller]
    pub fn v4(&self) -> IpAddr {
        self.address(IpAddr::is_ipv4)
    }

    /// Its (first) IPv6 address, as the result has it.
    #[track_caller]
    pub fn v6(&self) -> IpAddr {
        self.address(IpAddr::is_ipv6)
    }

    /// The interface's name at the node's end, as the result has it.
    #[track_caller]
    pub fn host_ifname(&self) -> &str {
        let interfaces = self.result["interfaces"].as_array().into_iter().flatten();
        interfaces
            .filter(|interface| interface["sandbox"].as_str().unwrap_or_default().is_empty())
            .filter_map(|interface| interface["name"].as_str())
            .find(|name| name.starts_with("veth"))
            .unwrap_or_else(|| panic!("no veth in {}", self.result))
    }

    #[track_caller]
    fn address(&self, wanted: fn(&IpAddr) -> bool) -> IpAddr {
        let ips = self.result["ips"].as_array().into_iter().flatten();
        ips.filter_map(|ip| ip["address"].as_str()?.parse::<IpNet>().ok())
            .map(|net| net.addr())
            .find(wanted)
            .unwrap_or_else(|| panic!("no such address in {}", self.result))
    }
}

impl Deref for Pod<'_> {
    type Target = Container;

    fn deref(&self) -> &Container {
        &self.container
    }
}

fn conflist(name: &str, chain: &[Value]) -> Value {
    json!({ "cniVersion": "1.0.0", "name": name, "plugins": chain })
}

fn attachment(container: &Container, capabilities: &Value) -> Attachment {
    let capabilities: Map<String, Value> = capabilities.as_object().cloned().unwrap_or_default();
    capabilities.into_iter().fold(Attachment::new(container), |attachment, (name, value)| {
        attachment.capability(&name, value)
    })
}

/// The page at a port of an address: `http://192.0.2.1:80/`, `http://[2001:db8::1]:80/`.
pub fn url(address: IpAddr, port: u16) -> String {
    format!("http://{}/", SocketAddr::new(address, port))
}
