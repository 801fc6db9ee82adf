//! A lock that another process holds is waited for with an end, and the error says who holds it.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::{path::Path, time::Duration};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap};
use testnode::{Catena, Node, PluginOutput, Scripts, Shared, Snapshot, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

fn chain() -> Value {
    conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), portmap(), bandwidth()])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

fn catena(node: &Node) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(8080)).env("CATENA_LOCK_TIMEOUT", "0.3")
}

/// Holds the lock of a file until dropped, as a process that hangs does.
struct Holder(testnode::Background);

impl Holder {
    fn of(node: &Node, path: &Path) -> Self {
        let path = path.display().to_string();
        let holder = node
            .cmd(["flock", "--no-fork", &path, "sleep", "1000"])
            .spawn(node.dir("run").join("flock.log"));
        // Both see the same kernel: the lock is taken once it cannot be taken.
        testnode::until("the lock is held", Duration::from_secs(10), || {
            let free = node.try_run(["flock", "--nonblock", &path, "true"]).is_success();
            (!free).then_some(())
        });
        Self(holder)
    }

    #[track_caller]
    fn assert_named(&self, output: PluginOutput, path: &str) {
        assert_eq!(output.error_code(), 11, "{output}");
        let text = output.error_text();
        let pid = self.0.pid();
        let who = format!("lock {path}: held by process {pid} (sleep 1000) for ");
        assert!(text.contains(&who) && text.contains("CATENA_LOCK_TIMEOUT"), "{who}\n{text}");
    }
}

#[test]
fn the_lock_of_the_leases_is_waited_for_with_an_end() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let catena = catena(&node);
    catena.add(&chain(), &c1);
    let (before, inside) = (node.snapshot(), Snapshot::of(&c2));
    let path = "/var/lib/cni/networks/web/lock";
    let holder = Holder::of(&node, Path::new(path));
    let other = catena.clone().cap_args(&port_and_rates(9090));
    holder.assert_named(other.try_add(&chain(), &c2).into(), path);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c2), &Shared::none());
    holder.assert_named(catena.try_del(&chain(), c1.path()).into(), path);
    drop(holder);
    catena.del(&chain(), &c1);
    other.add(&chain(), &c2);
    other.check(&chain(), &c2);
    other.del(&chain(), &c2);
}

#[test]
fn the_lock_of_the_ruleset_is_waited_for_with_an_end() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let empty = node.snapshot();
    let catena = catena(&node);
    catena.add(&chain(), &c1);
    let (before, inside) = (node.snapshot(), Snapshot::of(&c2));
    let path = "/run/catena/nft.lock";
    let holder = Holder::of(&node, Path::new(path));
    let other = catena.clone().cap_args(&port_and_rates(9090));
    holder.assert_named(other.try_add(&chain(), &c2).into(), path);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c2), &Shared::none());
    // CHECK only reads.
    catena.check(&chain(), &c1);
    // DEL gets as far as it can, and the next one does the rest.
    holder.assert_named(catena.try_del(&chain(), c1.path()).into(), path);
    drop(holder);
    catena.del(&chain(), &c1);
    assert_same(&empty, &node.snapshot(), &shared());
}

#[test]
fn a_container_that_is_being_attached_is_waited_for_with_an_end() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = catena(&node);
    catena.add(&chain(), &c1);
    let lock = format!("/run/catena/locks/{}", node.run(["ls", "/run/catena/locks"]).trim());
    let before = node.snapshot();
    let holder = Holder::of(&node, Path::new(&lock));
    holder.assert_named(catena.try_del(&chain(), c1.path()).into(), &lock);
    holder.assert_named(catena.try_add(&chain(), &c1).into(), &lock);
    assert_same(&before, &node.snapshot(), &Shared::none());
    drop(holder);
    catena.del(&chain(), &c1);
}

#[test]
fn a_catena_that_is_stopped_in_the_middle_is_named_and_what_it_did_is_undone() {
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let scripts = Scripts::new(&node);
    // It stops who runs it, once.
    scripts.plugin("stop", "[ $CNI_COMMAND != ADD ] || kill -STOP $PPID; printf %s \"$prev\"");
    let mut list = chain();
    list["plugins"].as_array_mut().unwrap().push(json!({ "type": "stop" }));
    let catena = catena(&node).cni_path(scripts.dir());
    catena.add(&chain(), &c2);
    catena.del(&chain(), &c2);
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let file = node.json_file("stop.conflist", &list).display().to_string();
    let netns = c1.path().display().to_string();
    let mut stopped = catena.cmd(["add", &file, &netns]).spawn(node.dir("run").join("stopped.log"));
    let status = format!("/proc/{}/status", stopped.pid());
    testnode::until("catena is stopped", Duration::from_secs(10), || {
        std::fs::read_to_string(&status).unwrap().contains("State:\tT").then_some(())
    });

    let output = PluginOutput::from(catena.try_del(&list, c1.path()));
    assert_eq!(output.error_code(), 11, "{output}");
    let text = output.error_text();
    let who = format!("held by process {} ({CATENA} add ", stopped.pid());
    assert!(text.contains("lock /run/catena/locks/") && text.contains(&who), "{who}\n{text}");
    // It has the lock of its attachment alone.
    let other = catena.clone().cap_args(&port_and_rates(8081));
    other.add(&chain(), &c2);
    other.check(&chain(), &c2);
    other.del(&chain(), &c2);

    stopped.kill();
    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none().device("lo"));
}

#[test]
fn a_lock_that_is_given_back_in_time_is_no_error() {
    let node = Node::new();
    let c1 = node.container("c1");
    node.run(["mkdir", "-p", "/run/catena"]);
    let holder = Holder::of(&node, Path::new("/run/catena/nft.lock"));
    let patient = catena(&node).env("CATENA_LOCK_TIMEOUT", "60");
    std::thread::scope(|scope| {
        let add = scope.spawn(|| patient.try_add(&chain(), &c1));
        // The ADD waits: it has made the interface, and not come to an end.
        testnode::until("the container has its address", Duration::from_secs(10), || {
            let shown = c1.try_run(["ip", "-o", "address", "show", "eth0"]).stdout;
            shown.contains("10.1.0.2/").then_some(())
        });
        assert!(!add.is_finished());
        drop(holder);
        add.join().unwrap().success();
    });
    patient.check(&chain(), &c1);
    for wrong in ["0", "-1", "soon", ""] {
        let output = catena(&node).env("CATENA_LOCK_TIMEOUT", wrong).try_check(&chain(), &c1);
        let output = PluginOutput::from(output);
        assert_eq!(output.error_code(), 4, "{output}");
        assert!(output.error_text().contains("CATENA_LOCK_TIMEOUT"), "{output}");
    }
    patient.del(&chain(), &c1);
}
