//! With a daemon on the node calls are served by it, and without one, or with one that fails, they are served as well.
#![allow(clippy::unwrap_used, reason = "test code")]

mod ends;
mod hangs;
mod limits;
mod multus;
mod served;
mod strangers;

use std::{path::PathBuf, time::Duration};

use serde_json::{Value, json};
use testnode::conf::{bridge, portmap};
use testnode::{
    Container, Netns, Node, NodeDaemon, PluginOutput, Run, Scripts, Shared, Snapshot, assert_same,
    until,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// How long a test waits for what has to come.
const SOON: Duration = Duration::from_secs(30);

/// A daemon on the node.
fn start<'n>(node: &'n Node, args: &[&str]) -> NodeDaemon<'n> {
    NodeDaemon::start(node, CATENA, args)
}

/// The meta plugin with a chain of its own, as a runtime calls it.
struct Plugin<'n> {
    node: &'n Node,
    conf: Value,
    path: PathBuf,
}

impl<'n> Plugin<'n> {
    /// A chain of a bridge, ports, and these foreign plugins.
    fn new(node: &'n Node, scripts: &Scripts<'_>, foreign: &[&str]) -> Self {
        let mut plugins = vec![bridge("cni0", &["10.1.0.0/24"]), portmap()];
        plugins.extend(foreign.iter().map(|kind| json!({ "type": kind })));
        let conf = json!({
            "cniVersion": "1.1.0", "name": "web", "type": "catena", "plugins": plugins,
        });
        Self { node, conf, path: scripts.dir().to_owned() }
    }

    fn cmd(&self, verb: &str, container: &Netns) -> Run {
        self.cmd_by(&[CATENA], verb, container)
    }

    /// The call by another command line, which executes the plugin.
    fn cmd_by(&self, argv: &[&str], verb: &str, container: &Netns) -> Run {
        self.node
            .cmd(argv)
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container.name())
            .env("CNI_NETNS", container.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.path)
            .env("CATENA_LOG", "debug")
            .env("CATENA_DAEMON_TIMEOUT", "2")
            .stdin(self.conf.to_string())
    }

    #[track_caller]
    fn call(&self, verb: &str, container: &Netns) -> PluginOutput {
        self.cmd(verb, container).output().into()
    }

    #[track_caller]
    fn add(&self, container: &Netns) -> Value {
        self.call("ADD", container).result()
    }

    #[track_caller]
    fn del(&self, container: &Netns) {
        self.call("DEL", container).success();
    }
}

/// What a network leaves for the next container, and a daemon for the next one.
fn shared() -> Shared {
    Shared::none()
        .catena("web")
        .device("cni0")
        .file("/run/catena/catena.sock")
        .file("/run/catena/health.sock")
        .file("/run/catena/daemon.lock")
}

/// A node with a container, and a chain whose last plugin stays in its first ADD.
struct Gated<'n> {
    node: &'n Node,
    c1: Container,
    scripts: Scripts<'n>,
    gate: Gate,
    plugin: Plugin<'n>,
    before: Snapshot,
    inside: Snapshot,
}

impl<'n> Gated<'n> {
    fn new(node: &'n Node) -> Self {
        let c1 = node.container("c1");
        let scripts = Scripts::new(node);
        let gate = Gate::new(node, &scripts);
        let plugin = Plugin::new(node, &scripts, &["gate"]);
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        Self { node, c1, scripts, gate, plugin, before, inside }
    }

    /// Nothing of the chain is on the node or in the container.
    #[track_caller]
    fn assert_as_before(&self) {
        assert_same(&self.before, &self.node.snapshot(), &shared());
        assert_same(&self.inside, &Snapshot::of(&self.c1), &shared());
    }
}

/// A plugin that stays in its first ADD until it is let go.
struct Gate {
    begun: PathBuf,
    open: PathBuf,
}

impl Gate {
    fn new(node: &Node, scripts: &Scripts<'_>) -> Self {
        let (begun, open) = (node.fresh_path("begun"), node.fresh_path("open"));
        scripts.plugin(
            "gate",
            &format!(
                "if [ $CNI_COMMAND = ADD ]; then\n\
                 if mkdir {begun} 2>/dev/null; then while [ ! -e {open} ]; do sleep 0.01; done; fi\n\
                 printf %s \"$prev\"\nfi",
                begun = begun.display(),
                open = open.display()
            ),
        );
        Self { begun, open }
    }

    fn await_begun(&self) {
        until("the gate is reached", SOON, || self.begun.exists().then_some(()));
    }

    fn open(&self) {
        std::fs::write(&self.open, "").unwrap();
    }
}
