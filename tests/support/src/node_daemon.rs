//! `catena daemon` on a node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::exec::{Background, Run};
use crate::node::Node;
use crate::wait::{until, within};

const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon on a node; killed on drop.
#[derive(Debug)]
pub struct NodeDaemon<'n> {
    node: &'n Node,
    run_dir: PathBuf,
    /// Its process.
    pub process: Background,
}

impl<'n> NodeDaemon<'n> {
    /// `<binary> daemon <args>`; it is ready when this returns.
    #[track_caller]
    pub fn start(node: &'n Node, binary: impl AsRef<Path>, args: &[&str]) -> Self {
        let run = node.cmd([binary.as_ref().as_os_str(), "daemon".as_ref()]).args(args);
        let mut daemon = Self::begin(node, run);
        until("the daemon is ready", PATIENCE, || {
            daemon.process.assert_alive();
            (daemon.page("readyz").as_deref() == Some("ok\n")).then_some(())
        });
        daemon
    }

    /// One beside it, whose sockets are in `run_dir`; it serves when this returns.
    #[track_caller]
    pub fn start_in(
        node: &'n Node,
        binary: impl AsRef<Path>,
        run_dir: &Path,
        args: &[&str],
    ) -> Self {
        let run = node.cmd([binary.as_ref().as_os_str(), "daemon".as_ref()]).args(args);
        let run = run.args(["--run-dir".as_ref(), run_dir.as_os_str()]);
        Self { run_dir: run_dir.to_owned(), ..Self::begin(node, run) }
    }

    /// The daemon that `run` is, whether it will be ready or not; its sockets are there when this returns.
    #[track_caller]
    pub fn begin(node: &'n Node, run: Run) -> Self {
        let process = run.env("CATENA_LOG", "debug").spawn(node.fresh_path("daemon.log"));
        let mut daemon = Self { node, run_dir: "/run/catena".into(), process };
        until("the daemon serves", PATIENCE, || {
            daemon.process.assert_alive();
            daemon.process.log().contains("serving").then_some(())
        });
        daemon
    }

    /// A page that it serves on its socket; `None` where nobody listens there.
    pub fn page(&self, name: &str) -> Option<String> {
        let socket = self.run_dir.join("health.sock").display().to_string();
        let url = format!("http://node/{name}");
        let curl = ["curl", "--silent", "--noproxy", "*", "--unix-socket", &socket, &url];
        let page = self.node.try_run(curl);
        page.is_success().then_some(page.stdout)
    }

    /// The number of a metric, named with its labels; 0 where there is none.
    #[track_caller]
    pub fn metric(&self, name: &str) -> u64 {
        let page = self.page("metrics").unwrap_or_else(|| panic!("no metrics: {self:?}"));
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap_or_else(|e| panic!("{name} {value}: {e}")))
    }

    /// Waits until a metric has this value.
    #[track_caller]
    pub fn await_metric(&self, name: &str, value: u64) {
        let reached = within(PATIENCE, || (self.metric(name) == value).then_some(()));
        assert!(reached.is_some(), "{name} is {}, not {value}", self.metric(name));
    }

    /// How many calls of a verb were answered with this code.
    pub fn served(&self, verb: &str, code: u32) -> u64 {
        self.metric(&format!("catena_requests_total{{verb=\"{verb}\",code=\"{code}\"}}"))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.pid().cast_signed());
        kill(pid, signal).unwrap_or_else(|e| panic!("{signal} to {pid}: {e}"));
    }
}
