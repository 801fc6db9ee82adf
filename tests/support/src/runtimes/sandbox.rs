//! Where a runtime's daemons live and die.

use std::ffi::OsStr;
use std::time::Duration;

use crate::exec::{Background, Run};
use crate::node::Node;
use crate::wait::until;

/// The first process of the sandbox: it says which process id the node knows it by, before it has
/// a `/proc` of its own, and lets the kernel reap what daemons leave to it. The rest is what it does with the control groups.
const INIT: [&str; 2] = [
    "read pid rest < /proc/self/stat && mount -t proc proc /proc && ",
    " && trap '' CHLD && echo $pid && exec sleep infinity",
];

/// What a sandbox sees of the machine's control groups: nothing that it could leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ControlGroups {
    /// None.
    Hidden,
    /// All, but it can't change any. Of both versions at once it sees the first alone: crun can't do with both.
    ReadOnly,
}

impl ControlGroups {
    fn set_up(self) -> &'static str {
        match self {
            Self::Hidden => "mount -t tmpfs tmpfs /sys/fs/cgroup",
            Self::ReadOnly => {
                "while read -r from dir rest; do case $dir in /sys/fs/cgroup*) \
                 mount -o remount,bind,ro $dir || exit 1 ;; esac; done < /proc/mounts && \
                 { ! [ -d /sys/fs/cgroup/unified ] || mount -t tmpfs tmpfs /sys/fs/cgroup/unified; }"
            }
        }
    }
}

/// A PID and mount namespace inside the node. All its processes are killed when it is dropped, or
/// the test's thread ends.
#[derive(Debug)]
pub(crate) struct Sandbox {
    _init: Background,
    pid: u32,
}

impl Sandbox {
    pub(crate) fn start(node: &Node, groups: ControlGroups) -> Self {
        let unshare = ["unshare", "--pid", "--mount", "--fork", "--kill-child"];
        // Unchanged: /run/netns stays shared with the node.
        let init = INIT.join(groups.set_up());
        let options = ["--propagation", "unchanged", "sh", "-c", &init];
        let mut init =
            node.cmd(unshare.into_iter().chain(options)).spawn(node.fresh_path("sandbox.log"));
        let pid = until("the sandbox has begun", Duration::from_secs(5), || {
            init.assert_alive();
            let log = init.log();
            log.ends_with('\n').then_some(())?;
            log.trim().parse().ok()
        });
        Self { _init: init, pid }
    }

    /// `argv`, to be run inside.
    pub(crate) fn cmd<S: AsRef<OsStr>>(
        &self,
        node: &Node,
        argv: impl IntoIterator<Item = S>,
    ) -> Run {
        let pid = self.pid.to_string();
        let nsenter = ["nsenter", "--target", &pid, "--pid", "--mount"].map(OsStr::new);
        let argv: Vec<S> = argv.into_iter().collect();
        node.cmd(nsenter.into_iter().chain(argv.iter().map(AsRef::as_ref)))
    }

    /// The path by which the node sees the network namespace of the sandbox's process `pid`.
    pub(crate) fn netns_of(&self, pid: u32) -> String {
        format!("/proc/{}/root/proc/{pid}/ns/net", self.pid)
    }
}
