//! The node: namespaces of the test's own thread.

use std::env;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::exec::Run;
use crate::mounts::{self, NODE_DIR};
use crate::neighbour::Neighbour;
use crate::netns::{Container, Netns};
use crate::snapshot::Snapshot;

/// A node of its own: the calling thread in network and mount namespaces that nobody else
/// is in.
///
/// `/run`, `/etc/cni`, `/var/lib/cni`, `/var/lib/catena`, `/var/lib/containers` and
/// `/var/lib/containerd` begin empty; what is written elsewhere below `/etc`, `/opt`, `/var/lib` and
/// `/var/log` stays in the node. `lo` is up, forwarding is off, `bridge-nf-call-*` is what new
/// namespaces have (1).
///
/// It belongs to the thread that made it. Threads started from that thread are in the node, too
/// (scoped ones may use the `&Node`); others see the host. When it's dropped the thread returns to
/// where it was, and when nothing runs in the namespaces any more the kernel removes them with
/// everything in them.
#[derive(Debug)]
pub struct Node {
    netns: Netns,
    home: Home,
    files: AtomicU32,
    /// `!Send`, but `Sync`.
    _stays_on_its_thread: PhantomData<MutexGuard<'static, ()>>,
}

/// What restarts with the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// The kernel: its `boot_id` is another one.
    Machine,
    /// The container that the node is: the kernel's `boot_id` stays.
    Container,
}

/// Where the thread was before.
#[derive(Debug)]
struct Home {
    netns: File,
    mntns: File,
    cwd: PathBuf,
}

impl Node {
    /// Moves the calling thread into a new node.
    ///
    /// # Panics
    /// When not root, or where the kernel lacks overlayfs.
    #[allow(clippy::new_without_default, reason = "it changes the thread, so it's to be seen")]
    pub fn new() -> Self {
        assert!(geteuid().is_root(), "a test's node needs root: run the tests with sudo");
        let home = Home::of_this_thread();
        // CLONE_FS: without it setns(2) refuses the way back.
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
            .unwrap_or_else(|e| panic!("unshare: {e}"));
        mounts::set_up();
        // The directory is the same, but through the new mounts.
        let _ = env::set_current_dir(&home.cwd);
        let node = Self {
            netns: Netns::node(mounts::bind_own_netns()),
            home,
            files: AtomicU32::new(0),
            _stays_on_its_thread: PhantomData,
        };
        node.begin();
        node
    }

    /// What is the same of each node when its network begins.
    fn begin(&self) {
        // A new namespace takes these over from the host's, whatever they are there.
        self.set_sysctl("ipv4.ip_forward", "0");
        self.set_sysctl("ipv6.conf.all.forwarding", "0");
        for conf in ["all", "default"] {
            self.set_sysctl(&format!("ipv4.conf.{conf}.rp_filter"), "0");
            self.set_sysctl(&format!("ipv6.conf.{conf}.disable_ipv6"), "0");
        }
        self.ip("link set lo up\n");
    }

    /// Restarts the node: containers, links, rules and what is in `/run` are gone, and what is on the disk stays. It is
    /// as after a crash: nobody is told. Neighbours have lost their cables.
    pub fn restart(&self, restart: Restart) {
        let kept = ["testnode", "netns", "lock"];
        for name in names("/run/netns") {
            Run::new(["ip", "netns", "del", &name]).output().success();
        }
        for name in names("/run").into_iter().filter(|name| !kept.contains(&name.as_str())) {
            Run::new(["rm", "-r", &format!("/run/{name}")]).output().success();
        }
        unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("unshare: {e}"));
        mounts::restart();
        if restart == Restart::Machine {
            mounts::set_boot_id();
        }
        self.begin();
    }

    /// A container's namespace, `/run/netns/<name>`.
    pub fn container(&self, name: &str) -> Container {
        Container::add(name)
    }

    /// A host outside, joined to the node by a cable, that routes everything through the node;
    /// addresses are CIDRs, and the node has the first address of each of their subnets. `name`
    /// (at most 15 characters) is also what the node calls the interface.
    pub fn neighbour(&self, name: &str, v4: &str, v6: &str) -> Neighbour {
        let neighbour = Neighbour::join(self, name, v4, v6);
        neighbour.route_through_node();
        neighbour
    }

    /// The way out: a host outside that the node routes everything through, and that has no route
    /// back. It knows the node by its addresses on the cable only, so what is to be answered has to
    /// come from these, and [`Neighbour::with_address`] gives it addresses further out.
    pub fn uplink(&self, name: &str, v4: &str, v6: &str) -> Neighbour {
        let neighbour = Neighbour::join(self, name, v4, v6);
        self.ip(&format!(
            "route add default via {}\nroute add default via {}\n",
            neighbour.v4(),
            neighbour.v6()
        ));
        neighbour
    }

    /// Turns the passing of bridged packets through the IP hooks on or off, for both families.
    pub fn bridge_nf(&self, on: bool) {
        for key in ["bridge.bridge-nf-call-iptables", "bridge.bridge-nf-call-ip6tables"] {
            self.set_sysctl(key, if on { "1" } else { "0" });
        }
    }

    /// The kernel's listings of the node, and the files below the state directories.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of_node(self)
    }

    /// A directory on the node's tmpfs.
    pub fn dir(&self, name: &str) -> PathBuf {
        let dir = Path::new(NODE_DIR).join("files").join(name);
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("creating {}: {e}", dir.display()));
        dir
    }

    /// A path on the node's tmpfs that nobody has been given yet; it ends with `name`.
    pub fn fresh_path(&self, name: &str) -> PathBuf {
        let n = self.files.fetch_add(1, Ordering::Relaxed);
        self.dir("fresh").join(format!("{n}-{name}"))
    }

    /// Writes `json` to a new file on the node's tmpfs.
    pub fn json_file(&self, name: &str, json: &Value) -> PathBuf {
        let path = self.fresh_path(name);
        self.write(&path, &format!("{json:#}"));
        path
    }

    /// Writes a file, with the directories above it. Meant for paths that are the node's own.
    pub fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = path.as_ref();
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)
            .and_then(|()| fs::write(path, text))
            .unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
    }
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{dir}: {e}"));
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

impl Deref for Node {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(e) = self.home.return_to() {
            // The thread stays in the node: wrong for a test that follows on it.
            if !thread::panicking() {
                panic!("leaving the node: {e}");
            }
        }
    }
}

impl Home {
    fn of_this_thread() -> Self {
        let open = |kind: &str| {
            let path = format!("/proc/thread-self/ns/{kind}");
            File::open(&path).unwrap_or_else(|e| panic!("opening {path}: {e}"))
        };
        let cwd = env::current_dir().unwrap_or_else(|e| panic!("the current directory: {e}"));
        Self { netns: open("net"), mntns: open("mnt"), cwd }
    }

    fn return_to(&self) -> anyhow::Result<()> {
        // Threads started here share this thread's root and directory; as long as one lives,
        // the kernel would refuse.
        unshare(CloneFlags::CLONE_FS)?;
        setns(&self.netns, CloneFlags::CLONE_NEWNET)?;
        setns(&self.mntns, CloneFlags::CLONE_NEWNS)?;
        env::set_current_dir(&self.cwd)?;
        Ok(())
    }
}
