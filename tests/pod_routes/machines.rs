//! Nodes of one cluster as network namespaces of one machine, joined by links, with a daemon in each and one real API server.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ipnet::IpNet;
use serde_json::{Value, json};
use testnode::kubernetes::{ApiServer, nodes};
use testnode::{Background, Container, Netns, Node, PLUGINS, Run, links, until};

use crate::{CATENA, PATIENCE};

/// Has the API server listen on all addresses.
pub const EVERYWHERE: &str = "--bind-address=0.0.0.0";

/// Where a machine's daemon may serve its metrics.
pub const METRICS: &str = "127.0.0.1:9464";

/// The wires between the nodes, and the API server at the end of each.
pub struct Wires<'n> {
    pub node: &'n Node,
    pub api: ApiServer<'n>,
    token: String,
}

/// A node of the cluster.
pub struct Machine<'w> {
    wires: &'w Wires<'w>,
    pub netns: Container,
    name: &'static str,
    link: u8,
    host: u8,
    /// Of pods of its network.
    addresses: Mutex<BTreeMap<String, [String; 2]>>,
}

impl<'n> Wires<'n> {
    /// Two links, 192.168.1.0/24 with fd01::/64 and 192.168.2.0/24 with fd02::/64, and a router between them.
    pub fn new(node: &'n Node) -> Self {
        Self::with(node, ApiServer::start_with(node, &[EVERYWHERE]))
    }

    /// The same with an API server that listens [`EVERYWHERE`].
    pub fn with(node: &'n Node, api: ApiServer<'n>) -> Self {
        for link in [1, 2] {
            node.ip(&format!(
                "link add lan{link} type bridge\naddr add 192.168.{link}.1/24 dev lan{link}\n\
                 addr add fd0{link}::1/64 dev lan{link} nodad\nlink set lan{link} up\n"
            ));
        }
        node.set_sysctl("ipv4.ip_forward", "1");
        node.set_sysctl("ipv6.conf.all.forwarding", "1");
        node.bridge_nf(false);
        let token = api.deploy(testnode::kubernetes::Rights::Network);
        Self { node, api, token }
    }

    /// A node on one of the links, not yet in the cluster.
    pub fn machine(&self, name: &'static str, link: u8, host: u8) -> Machine<'_> {
        let netns = self.node.container(name);
        self.node.ip(&format!(
            "link add name {name} type veth peer name eth0 netns {name}\nlink set dev {name} master lan{link} up\n"
        ));
        netns.set_sysctl("ipv4.ip_forward", "1");
        netns.set_sysctl("ipv6.conf.all.forwarding", "1");
        netns.ip(&format!(
            "link set lo up\naddr add 192.168.{link}.{host}/24 dev eth0\n\
             addr add fd0{link}::{host:x}/64 dev eth0 nodad\nlink set eth0 up\n\
             route add default via 192.168.{link}.1\nroute add default via fd0{link}::1\n"
        ));
        Machine { wires: self, netns, name, link, host, addresses: Mutex::default() }
    }
}

impl Machine<'_> {
    /// Joins the cluster: its Node, with these parts of the pods' addresses.
    pub fn join(&self, pod_cidrs: &[&str]) {
        let Self { link, host, .. } = self;
        let (v4, v6) = (format!("192.168.{link}.{host}"), format!("fd0{link}::{host:x}"));
        self.join_by(&[&v4, &v6], pod_cidrs);
    }

    /// The same, and its Node has only its IPv6 address.
    pub fn join_by_ipv6(&self, pod_cidrs: &[&str]) {
        self.join_by(&[&format!("fd0{}::{:x}", self.link, self.host)], pod_cidrs);
    }

    fn join_by(&self, internal: &[&str], pod_cidrs: &[&str]) {
        self.wires.api.add_node(self.name, pod_cidrs);
        self.tell_addresses(internal);
    }

    /// Has its Node tell these addresses of it, and no others.
    pub fn tell_addresses(&self, internal: &[&str]) {
        let mut addresses = vec![json!({ "type": "Hostname", "address": self.name })];
        let internal = internal.iter().map(|ip| json!({ "type": "InternalIP", "address": ip }));
        addresses.extend(internal);
        let status = json!({ "status": { "addresses": addresses } });
        self.wires.api.admin().patch(&format!("{}/{}/status", nodes(), self.name), &status);
    }

    /// The status of its Node's condition.
    pub fn condition(&self, kind: &str) -> Option<Value> {
        Some(self.whole_condition(kind)?["status"].clone())
    }

    /// The message of its Node's condition.
    pub fn message_of(&self, kind: &str) -> Option<String> {
        Some(self.whole_condition(kind)?["message"].as_str()?.to_owned())
    }

    fn whole_condition(&self, kind: &str) -> Option<Value> {
        let node = self.wires.api.admin().get(&format!("{}/{}", nodes(), self.name));
        let conditions = node["status"]["conditions"].as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind).cloned()
    }

    /// Has a condition set on its Node, as a cloud provider does it.
    pub fn set_condition(&self, kind: &str, status: &str) {
        let condition = json!({ "type": kind, "status": status, "reason": "NoRouteCreated" });
        let status = json!({ "status": { "conditions": [condition] } });
        self.wires.api.admin().patch(&format!("{}/{}/status", nodes(), self.name), &status);
    }

    /// Leaves the cluster.
    pub fn leave(&self) {
        self.wires.api.admin().delete(&format!("{}/{}", nodes(), self.name));
    }

    /// A new file that leads to the API server from it.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        let api = format!("192.168.{}.1:6443", self.link);
        let path = self.wires.api.kubeconfig_at(api.parse().unwrap(), token);
        let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["clusters"][0]["cluster"]["tls-server-name"] = json!("127.0.0.1");
        self.wires.node.json_file("kubeconfig", &config)
    }

    /// Its daemon, with these arguments; its runtime has all plugins.
    pub fn daemon(&self, args: &[&str]) -> Background {
        self.daemon_of(Path::new(CATENA), &links(self.wires.node, CATENA, &PLUGINS), args)
    }

    /// The daemon that `binary` is, for a runtime that finds its plugins in `bin_dir`.
    pub fn daemon_of(&self, binary: &Path, bin_dir: &Path, args: &[&str]) -> Background {
        self.daemon_by(self.cmd([binary.as_os_str(), "daemon".as_ref()]), bin_dir, args)
    }

    /// The daemon that `run` starts.
    pub fn daemon_by(&self, run: Run, bin_dir: &Path, args: &[&str]) -> Background {
        run.args(["--node-name", self.name, "--kubeconfig"])
            .args([self.kubeconfig(&self.wires.token)])
            .args(["--bin-dir".as_ref(), bin_dir.as_os_str()])
            .args(args)
            .spawn(self.wires.node.fresh_path(&format!("{}.log", self.name)))
    }

    /// Its daemon without a cluster, with these arguments.
    pub fn daemon_alone(&self, args: &[&str]) -> Background {
        let bin_dir = links(self.wires.node, CATENA, &PLUGINS);
        self.cmd([CATENA, "daemon", "--bin-dir"])
            .args([bin_dir])
            .args(args)
            .spawn(self.wires.node.fresh_path(&format!("{}.log", self.name)))
    }

    /// A number that its daemon tells of itself; it serves [`METRICS`].
    pub fn metric(&self, name: &str) -> Option<u64> {
        self.metric_at(METRICS, name)
    }

    /// The same of the daemon that serves its metrics there.
    pub fn metric_at(&self, address: &str, name: &str) -> Option<u64> {
        let url = format!("http://{address}/metrics");
        let page = self.netns.try_run(["curl", "--silent", "--noproxy", "*", &url]).stdout;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|number| number.parse().unwrap())
    }

    /// A command on it, with its own `/run/catena`, `/var/lib/catena` and `/var/lib/cni`.
    pub fn cmd<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Run {
        let dir = self.wires.node.dir(&format!("machine-{}", self.name));
        let alone = "for dir in run/catena var/lib/catena var/lib/cni; do \
                     mkdir -p /$dir \"$0/$dir\" && mount --bind \"$0/$dir\" /$dir || exit; done; exec \"$@\"";
        // Namespaces of pods that come later are seen, too.
        let shell =
            ["unshare", "--mount", "--propagation=slave", "sh", "-c", alone].map(OsString::from);
        let shell = shell.into_iter().chain([dir.into_os_string()]);
        self.netns.cmd(shell.chain(argv.into_iter().map(|arg| arg.as_ref().to_owned())))
    }

    /// Where its daemon writes the runtime's configuration.
    pub fn conf_dir(&self) -> String {
        self.wires.node.dir(&format!("net.d-{}", self.name)).display().to_string()
    }

    /// The pods' network, as the runtime finds it.
    pub fn conflist(&self) -> PathBuf {
        Path::new(&self.conf_dir()).join("10-catena.conflist")
    }

    /// A pod on it, attached by what its daemon has written for the runtime.
    pub fn pod_of_network(&self, name: &str) -> Netns {
        self.pod_that_asks(name, &json!({}))
    }

    /// The same for a pod that the runtime asks this for, by capabilities.
    pub fn pod_that_asks(&self, name: &str, capabilities: &Value) -> Netns {
        until("the runtime's configuration is there", PATIENCE, || {
            self.conflist().exists().then_some(())
        });
        self.wires.node.container(name);
        let pod = Netns::at(name, format!("/run/netns/{name}"));
        let add = self.cmd([CATENA, "add"]).args([self.conflist(), pod.path().into()]);
        let add = add.args(["--cap-args", &capabilities.to_string()]);
        let result = add.output().json();
        let ips = result["ips"].as_array().unwrap();
        let address = |ip: &Value| {
            let net: IpNet = ip["address"].as_str().unwrap().parse().unwrap();
            net.addr().to_string()
        };
        let [v4, v6] = ips.as_slice() else { panic!("{result}") };
        self.addresses.lock().unwrap().insert(name.to_owned(), [address(v4), address(v6)]);
        pod
    }

    /// The addresses of a pod of the network.
    pub fn addresses_of(&self, pod: &str) -> [String; 2] {
        self.addresses.lock().unwrap()[pod].clone()
    }

    /// A pod on it with the fifth addresses of its part (a /24 and a /64): attached by ptp, as a runtime on the node does.
    pub fn pod(&self, name: &str, [v4, v6]: [&str; 2]) -> Netns {
        let bin = links(self.wires.node, CATENA, &["ptp", "static"]);
        let (v4, v6) = (v4.strip_suffix("0/24").unwrap(), v6.strip_suffix("/64").unwrap());
        let all = json!([
            { "address": format!("{v4}5/24"), "gateway": format!("{v4}1") },
            { "address": format!("{v6}5/64"), "gateway": format!("{v6}1") },
        ]);
        let routes = json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]);
        let conf = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "ptp",
            "ipam": { "type": "static", "addresses": all, "routes": routes },
        });
        self.wires.node.container(name);
        let pod = Netns::at(name, format!("/run/netns/{name}"));
        self.netns
            .cmd([bin.join("ptp")])
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", name)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &bin)
            .env("CNI_NETNS", pod.path())
            .stdin(conf.to_string())
            .output()
            .success();
        pod
    }

    /// The device and next hop by which an address is reached.
    pub fn way(&self, to: &str) -> (String, Option<IpAddr>) {
        let route = self.netns.json(["ip", "-j", "route", "get", to]);
        let text = |key: &str| route[0][key].as_str().map(str::to_owned);
        (text("dev").unwrap(), text("gateway").map(|via| via.parse().unwrap()))
    }

    /// The routes that its daemon keeps.
    pub fn kept(&self) -> Vec<String> {
        let mut all = Vec::new();
        for family in ["-4", "-6"] {
            let routes = self.netns.json(["ip", "-j", family, "route", "show", "proto", "202"]);
            let routes = routes.as_array().cloned().unwrap_or_default();
            all.extend(routes.iter().map(|route| route["dst"].as_str().unwrap().to_owned()));
        }
        all
    }

    /// Waits until the kernel has tried all its addresses for duplicates: then nothing changes by itself.
    pub fn await_tried(&self) {
        until("addresses are tried", PATIENCE, || {
            (!self.netns.run(["ip", "-o", "addr"]).contains("tentative")).then_some(())
        });
    }

    /// Waits until the daemon keeps these routes and no others.
    #[track_caller]
    pub fn await_kept(&self, routes: &[&str]) {
        until(&format!("{} has routes to {routes:?}", self.name), PATIENCE, || {
            (self.kept() == routes).then_some(())
        });
    }
}
