//! With a daemon on the node calls are served by it, and without one, or with one that fails, they are served as well.
#![allow(clippy::unwrap_used, reason = "test code")]

mod ends;
mod hangs;
mod limits;
mod served;
mod strangers;

use std::{path::PathBuf, time::Duration};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testnode::conf::{bridge, portmap};
use testnode::{Background, Netns, Node, PluginOutput, Run, Scripts, Shared, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// How long a test waits for what has to come.
const SOON: Duration = Duration::from_secs(30);

/// A daemon on the node.
struct Daemon<'n> {
    node: &'n Node,
    process: Background,
}

impl<'n> Daemon<'n> {
    fn start(node: &'n Node) -> Self {
        Self::with(node, &[])
    }

    fn with(node: &'n Node, args: &[&str]) -> Self {
        let process = node
            .cmd([CATENA, "daemon", "--metrics-address", "127.0.0.1:9464"])
            .args(args)
            .env("CATENA_LOG", "debug")
            .spawn(node.fresh_path("daemon.log"));
        let mut daemon = Self { node, process };
        until("the daemon is ready", SOON, || {
            daemon.process.assert_alive();
            daemon.page("readyz").filter(|page| page == "ok\n")
        });
        daemon
    }

    fn page(&self, name: &str) -> Option<String> {
        let url = format!("http://127.0.0.1:9464/{name}");
        let page = self.node.try_run(["curl", "--silent", "--noproxy", "*", &url]);
        page.is_success().then_some(page.stdout)
    }

    /// The number of this line of the metrics; 0 where there is none.
    fn metric(&self, line: &str) -> u64 {
        let page = self.page("metrics").unwrap();
        let value = page.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// How many calls of a verb were answered with this code.
    fn served(&self, verb: &str, code: u32) -> u64 {
        self.metric(&format!("catena_requests_total{{verb=\"{verb}\",code=\"{code}\"}}"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.pid().cast_signed()), signal).unwrap();
    }
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
