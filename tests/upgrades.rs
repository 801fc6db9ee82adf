//! Another version is installed over one that is at work, and taken away from beside a daemon: nobody sees half of it.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap};
use testnode::{Attachment, Catena, Node, Plugins, Runtime, Shared, assert_same, two_versions};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

fn install(node: &Node, binary: &Path, dir: &Path) {
    let dir = dir.to_str().unwrap();
    Catena::new(node, binary).cmd(["install", "--bin-dir", dir]).output().success();
}

/// Installs, and rests before and after each change of a name: whoever looks meanwhile sees what there is then.
fn install_slowly(node: &Node, binary: &Path, dir: &Path) {
    let rest = "inject=rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat\
                :delay_enter=20000:delay_exit=20000";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", rest];
    let install = [binary.to_str().unwrap(), "install", "--bin-dir", dir.to_str().unwrap()];
    node.cmd(strace.into_iter().chain(install)).output().success();
}

#[test]
fn containers_come_and_go_while_versions_are_installed_over_each_other() {
    let node = Node::new();
    let bin = node.dir("bin");
    let versions = two_versions(&node, CATENA);
    install(&node, &versions[0], &bin);
    // Each network gives its own addresses: two that give the same would take them from each other.
    let chain = |name: &str, subnet: &str| {
        vec![bridge(name, &[subnet]), portmap(), bandwidth(), json!({ "type": "snat" })]
    };
    let whole = json!({ "type": "catena", "plugins": chain("cni1", "10.2.0.0/24") });
    // One by one, and in one process.
    let lists = [conflist("web", &chain("cni0", "10.1.0.0/24")), conflist("whole", &[whole])];
    let containers: Vec<_> = (0..4).map(|n| node.container(&format!("c{n}"))).collect();
    let before = node.snapshot();
    let (over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let runtimes: Vec<_> = lists.map(|list| Runtime::new(Plugins::new(&node, [&bin]), list)).into();
    thread::scope(|scope| {
        for (n, container) in containers.iter().enumerate() {
            let (over, rounds, runtime) = (&over, &rounds, &runtimes[n % 2]);
            scope.spawn(move || {
                let mut attachment = Attachment::new(container);
                let arguments = port_and_rates(8080 + u16::try_from(n).unwrap());
                for (name, value) in arguments.as_object().unwrap() {
                    attachment = attachment.capability(name, value.clone());
                }
                while !over.load(Ordering::Relaxed) {
                    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
                    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
                    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut installed = 0;
        // Threads that panic count no more.
        while installed < 20 || (rounds.load(Ordering::Relaxed) < 40 && installed < 200) {
            installed += 1;
            install_slowly(&node, &versions[installed % 2], &bin);
        }
        over.store(true, Ordering::Relaxed);
    });
    let shared = Shared::none().catena("web").catena("whole").device("cni0").device("cni1");
    assert_same(&before, &node.snapshot(), &shared);
}
