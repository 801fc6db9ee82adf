//! A network namespace that commands and sockets run in.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::exec::{Output, Run};
use crate::wait::until;

/// A network namespace of a node: the node's own, a container's or a neighbour's. [`Node`],
/// [`Container`] and [`Neighbour`] are one by dereference, so that each can be handed to what
/// takes a `&Netns`.
///
/// [`Node`]: crate::Node
/// [`Neighbour`]: crate::Neighbour
#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    entry: Entry,
}

/// How a command gets into a namespace.
#[derive(Debug)]
enum Entry {
    /// It's the node's own: it is there already.
    None,
    /// By the name that `ip netns` knows.
    Name,
    /// By the path.
    Path,
}

impl Netns {
    pub(crate) fn node(path: PathBuf) -> Self {
        Self { name: "the node".to_owned(), path, entry: Entry::None }
    }

    /// Makes the namespace `/run/netns/<name>`. Its loopback interface is down, as a runtime
    /// hands it to the plugins.
    pub(crate) fn add(name: &str) -> Self {
        Run::new(["ip", "netns", "add", name]).output().success();
        let path = Path::new("/run/netns").join(name);
        Self { name: name.to_owned(), path, entry: Entry::Name }
    }

    /// A namespace that somebody else has made, for instance a container runtime; `name` is for
    /// messages. Commands there see the node's `/sys`.
    pub fn at(name: &str, path: impl Into<PathBuf>) -> Self {
        Self { name: name.to_owned(), path: path.into(), entry: Entry::Path }
    }

    /// Its name: what `ip netns` knows a container's or a neighbour's by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path by which it can be entered: what goes into `CNI_NETNS`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `argv` to be run in this namespace.
    pub fn cmd<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Run {
        let prefix = match self.entry {
            Entry::None => Vec::new(),
            Entry::Name => ["ip", "netns", "exec", &self.name].map(OsString::from).to_vec(),
            Entry::Path => {
                let mut net = OsString::from("--net=");
                net.push(&self.path);
                vec![OsString::from("nsenter"), net]
            }
        };
        Run::new(prefix.into_iter().chain(argv.into_iter().map(|a| a.as_ref().to_owned())))
    }

    /// Runs `argv` here and returns its standard output; panics if it fails.
    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> String {
        self.cmd(argv).output().success()
    }

    /// Runs `argv` here and returns what came of it.
    pub fn try_run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Output {
        self.cmd(argv).output()
    }

    /// Runs `argv` here and returns its standard output as JSON (`null` if empty).
    #[track_caller]
    pub fn json<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Value {
        self.cmd(argv).output().json()
    }

    /// Runs `ip` here with a batch of its commands, one a line: one process for all of them.
    #[track_caller]
    pub fn ip(&self, batch: &str) {
        self.cmd(["ip", "-batch", "-"]).stdin(batch).output().success();
    }

    /// Calls `f` on a thread inside this namespace. Sockets opened there go on working outside
    /// it, and keep the namespace alive as long as they're open.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let joined = thread::scope(|scope| {
            scope
                .spawn(|| {
                    enter_path(&self.path);
                    f()
                })
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The value of `net.<key>` in this namespace, for instance of `ipv4.ip_forward`. A key may
    /// have `/` between its parts as well, for interface names with dots.
    #[track_caller]
    pub fn sysctl(&self, key: &str) -> String {
        let path = sysctl_path(key);
        self.enter(|| match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(e) => panic!("reading {}: {e}", path.display()),
        })
    }

    /// Sets `net.<key>` in this namespace.
    #[track_caller]
    pub fn set_sysctl(&self, key: &str, value: &str) {
        let path = sysctl_path(key);
        self.enter(|| {
            std::fs::write(&path, value)
                .unwrap_or_else(|e| panic!("writing {value} to {}: {e}", path.display()));
        });
    }

    /// Whether `target` answers a single ping within a second: for what must *not* be reached.
    pub fn pings(&self, target: &str) -> bool {
        self.ping_once(target).is_success()
    }

    /// Pings `target` until it answers; panics if it has not after five seconds. (Duplicate address
    /// detection may hold back the first answers.)
    #[track_caller]
    pub fn ping(&self, target: &str) {
        until(&format!("{target} answers {}", self.name), Duration::from_secs(5), || {
            self.ping_once(target).is_success().then_some(())
        });
    }

    fn ping_once(&self, target: &str) -> Output {
        self.try_run(["ping", "-n", "-c", "1", "-W", "1", target])
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    let key = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
    Path::new("/proc/sys/net").join(key)
}

/// Moves the calling thread into the namespace at `path`.
pub(crate) fn enter_path(path: &Path) {
    let file = File::open(path).unwrap_or_else(|e| panic!("opening {}: {e}", path.display()));
    setns(file, CloneFlags::CLONE_NEWNET)
        .unwrap_or_else(|e| panic!("entering {}: {e}", path.display()));
}

/// A container's network namespace, as a runtime makes it before it calls the plugins. It lives
/// until it's deleted or the node ends.
#[derive(Debug)]
pub struct Container(Netns);

impl Container {
    pub(crate) fn add(name: &str) -> Self {
        Self(Netns::add(name))
    }

    /// Deletes the namespace's name. The kernel takes its devices down some time after that, once
    /// nothing holds it open: await what depends on it.
    #[track_caller]
    pub fn delete(self) {
        Run::new(["ip", "netns", "del", &self.0.name]).output().success();
    }
}

impl Deref for Container {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.0
    }
}
