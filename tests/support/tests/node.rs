//! A node is alone, and gone with its test.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use testnode::{Node, until};

/// The namespaces of the calling thread.
fn namespaces() -> Vec<std::path::PathBuf> {
    ["net", "mnt"]
        .iter()
        .map(|kind| fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap())
        .collect()
}

/// Whether any process or thread of the machine, or a mount that this thread sees, holds the
/// namespace.
fn is_held(ns: &Path) -> bool {
    let text = ns.display().to_string();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    mounts.contains(&text) || holders(&text) > 0
}

fn holders(ns: &str) -> usize {
    let mut count = 0;
    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let tasks = fs::read_dir(process.path().join("task"));
        for task in tasks.into_iter().flatten().filter_map(Result::ok) {
            for kind in ["net", "mnt"] {
                if let Ok(link) = fs::read_link(task.path().join("ns").join(kind)) {
                    count += usize::from(link.display().to_string() == ns);
                }
            }
        }
    }
    count
}

#[test]
fn two_nodes_at_once_do_not_see_each_other() {
    let (made, other_made) = mpsc::channel();
    let (looked, other_looked) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let node = Node::new();
        node.container("theirs");
        node.ip("link add theirs type bridge\n");
        node.write("/var/lib/cni/theirs", "");
        node.write("/etc/theirs", "");
        node.write("/run/theirs", "");
        made.send(()).unwrap();
        other_looked.recv().unwrap();
        assert!(!node.run(["ip", "link"]).contains("ours"));
    });
    other_made.recv().unwrap();
    let node = Node::new();
    node.container("ours");
    node.ip("link add ours type bridge\n");
    assert_eq!(node.run(["ip", "netns", "list"]).trim(), "ours");
    assert!(!node.run(["ip", "link"]).contains("theirs"));
    for path in ["/var/lib/cni/theirs", "/etc/theirs", "/run/theirs", "/run/netns/theirs"] {
        assert!(!Path::new(path).exists(), "{path} is seen from another node");
    }
    assert!(!Path::new("/sys/class/net/theirs").exists());
    assert!(Path::new("/sys/class/net/ours").exists());
    looked.send(()).unwrap();
    other.join().unwrap();
}

#[test]
fn nothing_of_a_node_reaches_the_host() {
    let before = namespaces();
    let cwd = std::env::current_dir().unwrap();
    let node = Node::new();
    node.write("/etc/cni/net.d/testnode-probe", "");
    node.write("/var/lib/testnode-probe", "");
    node.write("/run/testnode-probe", "");
    node.container("testnode-probe");
    assert_ne!(namespaces(), before);
    assert_eq!(std::env::current_dir().unwrap(), cwd);
    drop(node);
    assert_eq!(namespaces(), before);
    assert_eq!(std::env::current_dir().unwrap(), cwd);
    for path in [
        "/etc/cni/net.d/testnode-probe",
        "/var/lib/testnode-probe",
        "/run/testnode-probe",
        "/run/netns/testnode-probe",
    ] {
        assert!(!Path::new(path).exists(), "{path} was left on the host");
    }
}

#[test]
fn a_panic_takes_the_node_and_its_processes_down() {
    let (send, receive) = mpsc::channel();
    let dying = thread::spawn(move || {
        let node = Node::new();
        let container = node.container("c1");
        let sleeper = container.cmd(["sleep", "1000"]).spawn(node.fresh_path("log"));
        send.send((namespaces(), sleeper.pid())).unwrap();
        // A handle that is never dropped: the kernel has to do it.
        std::mem::forget(sleeper);
        panic::resume_unwind(Box::new("the test failed"));
    });
    let (namespaces, sleeper) = receive.recv().unwrap();
    assert!(dying.join().is_err());
    until("the sleeper is dead", Duration::from_secs(5), || {
        let stat = fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    until("nobody is in the node's namespaces", Duration::from_secs(5), || {
        namespaces.iter().all(|ns| !is_held(ns)).then_some(())
    });
}

#[test]
fn neighbours_reach_the_node_and_each_other_through_it() {
    let node = Node::new();
    let left = node.neighbour("left", "192.0.2.2/24", "2001:db8:1::2/64");
    let right = node.neighbour("right", "198.51.100.9/24", "2001:db8:2::9/64");
    left.ping("192.0.2.1");
    left.ping("2001:db8:1::1");
    node.ping("198.51.100.9");
    node.ping("2001:db8:2::9");
    assert!(!left.pings("198.51.100.9"), "a node does not forward unless told to");
    node.set_sysctl("ipv4.ip_forward", "1");
    node.set_sysctl("ipv6.conf.all.forwarding", "1");
    left.ping("198.51.100.9");
    right.ping("2001:db8:1::2");
}

#[test]
fn an_uplink_answers_the_nodes_own_addresses_only() {
    let node = Node::new();
    let internet = node
        .uplink("internet", "192.0.2.2/24", "2001:db8:1::2/64")
        .with_address("203.0.113.5/32")
        .with_address("2001:db8:ffff::5/128");
    let inside = node.neighbour("inside", "10.9.0.2/24", "fd00:9::2/64");
    node.set_sysctl("ipv4.ip_forward", "1");
    node.set_sysctl("ipv6.conf.all.forwarding", "1");
    node.ping("203.0.113.5");
    node.ping("2001:db8:ffff::5");
    assert!(!inside.pings("203.0.113.5"), "there is no way back to 10.9.0.2");
    node.run(["nft", "add table inet t; add chain inet t p { type nat hook postrouting priority srcnat; }; add rule inet t p oifname internet masquerade"]);
    inside.ping("203.0.113.5");
    inside.ping("2001:db8:ffff::5");
    assert_eq!(internet.v4().to_string(), "192.0.2.2");
}

#[test]
fn a_failed_command_shows_its_line_and_both_outputs() {
    let node = Node::new();
    let output = node.try_run(["sh", "-c", "echo out; echo err >&2; exit 3"]).failure();
    assert_eq!(output.code(), 3);
    let text = output.to_string();
    for part in ["`sh -c echo out", "out", "err", "exit status: 3"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn bridge_nf_is_the_nodes_own() {
    let node = Node::new();
    for (on, value) in [(false, "0"), (true, "1")] {
        node.bridge_nf(on);
        assert_eq!(node.sysctl("bridge.bridge-nf-call-iptables"), value);
        assert_eq!(node.sysctl("bridge.bridge-nf-call-ip6tables"), value);
    }
}
