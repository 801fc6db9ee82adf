//! DEL of a pod of whose networks one's own record is lost: the pod's record says that there is something, and nothing of it is
//! forgotten, however often DEL fails.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;

use serde_json::{Value, json};
use testnode::conf::{bridge, host_local};
use testnode::{Call, Container, Node, Plugins, Scripts, Shared, links};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// A network with a bridge of its own.
fn network(name: &str, subnet: &str) -> Value {
    let mut plugin = bridge(&format!("{name}0"), &[]);
    plugin["cniVersion"] = json!("1.0.0");
    plugin["name"] = json!(name);
    plugin["ipMasq"] = json!(true);
    plugin["ipam"] = host_local(&[subnet]);
    plugin
}

struct Pod<'n> {
    node: &'n Node,
    plugins: Plugins<'n>,
    conf: Value,
    container: Container,
}

impl<'n> Pod<'n> {
    fn new(node: &'n Node, scripts: &Scripts<'_>, networks: &[Value]) -> Self {
        let bin = links(node, CATENA, &["catena"]);
        let conf = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "catena", "delegates": networks });
        let plugins = Plugins::new(node, [bin.as_path(), scripts.dir()]);
        Self { node, plugins, conf, container: node.container("c1") }
    }

    fn call(&self, verb: &str) -> Result<(), String> {
        let attachment = testnode::Attachment::new(&self.container);
        let output =
            self.plugins.call("catena", &Call::of(verb, &attachment), &self.conf.to_string());
        if output.code == 0 { Ok(()) } else { Err(output.error_text()) }
    }

    fn lose(&self, network: &str) {
        let dir = format!("/var/lib/catena/attachments/{network}");
        let mut records = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let record = records.find(|path| path.to_string_lossy().contains("c1@")).unwrap();
        fs::remove_file(record).unwrap();
    }

    /// DEL by a process that may change nothing in the kernel.
    fn del_without_right(&self) -> String {
        let command = "exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin catena";
        let bin = links(self.node, CATENA, &["catena"]);
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let run = self
            .node
            .cmd(["sh", "-c", command])
            .env("PATH", path)
            .env("CNI_COMMAND", "DEL")
            .env("CNI_CONTAINERID", testnode::Attachment::new(&self.container).container_id)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &bin)
            .env("CNI_NETNS", self.container.path());
        let output = run.stdin(self.conf.to_string()).output();
        assert!(!output.is_success(), "{output}");
        output.stdout
    }
}

fn shared() -> Shared {
    let networks = ["a", "b", "busy", "c", "pods"];
    let shared = networks.into_iter().fold(Shared::none(), Shared::catena);
    let shared = shared.directory("/var/lib/catena/pods");
    ["a0", "b0", "c0"].into_iter().fold(shared, Shared::device)
}

#[test]
fn a_del_that_failed_is_done_again_also_for_the_network_without_a_record() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.plugin(
        "busy",
        "case $CNI_COMMAND in ADD) printf '{\"cniVersion\":\"1.0.0\"}';;\n\
         DEL) [ ! -e /run/busy ] || { printf '{\"code\":99,\"msg\":\"try later\"}'; exit 1; };; esac",
    );
    let busy = json!({ "cniVersion": "1.0.0", "name": "busy", "type": "busy" });
    let networks = [network("a", "10.1.0.0/24"), busy, network("c", "10.3.0.0/24")];
    let pod = Pod::new(&node, &scripts, &networks);
    let before = node.snapshot();
    pod.call("ADD").unwrap();
    pod.lose("busy");
    node.write("/run/busy", "");
    let error = pod.call("DEL").unwrap_err();
    assert!(error.contains("busy") && error.contains("try later"), "{error}");
    let check = pod.call("CHECK").unwrap_err();
    assert!(check.contains("was not finished"), "{check}");
    fs::remove_file("/run/busy").unwrap();
    let calls = scripts.calls().len();
    pod.call("DEL").unwrap();
    assert_eq!(scripts.calls()[calls..], ["DEL busy"], "it is not taken to be done");
    testnode::assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_failure_of_the_network_without_a_record_is_not_the_end_of_the_others_records() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    let networks =
        [network("a", "10.1.0.0/24"), network("b", "10.2.0.0/24"), network("c", "10.3.0.0/24")];
    // The first network is deleted last, when the others have put off what they have to delete; and one in the middle.
    for lost in ["pods", "b"] {
        let pod = Pod::new(&node, &scripts, &networks);
        let before = node.snapshot();
        pod.call("ADD").unwrap();
        pod.lose(lost);
        pod.del_without_right();
        pod.call("DEL").unwrap();
        testnode::assert_same(&before, &node.snapshot(), &shared());
        pod.container.delete();
    }
}
