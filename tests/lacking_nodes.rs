//! What a node lacks is one clear error, with nothing done and nothing lost: a place to write, a right, a protocol.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap};
use testnode::{Catena, Container, Node, Output, PluginOutput, Shared, Snapshot, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn chain(subnets: &[&str]) -> Value {
    let mut bridge = bridge("cni0", subnets);
    bridge["ipMasq"] = json!(true);
    bridge["macspoofchk"] = json!(true);
    conflist("web", &[bridge, portmap(), json!({ "type": "snat" })])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

/// Locks are made where they are missing, and what is locked notes it.
fn but_locks() -> Shared {
    Shared::none().file("/run/catena/*")
}

fn catena(node: &Node, port: u16) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(port))
}

/// A verb of the tool, behind another command, for a container with this port and rates.
fn behind(node: &Node, command: &[&str], verb: &str, container: &Container, port: u16) -> Output {
    let mut list = chain(&DUAL);
    list["plugins"].as_array_mut().unwrap().push(bandwidth());
    let file = node.json_file("web.conflist", &list).display().to_string();
    let netns = container.path().display().to_string();
    let words = command.iter().copied().chain([CATENA, verb, &file, &netns]);
    node.cmd(words).env("CAP_ARGS", port_and_rates(port).to_string()).output()
}

#[track_caller]
fn assert_error(output: Output, code: u64, parts: &[&str]) {
    let output = PluginOutput::from(output);
    assert_eq!(output.error_code(), code, "{output}");
    let text = output.error_text();
    for part in parts {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named_by_each_verb() {
    for dir in ["/var/lib/cni", "/var/lib/catena", "/run/catena"] {
        let node = Node::new();
        let (c1, c2) = (node.container("c1"), node.container("c2"));
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        if dir == "/run/catena" {
            node.run(["mkdir", dir]);
            node.run(["mount", "-t", "tmpfs", "tmpfs", dir]);
        }
        catena(&node, 8080).add(&chain(&DUAL), &c1);
        let with_one = node.snapshot();
        node.run(["mount", "-o", "remount,ro", dir]);
        let refused = |output: Output| {
            assert_error(output, 5, &[dir, "Read-only file system"]);
            assert_same(&with_one, &node.snapshot(), &but_locks());
        };
        refused(catena(&node, 9090).try_add(&chain(&DUAL), &c2));
        catena(&node, 8080).gc(&chain(&DUAL), &[]).success();
        assert_same(&with_one, &node.snapshot(), &but_locks());
        if dir != "/run/catena" {
            catena(&node, 8080).check(&chain(&DUAL), &c1);
            let status = PluginOutput::from(catena(&node, 8080).status(&chain(&DUAL)));
            assert_eq!(status.error_code(), 50, "{status}");
            assert!(status.error_text().contains(dir), "{status}");
        }
        // A DEL that cannot write removes what it can, and says what it could not do.
        assert_error(
            catena(&node, 8080).try_del(&chain(&DUAL), c1.path()),
            5,
            &[dir, "Read-only file system"],
        );
        node.run(["mount", "-o", "remount,rw", dir]);
        catena(&node, 8080).del(&chain(&DUAL), &c1);
        assert_same(&before, &node.snapshot(), &shared());
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}

#[test]
fn without_the_right_to_change_the_network_nothing_is_begun() {
    const NO_RIGHT: [&str; 2] = ["setpriv", "--bounding-set=-net_admin"];
    let node = Node::new();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    catena(&node, 8080).add(&chain(&DUAL), &c1);
    let with_one = node.snapshot();
    let parts = ["Operation not permitted"];
    assert_error(behind(&node, &NO_RIGHT, "add", &c2, 9090), 999, &parts);
    assert_same(&with_one, &node.snapshot(), &but_locks());
    assert_error(behind(&node, &NO_RIGHT, "del", &c1, 8080), 999, &parts);
    // With it, the next DEL goes on.
    catena(&node, 8080).del(&chain(&DUAL), &c1);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}

#[test]
fn on_a_full_disk_every_verb_but_add_goes_on() {
    let node = Node::new();
    node.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", "/var/lib"]);
    let containers = ["c1", "c2", "c3"].map(|name| node.container(name));
    let before = node.snapshot();
    let list = chain(&DUAL);
    for (container, port) in containers.iter().zip(8080..) {
        catena(&node, port).add(&list, container);
    }
    node.try_run(["dd", "if=/dev/zero", "of=/var/lib/fill", "bs=4k"]).failure();
    for (container, port) in containers.iter().zip(8080..) {
        catena(&node, port).check(&list, container);
    }
    let [c1, c2, c3] = containers;
    assert_error(catena(&node, 9090).try_add(&list, &node.container("c4")), 5, &["No space left"]);
    // One whose container is gone, one that is told to go, and one by DEL.
    c1.delete();
    catena(&node, 8080).gc(&list, &[]).success();
    let keep = |id: &str| format!("{id}/eth0");
    catena(&node, 8081).del(&list, &c2);
    catena(&node, 8082).gc(&list, &["--keep", &keep("nobody")]).success();
    assert!(!c3.try_run(["ip", "link", "show", "eth0"]).is_success());
    node.run(["rm", "/var/lib/fill"]);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn where_ipv6_is_switched_off_a_range_of_it_switches_it_on_for_the_network_alone() {
    let node = Node::new();
    let c1 = node.container("c1");
    for of in ["all", "default"] {
        node.set_sysctl(&format!("ipv6.conf.{of}.disable_ipv6"), "1");
        c1.set_sysctl(&format!("ipv6.conf.{of}.disable_ipv6"), "1");
    }
    catena(&node, 8080).add(&chain(&DUAL), &c1);
    c1.ping("fd00:1::1");
    assert_eq!(node.sysctl("ipv6.conf.lo.disable_ipv6"), "1");
    catena(&node, 8080).check(&chain(&DUAL), &c1);
    catena(&node, 8080).del(&chain(&DUAL), &c1);
}

#[test]
fn on_a_kernel_without_ipv6_a_range_of_it_is_refused_and_ipv4_works() {
    let node = Node::new();
    let c1 = node.container("c1");
    // As with ipv6.disable=1 on the kernel's command line: there is no such directory.
    let before = node.run(["ip", "-o", "link"]);
    let leases = || node.run(["find", "/var/lib/cni", "/var/lib/catena", "-name", "*:*"]);
    node.run(["mount", "-t", "tmpfs", "tmpfs", "/proc/sys/net/ipv6"]);
    let refused = catena(&node, 8080).try_add(&chain(&DUAL), &c1);
    assert_error(refused, 2, &["/proc/sys/net/ipv6/", "without IPv6", "take its ranges out"]);
    assert_eq!(node.run(["ip", "-o", "link"]), before);
    assert_eq!(leases(), "");
    catena(&node, 8080).del(&chain(&DUAL), &c1);
    let v4 = chain(&DUAL[..1]);
    catena(&node, 8080).add(&v4, &c1);
    catena(&node, 8080).check(&v4, &c1);
    catena(&node, 8080).del(&v4, &c1);
}

#[test]
fn a_container_is_left_as_soon_as_the_kernel_has_memory_for_it_and_nothing_is_done_before() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    // After it was tried whether there is a way back, and the way there.
    for (when, code) in [("3..5", 0), ("3+", 134)] {
        let inject = format!("inject=setns:error=ENOMEM:when={when}");
        let strace = ["strace", "-f", "-qq", "-o", "/run/strace.log", "-e", "trace=setns", "-e"];
        let output = behind(&node, &[&strace[..], &[&inject]].concat(), "add", &c1, 8080);
        assert_eq!(output.code(), code, "{output}");
        let injected = node.run(["grep", "-c", "INJECTED", "/run/strace.log"]);
        assert!(injected.trim().parse::<u32>().unwrap() >= 3, "{injected}");
        catena(&node, 8080).del(&chain(&DUAL), &c1);
        assert_same(&before, &node.snapshot(), &shared().file("/run/strace.log"));
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
    }
}

#[test]
fn whatever_the_kernel_refuses_add_fails_whole() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let mut refused = 0;
    // Every request, and each socket as if the kernel did not have its protocol.
    for (call, errors) in
        [("sendto", ["EOPNOTSUPP", "EPERM"]), ("socket", ["EPROTONOSUPPORT", "EAFNOSUPPORT"])]
    {
        for error in errors {
            for when in 1.. {
                let inject = format!("inject={call}:error={error}:when={when}");
                let only = format!("trace={call}");
                let log = ["-o", "/run/strace.log", "-e", &only, "-e", &inject];
                let strace = [&["strace", "-f", "-qq"], &log[..]].concat();
                let output = behind(&node, &strace, "add", &c1, 8080);
                let done = !node.run(["cat", "/run/strace.log"]).contains("(INJECTED)");
                // Some requests need not succeed.
                if !output.is_success() {
                    refused += 1;
                    let error = PluginOutput::from(output);
                    let names_it = ["cannot ", "os error", "this kernel has no nf_tables"]
                        .map(|part| error.error_text().contains(part));
                    assert!(names_it.contains(&true), "{error}");
                    assert_same(&before, &node.snapshot(), &shared());
                }
                catena(&node, 8080).del(&chain(&DUAL), &c1);
                assert_same(&before, &node.snapshot(), &shared());
                assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
                if done {
                    break;
                }
            }
        }
    }
    println!("{refused} requests refused");
    assert!(refused > 50, "{refused} are too few: what was refused?");
}
