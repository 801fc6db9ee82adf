//! The three ways to run a network: by the tool, plugin by plugin, and behind the meta plugin.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testnode::conf::{port_and_rates, values};
use testnode::{
    Attachment, Catena, Container, HttpServer, Neighbour, Node, Others, PLUGINS, PluginOutput,
    Plugins, Runtime, Shared, Sink, Snapshot, assert_rate, assert_same, await_same, http_get,
    links, until, url,
};

use crate::CATENA;

/// Debian's package of the reference plugins.
pub const REFERENCE: &str = "/usr/lib/cni";
const CONF_DIR: &str = "/etc/cni/net.d";

/// Who runs a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `catena add` and so on.
    Tool,
    /// A runtime, which executes one plugin after the other.
    Runtime,
    /// A runtime that has `00-catena.conflist` from `catena install --write-conf`, with the network in a file after it.
    Meta,
}

/// A node with the other CNI software, a way out, and the network that is run.
pub struct Bench<'n> {
    pub node: &'n Node,
    pub others: &'n Others<'n>,
    pub uplink: Neighbour,
    pub list: Value,
    pub way: Way,
    /// The types that the plugins' folder has of Catena's.
    pub ours: Vec<&'static str>,
    /// The further keys of the meta plugin.
    pub settings: Value,
    /// What outlives a pod.
    pub shared: Shared,
}

impl<'n> Bench<'n> {
    /// `shared`: what of the software's outlives its pods.
    pub fn new(
        others: &'n Others<'n>,
        node: &'n Node,
        list: Value,
        way: Way,
        shared: Shared,
    ) -> Self {
        let uplink = node.uplink("uplink", "192.0.2.254/24", "2001:db8::254/64");
        let uplink = uplink.with_address("198.51.100.7/32").with_address("2001:db8:1::7/128");
        let shared = shared.catena(list["name"].as_str().unwrap()).catena("catena");
        let shared = shared.directory("/var/lib/catena/pods");
        Self {
            node,
            others,
            uplink,
            list,
            way,
            ours: PLUGINS.to_vec(),
            settings: json!({}),
            shared,
        }
    }

    /// The folders of plugins.
    fn path(&self) -> [PathBuf; 3] {
        let ours = links(self.node, CATENA, &self.ours);
        [ours, self.others.dir().to_owned(), Path::new(REFERENCE).to_owned()]
    }

    fn tool(&self) -> Catena<'n> {
        let path = self.path().map(|dir| dir.display().to_string()).join(":");
        Catena::new(self.node, CATENA).env("CNI_PATH", path).cap_args(&port_and_rates(8080))
    }

    /// The runtime, with what it finds in its folder.
    pub fn runtime(&self) -> Runtime<'n> {
        let list = match self.way {
            Way::Meta => self.installed(),
            _ => self.list.clone(),
        };
        Runtime::new(Plugins::new(self.node, self.path()), list)
    }

    /// Has Catena installed beside the network; the conflist for a runtime that speaks 1.1.0.
    fn installed(&self) -> Value {
        let file = format!("{CONF_DIR}/10-{}.conflist", self.list["name"].as_str().unwrap());
        self.node.write(&file, &self.list.to_string());
        let settings = self.node.json_file("settings.json", &self.settings);
        let bin_dir = self.node.fresh_path("bin");
        fs::create_dir_all(&bin_dir).unwrap();
        let words = ["install", "--write-conf", "--conf-dir", CONF_DIR, "--bin-dir"];
        let words =
            words.map(Path::new).into_iter().chain([&*bin_dir, Path::new("--settings"), &settings]);
        Catena::new(self.node, CATENA).cmd(words).output().success();
        // The runtime takes the first file.
        let mut files: Vec<_> = fs::read_dir(CONF_DIR)
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|p| p.is_file())
            .collect();
        files.sort();
        assert_eq!(files[0], Path::new(CONF_DIR).join("00-catena.conflist"), "{files:?}");
        let mut list: Value = serde_json::from_slice(&fs::read(&files[0]).unwrap()).unwrap();
        let maps = values(&self.list, "type").contains(&"portmap");
        assert_eq!(list["plugins"][0]["capabilities"]["portMappings"] == true, maps, "{list:#}");
        assert!(list["cniVersions"].as_array().unwrap().contains(&json!("1.1.0")), "{list:#}");
        list["cniVersion"] = json!("1.1.0");
        list
    }

    /// The version that the runtime speaks with the network.
    fn version(&self) -> &str {
        if self.way == Way::Meta { "1.1.0" } else { self.list["cniVersion"].as_str().unwrap() }
    }

    /// What the pod of this container is attached by.
    pub fn attachment(&self, container: &Container) -> Attachment {
        let capabilities = port_and_rates(8080);
        let capabilities = capabilities.as_object().unwrap().iter();
        capabilities.fold(Attachment::new(container), |attachment, (name, value)| {
            attachment.capability(name, value.clone())
        })
    }

    /// A pod lives, is looked after by every verb, and goes without a trace. `look` sees it while it lives.
    pub fn lives(&self, look: impl Fn(&Container, &Value)) {
        let c1 = self.node.container("c1");
        let runtime = self.runtime();
        let (before, inside) = (self.node.snapshot(), Snapshot::of(&c1));
        let attachment = self.attachment(&c1);
        let fine = |what: &str, done: Result<(), String>| {
            done.unwrap_or_else(|error| panic!("{:?}: {what}: {error}", self.way));
        };
        let by_runtime =
            |done: Result<(), testnode::PluginFailure>| done.map_err(|e| e.to_string());
        let tool = self.tool();
        // The runtime asks for no verb that the version does not have.
        let (checks, collects) = (self.version() >= "0.4.0", self.version() >= "1.1.0");
        if self.way == Way::Tool {
            tool.status(&self.list).success();
        } else if collects {
            fine("STATUS", by_runtime(runtime.status()));
        }
        let result = match self.way {
            Way::Tool => tool.add(&self.list, &c1),
            _ => runtime.add(&attachment).unwrap_or_else(|e| panic!("{:?}: {e}", self.way)),
        };
        let _server = HttpServer::start(&c1, 80, "page");
        self.serves(&c1);
        self.leaves_as_the_node(&c1, &result);
        self.is_shaped(&c1);
        look(&c1, &result);
        for gc in [false, true] {
            match self.way {
                Way::Tool if gc => drop(tool.gc(&self.list, &[]).success()),
                Way::Tool => {
                    let checked = PluginOutput::from(tool.try_check(&self.list, &c1));
                    assert_eq!(checked.code == 0, checks, "{checked}");
                }
                _ if gc && collects => {
                    fine("GC", by_runtime(runtime.gc(std::slice::from_ref(&attachment))));
                }
                _ if !gc && checks => fine("CHECK", by_runtime(runtime.check(&attachment))),
                _ => {}
            }
            self.serves(&c1);
        }
        for _ in 0..2 {
            match self.way {
                Way::Tool => tool.del(&self.list, &c1),
                _ => fine("DEL", by_runtime(runtime.del(&attachment))),
            }
        }
        assert_same(&before, &self.node.snapshot(), &self.shared);
        // The others switch forwarding off in a container, where it is off.
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none().forwarding());
    }

    /// A runtime that comes too late: the container is gone, and its path is not given any more.
    pub fn is_deleted_without_its_namespace(&self) {
        let c1 = self.node.container("c1");
        let runtime = self.runtime();
        let before = self.node.snapshot();
        let attachment = self.attachment(&c1);
        runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        c1.delete();
        runtime.del(&attachment.clone().without_netns()).unwrap_or_else(|e| panic!("{e}"));
        runtime.del(&attachment.without_netns()).unwrap_or_else(|e| panic!("{e}"));
        await_same(&before, self.node, &self.shared);
    }

    /// A chain that fails behind the other software's plugin takes back what that one has made.
    pub fn is_rolled_back(&self) {
        let [first, second] = ["first", "second"].map(|name| self.node.container(name));
        let tool = self.tool();
        // The first one takes the port.
        let bridge = testnode::conf::bridge("first0", &["10.90.0.0/24"]);
        tool.add(&testnode::conf::conflist("first", &[bridge, testnode::conf::portmap()]), &first);
        let (before, inside) = (self.node.snapshot(), Snapshot::of(&second));
        let failed = PluginOutput::from(tool.try_add(&self.list, &second));
        assert!(failed.error_text().contains("8080"), "{failed}");
        assert!(self.others.calls().iter().any(|call| call.starts_with("DEL")), "{failed}");
        assert_same(&before, &self.node.snapshot(), &self.shared);
        assert_same(&inside, &Snapshot::of(&second), &Shared::none().forwarding());
    }

    /// The page is reached from outside, from the node and from the container itself by the node's port.
    fn serves(&self, container: &Container) {
        let port = url(self.uplink.node_v4(), 8080);
        let localhost = url([127, 0, 0, 1].into(), 8080);
        for (client, url) in [
            (&*self.uplink, &port),
            (&**self.node, &port),
            (&**self.node, &localhost),
            (&**container, &port),
        ] {
            let page = http_get(client, url);
            let page =
                page.unwrap_or_else(|e| panic!("{:?}: {} {url}: {e}", self.way, client.name()));
            assert_eq!(page.text, "page");
        }
    }

    /// What the container sends out of the cluster comes from an address of the node.
    fn leaves_as_the_node(&self, container: &Container, result: &Value) {
        let outside = HttpServer::start(&self.uplink, 80, "outside");
        let has_v6 = result["ips"].to_string().contains("::");
        let far: [(IpAddr, IpAddr); 2] = [
            ([198, 51, 100, 7].into(), self.uplink.node_v4()),
            ("2001:db8:1::7".parse().unwrap(), self.uplink.node_v6()),
        ];
        for (address, node_at) in far.into_iter().filter(|(far, _)| far.is_ipv4() || has_v6) {
            // The router's address may be under duplicate address detection.
            let page = until(&format!("{address} answers"), Duration::from_secs(10), || {
                http_get(container, &url(address, 80)).ok()
            });
            assert_eq!(page.from.ip(), node_at, "{:?}", self.way);
        }
        drop(outside);
    }

    /// Both directions have a token bucket: at the node's end, and on the ifb or in the container.
    fn is_shaped(&self, container: &Container) {
        let host = self.host_end(container);
        let tbf = |netns: &testnode::Netns| {
            let qdiscs = netns.json(["tc", "-j", "qdisc"]);
            let qdiscs = qdiscs.as_array().unwrap().iter().filter(|qdisc| qdisc["kind"] == "tbf");
            qdiscs.map(|qdisc| qdisc["dev"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (on_node, in_container) = (tbf(self.node), tbf(container));
        assert!(on_node.contains(&host), "{host}: {on_node:?}");
        assert_eq!(on_node.len() + in_container.len(), 2, "{on_node:?} {in_container:?}");
    }

    /// The node's end of the container's interface, by the kernel.
    pub fn host_end(&self, container: &Container) -> String {
        let inside = container.json(["ip", "-j", "link", "show", "eth0"]);
        let links = self.node.json(["ip", "-j", "link"]);
        let index = &inside[0]["link_index"];
        let link = links.as_array().unwrap().iter().find(|link| link["ifindex"] == *index);
        link.unwrap()["ifname"].as_str().unwrap().to_owned()
    }

    /// The container sends and receives at the rates that it was given.
    pub fn runs_at_its_rates(&self) {
        const RATE: u64 = 20_000_000;
        const BURST: u64 = 800_000;
        let c1 = self.node.container("c1");
        let rates = json!({ "bandwidth": {
            "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST,
        }});
        let result = self.tool().cap_args(&rates).add(&self.list, &c1);
        let address =
            result["ips"].as_array().unwrap().iter().filter_map(|ip| ip["address"].as_str());
        let address = address.filter_map(|address| address.split('/').next()?.parse().ok());
        let pod: IpAddr = address.into_iter().find(IpAddr::is_ipv4).unwrap();
        let (inside, outside) = (Sink::start(&c1, 5001), Sink::start(&self.uplink, 5001));
        assert_rate(self.node, (pod, 5001).into(), &inside, RATE, BURST / 8);
        assert_rate(&c1, (self.uplink.v4(), 5001).into(), &outside, RATE, BURST / 8);
    }
}
