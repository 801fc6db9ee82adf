//! A cluster of one node, with kube-proxy, and pods of the network that the daemon writes.

use std::net::IpAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use testnode::kubernetes::{Client, kube_proxy, nodes};
use testnode::{
    Background, HttpServer, Neighbour, Netns, Network, Node, NodeDaemon, PLUGINS, Pod, http_get,
    links, until, url,
};

use crate::objects::{NODE, Service};
use crate::{CATENA, PATIENCE};

/// The pods' addresses: the cluster's, and the node's part of them.
pub const CLUSTER: &str = "10.1.0.0/16,fd10::/48";
pub const PART: [&str; 2] = ["10.1.1.0/24", "fd10:0:0:1::/64"];

/// The Services' addresses.
pub const SERVICES: &str = "10.96.0.0/16,fd00:96::/108";

/// The node's interface towards the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    /// As the daemon writes it.
    PointToPoint,
    /// The same conflist with a bridge in its place.
    OnABridge,
}

pub struct Cluster<'n> {
    pub node: &'n Node,
    /// A host that routes through the node.
    pub outside: Neighbour,
    pub api: Client,
    kubeconfig: PathBuf,
}

impl<'n> Cluster<'n> {
    /// The node joins the cluster of this API server.
    pub fn join(node: &'n Node, kubeconfig: PathBuf) -> Self {
        let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
        // What the node sends to Services needs a route before it is translated.
        node.ip(&format!(
            "route add default via {}\nroute add default via {}\n",
            outside.v4(),
            outside.v6()
        ));
        let api = Client::of_kubeconfig(&kubeconfig);
        let spec = json!({ "podCIDR": PART[0], "podCIDRs": PART });
        api.create(&nodes(), &json!({ "metadata": { "name": NODE }, "spec": spec }));
        let addresses = [outside.node_v4(), outside.node_v6()]
            .map(|address| json!({ "type": "InternalIP", "address": address.to_string() }));
        let status = json!({ "status": { "addresses": addresses } });
        api.patch(&format!("{}/{NODE}/status", nodes()), &status);
        Self { node, outside, api, kubeconfig }
    }

    /// Takes away all that a kube-proxy has left.
    pub fn clean_up_after_kube_proxy(&self) {
        let argv = kube_proxy(NODE, &self.kubeconfig, "iptables", CLUSTER);
        self.node.cmd(argv).args(["--cleanup"]).output().success();
    }

    /// kube-proxy on the node, in a mode that `--proxy-mode` knows; its rules are there when this returns.
    pub fn kube_proxy(&self, mode: &str) -> Background {
        let argv = kube_proxy(NODE, &self.kubeconfig, mode, CLUSTER);
        let mut proxy = self.node.cmd(argv).spawn(self.node.fresh_path("kube-proxy.log"));
        until("kube-proxy has made its rules", PATIENCE, || {
            proxy.assert_alive();
            let has_rules = |tool: &&str| {
                let rules = self.node.try_run([tool, "--list-rules", "FORWARD"]);
                rules.stdout.contains("-j KUBE-FORWARD")
            };
            ["iptables", "ip6tables"].iter().all(has_rules).then_some(())
        });
        proxy
    }

    /// The daemon, and the network that it gives the node's pods.
    pub fn daemon(&self, pods: Pods) -> (NodeDaemon<'n>, Network<'n>) {
        let dir = self.node.dir("net.d").display().to_string();
        let kubeconfig = self.kubeconfig.display().to_string();
        let args = ["--node-name", NODE, "--kubeconfig", &kubeconfig, "--pod-network"];
        let bin = links(self.node, CATENA, &PLUGINS).display().to_string();
        let args = args.into_iter().chain(["--bin-dir", &bin, "--conf-dir", &dir]);
        let args = args.chain(["--service-cidr", SERVICES]);
        let run = self.node.cmd([CATENA, "daemon"]).args(args);
        let daemon = NodeDaemon::begin(self.node, run);
        let file = PathBuf::from(dir).join("10-catena.conflist");
        let text = until("the runtime's configuration is there", PATIENCE, || {
            std::fs::read_to_string(&file).ok()
        });
        let mut conflist: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(conflist["plugins"][0]["type"], "ptp");
        if pods == Pods::OnABridge {
            let interface = &mut conflist["plugins"][0];
            interface["type"] = json!("bridge");
            interface["bridge"] = json!("pods");
            interface["isGateway"] = json!(true);
            interface["hairpinMode"] = json!(true);
        }
        (daemon, Network::of_conflist(self.node, CATENA, conflist))
    }

    /// A pod that serves its name on port 80.
    pub fn web<'p>(&self, network: &'p Network<'_>, name: &str) -> Web<'p> {
        Web::start(network.pod(name))
    }

    /// The same, with ports of the node that lead there.
    pub fn web_at<'p>(&self, network: &'p Network<'_>, name: &str, ports: &[u16]) -> Web<'p> {
        let mapping = |port| json!({ "hostPort": port, "containerPort": 80, "protocol": "tcp" });
        let mappings: Vec<_> = ports.iter().map(mapping).collect();
        Web::start(network.pod_with(name, &json!({ "portMappings": mappings })))
    }

    /// A Service, and the pods behind it.
    pub fn serve(&self, service: &Service<'_>, pods: &[&Web<'_>]) {
        let addresses: Vec<_> = pods.iter().map(|web| [web.pod.v4(), web.pod.v6()]).collect();
        service.create(&self.api, &addresses);
    }

    /// The node's addresses towards the outside.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.outside.node_v4(), self.outside.node_v6()]
    }
}

/// A pod that serves its name on port 80.
pub struct Web<'n> {
    pub pod: Pod<'n>,
    _server: HttpServer,
}

impl<'n> Web<'n> {
    fn start(pod: Pod<'n>) -> Self {
        let server = HttpServer::start(&pod, 80, pod.name());
        Self { pod, _server: server }
    }

    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.pod.v4(), self.pod.v6()]
    }
}

/// Fetches a page that is served by now, or will be soon; the client's address as the server saw it.
#[track_caller]
pub fn fetch(from: &Netns, address: IpAddr, port: u16, expected: &str) -> IpAddr {
    let what = format!("{} gets {expected} at {address} port {port}", from.name());
    let page = until(&what, PATIENCE, || http_get(from, &url(address, port)).ok());
    assert_eq!(page.text, expected, "{what}");
    page.from.ip()
}

/// Nobody answers.
#[track_caller]
pub fn assert_closed(from: &Netns, address: IpAddr, port: u16) {
    let page = http_get(from, &url(address, port));
    assert!(page.is_err(), "{} got {page:?} at {address} port {port}", from.name());
}

/// A client is told that nobody serves.
#[track_caller]
pub fn assert_refused(from: &Netns, address: IpAddr, port: u16) {
    let what = format!("{} is refused at {address} port {port}", from.name());
    until(&what, PATIENCE, || {
        let error = http_get(from, &url(address, port)).unwrap_err().to_string();
        error.contains("exit status: 7").then_some(())
    });
}
