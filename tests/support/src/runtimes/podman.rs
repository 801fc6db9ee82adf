//! podman 4 with its CNI backend.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::rootfs::rootfs;
use super::sandbox::{ControlGroups, Sandbox};
use crate::exec::{Output, Run};
use crate::netns::Netns;
use crate::node::Node;

/// podman on a node, with the CNI backend.
#[derive(Debug)]
pub struct Podman<'n> {
    node: &'n Node,
    sandbox: Sandbox,
    rootfs: PathBuf,
    containers_conf: PathBuf,
    storage_conf: PathBuf,
}

impl<'n> Podman<'n> {
    /// podman that takes its networks from the conflists in `conf_dir` and the plugins from
    /// `plugin_dir`.
    pub fn new(node: &'n Node, conf_dir: &Path, plugin_dir: &Path) -> Self {
        let containers_conf = node.fresh_path("containers.conf");
        // crun, since runc insists on control groups.
        let text = format!(
            "[network]\nnetwork_backend = \"cni\"\nnetwork_config_dir = \"{}\"\n\
             cni_plugin_dirs = [\"{}\"]\n\
             [engine]\nruntime = \"crun\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n",
            conf_dir.display(),
            plugin_dir.display()
        );
        node.write(&containers_conf, &text);
        let storage_conf = node.fresh_path("storage.conf");
        node.write(
            &storage_conf,
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"/var/lib/containers/storage\"\n\
             runroot = \"/run/containers/storage\"\n",
        );
        let (sandbox, rootfs) = (Sandbox::start(node, ControlGroups::Hidden), rootfs(node));
        Self { node, sandbox, rootfs, containers_conf, storage_conf }
    }

    /// `podman <args>`, to be run.
    pub fn cmd<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let args: Vec<S> = args.into_iter().collect();
        let podman = std::iter::once(OsStr::new("podman"));
        self.sandbox
            .cmd(self.node, podman.chain(args.iter().map(AsRef::as_ref)))
            .env("CONTAINERS_CONF", &self.containers_conf)
            .env("CONTAINERS_STORAGE_CONF", &self.storage_conf)
    }

    /// Runs `command` to its end in a new container with `podman run`'s `options`, for instance
    /// `--network web`.
    pub fn run_busybox(&self, options: &[&str], command: &[&str]) -> Output {
        self.busybox(&["run", "--rm"], options, command).output()
    }

    /// Starts a container `name` that runs `command`; panics if it does not start.
    #[track_caller]
    pub fn start_busybox(&self, name: &str, options: &[&str], command: &[&str]) {
        self.busybox(&["run", "--detach", "--name", name], options, command).output().success();
    }

    /// Kills and removes a container; panics if podman (or a plugin's DEL) fails.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.cmd(["rm", "--force", "--time", "0", name]).output().success();
    }

    /// The network namespace of a running container.
    pub fn netns(&self, name: &str) -> Netns {
        let format = "{{.NetworkSettings.SandboxKey}}";
        let path = self.cmd(["inspect", "--format", format, name]).output().success();
        Netns::at(name, path.trim())
    }

    fn busybox(&self, podman: &[&str], options: &[&str], command: &[&str]) -> Run {
        // podman asks for more than a machine may allow that lacks CAP_SYS_RESOURCE.
        let limits = ["--ulimit", "nofile=1024:20000", "--ulimit", "nproc=9000:9000"];
        let rootfs = self.rootfs.display().to_string();
        let own = ["--cgroups=disabled"];
        let parts = [podman, &own, &limits, options, &["--rootfs", rootfs.as_str()], command];
        self.cmd(parts.concat())
    }
}
