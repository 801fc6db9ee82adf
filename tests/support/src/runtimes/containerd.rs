//! containerd with its client `ctr`.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rootfs::{oci_runtime, rootfs};
use super::sandbox::{ControlGroups, Sandbox};
use crate::exec::{Background, Output, Run};
use crate::netns::Netns;
use crate::node::Node;
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);

/// What `ctr run --cni` does not need, and what would look for more than the node has.
const DISABLED: [&str; 7] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.overlayfs",
    "io.containerd.snapshotter.v1.zfs",
];

/// containerd on a node.
#[derive(Debug)]
pub struct Containerd<'n> {
    node: &'n Node,
    // Killed before the sandbox is.
    _daemon: Background,
    sandbox: Sandbox,
    rootfs: PathBuf,
    socket: String,
    oci_runtime: String,
}

impl<'n> Containerd<'n> {
    /// Starts containerd; `ctr` takes the first network of those in `conf_dir`, and the plugins
    /// from `plugin_dir`. Its paths are built in, so the node has links to these two there.
    pub fn start(node: &'n Node, conf_dir: &Path, plugin_dir: &Path) -> Self {
        link("/etc/cni/net.d", conf_dir);
        link("/opt/cni/bin", plugin_dir);
        let dir = node.dir("containerd").display().to_string();
        let socket = format!("{dir}/containerd.sock");
        let config = node.fresh_path("containerd.toml");
        let text = format!(
            "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
             disabled_plugins = {DISABLED:?}\n\
             [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n"
        );
        node.write(&config, &text);
        let oci_runtime = oci_runtime(node);

        let sandbox = Sandbox::start(node, ControlGroups::Hidden);
        let mut daemon = sandbox
            .cmd(node, [OsStr::new("containerd"), OsStr::new("--config"), config.as_os_str()])
            .spawn(node.fresh_path("containerd.log"));
        let rootfs = rootfs(node);
        until("containerd answers", PATIENCE, || {
            daemon.assert_alive();
            let version = sandbox.cmd(node, ["ctr", "--address", &socket, "version"]);
            version.output().is_success().then_some(())
        });
        Self { node, _daemon: daemon, sandbox, rootfs, socket, oci_runtime }
    }

    /// `ctr <args>`, to be run.
    pub fn ctr<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let args: Vec<S> = args.into_iter().collect();
        let ctr = ["ctr", "--address", &self.socket].map(OsStr::new);
        self.sandbox.cmd(self.node, ctr.into_iter().chain(args.iter().map(AsRef::as_ref)))
    }

    /// Runs `command` to its end in a new container with `ctr run --cni`: ADD before, DEL (with an
    /// empty `CNI_NETNS`) after it.
    pub fn run_busybox(&self, id: &str, options: &[&str], command: &[&str]) -> Output {
        self.busybox(id, options, command).output()
    }

    /// Starts a container that runs `command` beside the test; panics if it does not start.
    #[track_caller]
    pub fn start_busybox(&self, id: &str, options: &[&str], command: &[&str]) -> ContainerdTask {
        let log = self.node.fresh_path("ctr.log");
        let mut client = self.busybox(id, options, command).spawn(log);
        let pid = until(&format!("container {id} runs"), PATIENCE, || {
            client.assert_alive();
            self.running(id)
        });
        let netns = Netns::at(id, self.sandbox.netns_of(pid));
        ContainerdTask { id: id.to_owned(), client, netns }
    }

    /// Kills a container and waits until `ctr` has taken down its network; panics if `ctr` did not
    /// end with the container's own exit code, that of a killed one.
    #[track_caller]
    pub fn stop(&self, mut task: ContainerdTask) {
        self.ctr(["task", "kill", "--signal", "SIGKILL", &task.id]).output().success();
        let code = task.client.wait(PATIENCE);
        assert_eq!(code, 137, "ctr: {}", task.client.log());
    }

    /// The process id, in the sandbox, of a container that runs.
    fn running(&self, id: &str) -> Option<u32> {
        let tasks = self.ctr(["task", "list"]).output().success();
        tasks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, pid, "RUNNING"] if name == id => pid.parse().ok(),
            _ => None,
        })
    }

    fn busybox(&self, id: &str, options: &[&str], command: &[&str]) -> Run {
        let rootfs = self.rootfs.display().to_string();
        let run = ["run", "--rm", "--cni", "--runc-binary", &self.oci_runtime, "--cgroup", ""];
        let container = ["--rootfs", rootfs.as_str(), id];
        self.ctr([&run, options, &container, command].concat())
    }
}

/// A container that runs, with the `ctr` that waits for it.
#[derive(Debug)]
pub struct ContainerdTask {
    id: String,
    client: Background,
    netns: Netns,
}

impl ContainerdTask {
    /// The container's network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

/// Puts a link to `target` at `path`, which is the node's own.
fn link(path: &str, target: &Path) {
    // A link of an earlier start.
    let _ = fs::remove_file(path);
    symlink(target, path).unwrap_or_else(|e| panic!("linking {path}: {e}"));
}
