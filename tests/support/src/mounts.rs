//! A node's own view of the file system: what network plugins and runtimes write goes to a tmpfs
//! that dies with the mount namespace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The node's own files: its network namespace, temporary files, logs.
pub(crate) const NODE_DIR: &str = "/run/testnode";

/// Directories whose content stays visible while writes stay in the node, and below each of them
/// those that begin empty, whatever the host has there.
const COPY_ON_WRITE: [(&str, &[&str]); 4] = [
    ("/etc", &["cni", "netns"]),
    ("/opt", &["cni"]),
    ("/var/lib", &["cni", "catena", "containers", "containerd", "kubelet"]),
    ("/var/log", &[]),
];

/// Lays the node's mounts in the calling thread's mount namespace, which must be a new one already.
pub(crate) fn set_up() {
    // Nothing mounted from here on reaches the host.
    do_mount(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None);
    tmpfs("/run");
    make_dir("/run/lock", 0o1777);
    make_dir(NODE_DIR, 0o755);
    for (dir, empty) in COPY_ON_WRITE.into_iter().filter(|(dir, _)| Path::new(dir).is_dir()) {
        overlay(dir);
        for name in empty {
            tmpfs(&format!("{dir}/{name}"));
        }
    }
    // Namespaces that a process in mounts of its own gives a name are to be seen by the node, as
    // they are where an init system shares all mounts.
    tmpfs("/run/netns");
    do_mount(None, "/run/netns", None, MsFlags::MS_SHARED, None);
    sysfs();
}

/// A sysfs mounted in the node's network namespace, since the old one shows the host's devices;
/// the control groups below it are kept.
fn sysfs() {
    let old = format!("{NODE_DIR}/old-sys");
    make_dir(&old, 0o755);
    do_mount(Some("/sys"), &old, None, MsFlags::MS_BIND | MsFlags::MS_REC, None);
    do_mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None);
    let cgroups = format!("{old}/fs/cgroup");
    if Path::new(&cgroups).is_dir() && Path::new("/sys/fs/cgroup").is_dir() {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        do_mount(Some(&cgroups), "/sys/fs/cgroup", None, flags, None);
    }
    umount2(old.as_str(), MntFlags::MNT_DETACH).unwrap_or_else(|e| panic!("umount {old}: {e}"));
}

fn overlay(dir: &str) {
    let layer = |kind: &str| {
        let path = format!("{NODE_DIR}/overlay/{}-{kind}", dir[1..].replace('/', "-"));
        make_dir(&path, 0o755);
        path
    };
    let options = format!("lowerdir={dir},upperdir={},workdir={}", layer("upper"), layer("work"));
    do_mount(Some("overlay"), dir, Some("overlay"), MsFlags::empty(), Some(&options));
}

fn tmpfs(dir: &str) {
    make_dir(dir, 0o755);
    do_mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"));
}

fn do_mount(src: Option<&str>, at: &str, kind: Option<&str>, flags: MsFlags, data: Option<&str>) {
    mount(src, at, kind, flags, data).unwrap_or_else(|e| {
        panic!("mounting {} on {at} ({data:?}): {e}", kind.or(src).unwrap_or("nothing"))
    });
}

fn make_dir(path: &str, mode: u32) {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .unwrap_or_else(|e| panic!("creating {path}: {e}"));
}

/// Gives the calling thread's network namespace a path.
pub(crate) fn bind_own_netns() -> PathBuf {
    let path = format!("{NODE_DIR}/netns");
    fs::write(&path, "").unwrap_or_else(|e| panic!("creating {path}: {e}"));
    do_mount(Some("/proc/thread-self/ns/net"), &path, None, MsFlags::MS_BIND, None);
    PathBuf::from(path)
}

/// Lays anew what belongs to the calling thread's network namespace.
pub(crate) fn restart() {
    let path = format!("{NODE_DIR}/netns");
    umount2(path.as_str(), MntFlags::MNT_DETACH).unwrap_or_else(|e| panic!("umount {path}: {e}"));
    bind_own_netns();
    sysfs();
}

/// Gives the kernel of the node another boot's id.
pub(crate) fn set_boot_id() {
    let random = "/proc/sys/kernel/random";
    let path = format!("{NODE_DIR}/boot_id");
    let id = fs::read_to_string(format!("{random}/uuid"));
    id.and_then(|id| fs::write(&path, id)).unwrap_or_else(|e| panic!("{path}: {e}"));
    do_mount(Some(&path), &format!("{random}/boot_id"), None, MsFlags::MS_BIND, None);
}
