//! A machine with Debian's kernel, emulated, for what the kernel here lacks.
//!
//! It has the files of the machine that it is emulated on, as the test's node sees them; what it writes is gone with it. It is
//! a test of its own there: the same one, run again.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::node::Node;

/// It starts in five seconds, and runs programs ten times slower.
const PATIENCE: Duration = Duration::from_secs(420);

/// What a test in an emulated machine has been given.
const GIVEN: &str = "TESTNODE_GIVEN";

/// Where an emulated machine finds the loopback of the node that it is emulated on.
pub const NODES_LOOPBACK: [u8; 4] = [10, 0, 2, 2];

/// What [`run_again`] was given; `None` where the test is not in an emulated machine.
pub fn given() -> Option<PathBuf> {
    env::var_os(GIVEN).map(PathBuf::from)
}

/// The path in an emulated machine of a file of the node that it is emulated on.
pub fn path_of(path: &Path) -> PathBuf {
    Path::new("/host").join(path.strip_prefix("/").unwrap_or(path))
}

/// Runs the calling test again in an emulated machine, given a file of the node; `test` is its name as the harness has it.
///
/// # Panics
/// Where it fails there, with all that it has printed.
#[track_caller]
pub fn run_again(node: &Node, test: &str, given: &Path) {
    let script = node.fresh_path("emulated.sh");
    node.write(&script, &self::script(test, given));
    let linux = prepared();
    let append = format!(
        "console=ttyS0 quiet panic=-1 mitigations=off modules={} script={}",
        linux.join("modules").display(),
        script.display()
    );
    let mut machine = node
        .cmd(["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max"])
        .args(["-smp", "2", "-m", "2048", "-nodefaults", "-no-reboot", "-display", "none"])
        .args(["-serial", "stdio", "-append", &append])
        .args(["-kernel".as_ref(), linux.join("vmlinuz").as_os_str()])
        .args(["-initrd".as_ref(), linux.join("initramfs").as_os_str()])
        .args(["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap"])
        .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"])
        .args(["-netdev", "user,id=node", "-device", "virtio-net-pci,netdev=node,romfile="])
        .spawn(node.fresh_path("emulated.log"));
    let code = machine.wait(PATIENCE);
    let log = machine.log();
    let passed = code == 0 && log.contains("The script ended with code 0");
    assert!(passed, "{test} in an emulated machine:\n{log}");
}

/// Runs this very program, with its environment as far as it finds files by it.
fn script(test: &str, given: &Path) -> String {
    let program = env::current_exe().unwrap_or_else(|e| panic!("the test's own program: {e}"));
    let dir = env::current_dir().unwrap_or_else(|e| panic!("the current directory: {e}"));
    let mut script = String::from("set -e\n");
    for name in ["PATH", "HOME", "XDG_CACHE_HOME", "KUBEBUILDER_ASSETS", "RUST_BACKTRACE"] {
        if let Some(value) = env::var_os(name) {
            script += &format!("export {name}='{}'\n", value.to_string_lossy());
        }
    }
    script += &format!("export {GIVEN}='{}'\n", path_of(given).display());
    script += &format!("cd '{}'\n", dir.display());
    script + &format!("exec '{}' --exact '{test}' --nocapture\n", program.display())
}

/// The newest folder that `tests/emulated/prepare.sh` has made.
fn prepared() -> PathBuf {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(home).unwrap_or_default().join("catena");
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    let complete = |dir: &PathBuf| dir.join("initramfs").is_file();
    let found = entries.map(|entry| entry.path()).filter(complete).max();
    found.unwrap_or_else(|| panic!("no kernel to emulate: run tests/emulated/prepare.sh"))
}

/// Takes the machine's interface towards the node that it is emulated on into the node that the test has made in it.
pub fn join(node: &Node) {
    let thread = nix::unistd::gettid().to_string();
    let link = ["ip", "link", "set", "eth0", "netns", &thread];
    node.cmd(["nsenter", "--net=/proc/1/ns/net"]).args(link).output().success();
    // No router advertisements: the node has other ways out.
    node.set_sysctl("ipv6/conf/eth0/disable_ipv6", "1");
    node.ip("link set eth0 up\naddr add 10.0.2.15/24 dev eth0\n");
}
