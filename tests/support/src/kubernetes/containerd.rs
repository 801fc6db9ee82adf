//! containerd as the kubelet uses it (CRI).

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use super::assets::Assets;
use super::daemon::Daemon;
use super::image::{IMAGE, idle};
use crate::exec::Run;
use crate::node::Node;
use crate::runtimes::{Sandbox, oci_runtime};
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

/// What would look for more than the node has.
const DISABLED: [&str; 5] = [
    "io.containerd.internal.v1.opt",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
];

/// containerd with the image of pods.
#[derive(Debug)]
pub(super) struct Containerd {
    daemon: Daemon,
    ctr: OsString,
    socket: String,
    major: u32,
}

impl Containerd {
    /// Starts it; it answers, and has the image, when this returns.
    pub(super) fn start(
        node: &Node,
        sandbox: &Sandbox,
        assets: &Assets,
        conf_dir: &Path,
        bin_dir: &Path,
    ) -> Self {
        let dir = node.dir("kubernetes/containerd").display().to_string();
        let socket = format!("{dir}/containerd.sock");
        let config = node.fresh_path("containerd.toml");
        node.write(&config, &configuration(node, &dir, &socket, conf_dir, bin_dir));
        let containerd = assets.binary("containerd");
        let major = major(&containerd);
        let path = path_beside(Path::new(&containerd));
        let argv = ["env".into(), path, containerd, "--config".into(), config.into_os_string()];
        let daemon = Daemon::start(node, sandbox, "containerd", argv);
        let mut this = Self { daemon, ctr: assets.binary("ctr"), socket, major };
        this.await_answer(node, sandbox);
        this.import(node, sandbox, &idle(node));
        this
    }

    /// Takes the images of an archive.
    pub(super) fn import(&self, node: &Node, sandbox: &Sandbox, archive: &Path) {
        let mut import = ["images", "import", "--snapshotter", "native"].map(OsStr::new).to_vec();
        if self.major >= 2 {
            // It would leave the import to the daemon, which unpacks for its default snapshotter alone.
            import.push(OsStr::new("--local"));
        }
        import.push(archive.as_os_str());
        self.ctr(node, sandbox, import).output().success();
    }

    /// `ctr <args>` among the kubelet's containers, to be run.
    pub(super) fn ctr<S: AsRef<OsStr>>(
        &self,
        node: &Node,
        sandbox: &Sandbox,
        args: impl IntoIterator<Item = S>,
    ) -> Run {
        let args: Vec<S> = args.into_iter().collect();
        let options = ["--address", &self.socket, "--namespace", "k8s.io"].map(OsStr::new);
        let ctr = [self.ctr.as_os_str()].into_iter().chain(options);
        sandbox.cmd(node, ctr.chain(args.iter().map(AsRef::as_ref)))
    }

    /// The network namespace of the pod with this UID: of the sandbox that was made last.
    pub(super) fn netns(&self, node: &Node, sandbox: &Sandbox, uid: &str) -> Option<String> {
        let filter = format!(
            "labels.\"io.kubernetes.pod.uid\"=={uid},labels.\"io.cri-containerd.kind\"==sandbox"
        );
        let list = ["containers", "list", "--quiet", &filter];
        let ids = self.ctr(node, sandbox, list).output().success();
        let sandboxes = ids
            .lines()
            .map(|id| self.ctr(node, sandbox, ["containers", "info", id]).output().json());
        let newest = sandboxes.max_by_key(|info| info["CreatedAt"].as_str().map(str::to_owned))?;
        let namespaces = newest["Spec"]["linux"]["namespaces"].as_array()?;
        let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
        network["path"].as_str().map(str::to_owned)
    }

    /// Kills it; containers go on.
    pub(super) fn stop(&mut self, node: &Node, sandbox: &Sandbox) {
        self.daemon.kill(node, sandbox);
    }

    /// Starts it again after [`stop`](Self::stop).
    pub(super) fn start_again(&mut self, node: &Node, sandbox: &Sandbox) {
        self.daemon.start_again(node, sandbox);
        self.await_answer(node, sandbox);
    }

    /// Where the kubelet finds it.
    pub(super) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket)
    }

    #[track_caller]
    pub(super) fn assert_alive(&mut self) {
        self.daemon.assert_alive();
    }

    pub(super) fn log(&self) -> String {
        self.daemon.log()
    }

    fn await_answer(&mut self, node: &Node, sandbox: &Sandbox) {
        until("containerd answers", PATIENCE, || {
            self.daemon.assert_alive();
            // CRI comes last: `ctr version` would answer earlier.
            let plugins = self.ctr(node, sandbox, ["plugins", "list"]).output();
            let is_cri = |line: &str| line.contains(" cri ") && line.trim_end().ends_with("ok");
            plugins.stdout.lines().any(is_cri).then_some(())
        });
    }
}

/// `PATH` for a containerd: its shim is the one beside it, where it has one.
fn path_beside(containerd: &Path) -> OsString {
    let mut path = OsString::from("PATH=");
    if let Some(dir) = containerd.parent().filter(|dir| dir.is_absolute()) {
        path.push(dir);
        path.push(":");
    }
    path.push(env::var_os("PATH").unwrap_or_default());
    path
}

/// The major version, of `containerd github.com/containerd/containerd/v2 2.1.9 <revision>`.
fn major(containerd: &OsStr) -> u32 {
    let said = Run::new([containerd, OsStr::new("--version")]).output().success();
    let version = said.split_whitespace().nth(2).and_then(|text| text.split('.').next());
    version
        .and_then(|text| text.trim_start_matches('v').parse().ok())
        .unwrap_or_else(|| panic!("containerd --version: {said}"))
}

/// As containerd 1.x has it; 2.x understands it, too.
fn configuration(node: &Node, dir: &str, socket: &str, conf_dir: &Path, bin_dir: &Path) -> String {
    let (conf_dir, bin_dir) = (conf_dir.display(), bin_dir.display());
    let oci_runtime = oci_runtime(node);
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = {DISABLED:?}
[grpc]
address = "{socket}"
[ttrpc]
address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_apparmor = true
disable_cgroup = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin_dir}"
conf_dir = "{conf_dir}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
default_runtime_name = "crun"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.crun.options]
BinaryName = "{oci_runtime}"
"#
    )
}
