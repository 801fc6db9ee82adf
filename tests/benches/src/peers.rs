//! Who is measured, each on a node of its own.

use std::{
    env,
    path::{Path, PathBuf},
    sync::mpsc::{Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use testnode::{Attachment, Node, NodeDaemon, PLUGINS, Plugins, Runtime, links};

use crate::networks::Kind;

/// Where the peer's plugins are, by Debian's package.
pub const GO: &str = "/usr/lib/cni";

/// What is executed.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub catena: PathBuf,
    /// The bare program, which was built beside this one.
    pub floor: PathBuf,
    /// What tells how much memory a plugin takes; likewise.
    pub weighed: PathBuf,
}

impl Binaries {
    /// Errors: one of them is not there.
    pub fn find(catena: &Path) -> Result<Self> {
        let catena = catena.canonicalize();
        let catena = catena.context("--catena: the binary; `make build` makes it")?;
        let beside = |name: &str| {
            let program = env::current_exe()?.with_file_name(name);
            let found = program.canonicalize();
            found.with_context(|| format!("the program {name}; `make bench` builds it"))
        };
        Ok(Self { catena, floor: beside("floor")?, weighed: beside("weighed")? })
    }
}

/// A peer's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The Go plugins.
    Go,
    /// Catena under the plugins' names.
    Multicall,
    /// Catena as the meta plugin.
    OneProcess,
    /// The same, with the daemon.
    Daemon,
    /// The bare program, which is no plugin.
    Floor,
    /// The same with a veth alone.
    Veth,
}

/// One on its node, which a thread has of its own.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    pub way: Way,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

type Job = Box<dyn FnOnce(&Stand<'_>) + Send>;

/// What a peer works with on its node.
pub struct Stand<'n> {
    pub node: &'n Node,
    pub way: Way,
    pub binaries: Binaries,
    /// Where its plugins are.
    pub dir: PathBuf,
    pub plugins: Plugins<'n>,
    pub daemon: Option<NodeDaemon<'n>>,
}

/// What the bare program is called.
pub const FLOOR: &str = "the kernel alone";

/// What it is called with a veth alone.
pub const VETH: &str = "the kernel alone, a bare veth";

/// All of them; the first is what the others are compared with.
#[derive(Debug)]
pub struct Peers {
    pub all: Vec<Peer>,
    pub binaries: Binaries,
}

impl Peers {
    /// Gives each its node.
    pub fn start(binaries: &Binaries) -> Self {
        let all = [
            ("Go plugins", Way::Go),
            ("catena, plugin by plugin", Way::Multicall),
            ("catena, one process", Way::OneProcess),
            ("catena, one process, daemon", Way::Daemon),
        ];
        let all = all.into_iter().map(|(name, way)| Peer::start(name, way, binaries)).collect();
        Self { all, binaries: binaries.clone() }
    }
}

impl Peer {
    /// One with a new node.
    pub fn start(name: &'static str, way: Way, binaries: &Binaries) -> Self {
        let (jobs, queue) = channel::<Job>();
        let binaries = binaries.clone();
        let thread = thread::spawn(move || {
            let node = Node::new();
            let dir = match way {
                Way::Go => GO.into(),
                _ => links(&node, &binaries.catena, &PLUGINS),
            };
            let plugins = Plugins::new(&node, [&dir]);
            let daemon =
                (way == Way::Daemon).then(|| NodeDaemon::start(&node, &binaries.catena, &[]));
            let stand = Stand { node: &node, way, binaries, dir, plugins, daemon };
            for job in queue {
                job(&stand);
            }
        });
        Self { name, way, jobs: Some(jobs), thread: Some(thread) }
    }

    /// The bare program, with a new node.
    pub fn floor(binaries: &Binaries) -> Self {
        Self::start(FLOOR, Way::Floor, binaries)
    }

    /// The bare program with a veth alone, with a new node.
    pub fn veth(binaries: &Binaries) -> Self {
        Self::start(VETH, Way::Veth, binaries)
    }

    /// Has it do something on its node, and waits.
    ///
    /// Errors: it panicked, which has been printed.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Stand<'_>) -> T + Send + 'static,
    ) -> Result<T> {
        let (done, result) = channel();
        let job: Job = Box::new(move |stand| {
            let _ = done.send(work(stand));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        let result = if sent { result.recv().ok() } else { None };
        result.with_context(|| format!("{} could not go on", self.name))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<'n> Stand<'n> {
    /// A runtime with a network.
    pub fn runtime(&self, kind: Kind) -> Runtime<'n> {
        self.runtime_of(self.conflist(kind))
    }

    /// A network's conflist, as this one serves it.
    pub fn conflist(&self, kind: Kind) -> Value {
        match self.way {
            Way::OneProcess | Way::Daemon => kind.in_one(),
            _ => kind.conflist(),
        }
    }

    /// A runtime with this conflist.
    pub fn runtime_of(&self, conflist: Value) -> Runtime<'n> {
        Runtime::new(self.plugins.clone(), conflist)
    }

    /// How long ADD, CHECK and DEL of a new container take.
    pub fn times(&self, kind: Kind, name: &str, number: u16) -> [Duration; 3] {
        let runtime = self.runtime(kind);
        let container = self.node.container(name);
        let attachment = kind.offer(Attachment::new(&container), number);
        let times = [
            timed(|| runtime.add(&attachment).map(drop)),
            timed(|| self.check(&runtime, &attachment)),
            timed(|| runtime.del(&attachment)),
        ];
        container.delete();
        times
    }

    /// CHECK.
    pub fn check(&self, runtime: &Runtime<'_>, attachment: &Attachment) -> Result<(), String> {
        match runtime.check_each(attachment).as_slice() {
            [] => Ok(()),
            // Debian's portmap 1.1.1 finds fault with every container that has no IPv6.
            [only] if self.way == Way::Go && only.plugin == "portmap" => Ok(()),
            [first, ..] => Err(first.to_string()),
        }
    }
}

/// How long something takes.
///
/// # Panics
/// If it fails: there is nothing to be compared then.
pub fn timed<E: std::fmt::Display>(work: impl FnOnce() -> Result<(), E>) -> Duration {
    let start = Instant::now();
    if let Err(error) = work() {
        panic!("{error}");
    }
    start.elapsed()
}
