//! Killed at any instant, Catena loses nothing and leaves nothing that the next DEL, or GC, does not remove.
//!
//! Each of these goes through the system calls of one verb, and kills the process at every `KILL_EVERY`-th of them;
//! `make kills` has it killed at each one.
#![allow(clippy::unwrap_used, reason = "test code")]
#![allow(clippy::print_stdout, reason = "how much was tried is a part of the answer")]

use std::{env, thread};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, host_local, port_and_rates, portmap};
use testnode::{Catena, Container, Node, Output, Shared, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// The points of one round are tried on a container each: what one leaves is not cleared away by the next. After them
/// the node is compared.
const ROUND: usize = 10;

/// Every so many system calls the process is killed.
fn step() -> usize {
    env::var("KILL_EVERY").map_or(53, |every| every.parse().unwrap())
}

/// Every kind of thing that a chain makes.
fn full() -> Value {
    let mut bridge = bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]);
    bridge["ipMasq"] = json!(true);
    bridge["macspoofchk"] = json!(true);
    let tuning = json!({ "type": "tuning", "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" }, "mtu": 1400 });
    let snat = json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] });
    let firewall = json!({ "type": "firewall", "ingressPolicy": "same-bridge" });
    conflist("web", &[bridge, portmap(), bandwidth(), firewall, tuning, snat])
}

/// The other interface, and what goes with it.
fn small() -> Value {
    let ipam = host_local(&["10.2.0.0/24"]);
    let ptp = json!({ "type": "ptp", "ipMasq": true, "ipam": ipam });
    conflist("web", &[ptp, portmap()])
}

/// Two networks in one transaction.
fn two_networks() -> Value {
    let mut cluster = bridge("cni0", &["10.1.0.0/24"]);
    cluster["name"] = json!("cluster");
    cluster["ipMasq"] = json!(true);
    let storage = json!({ "name": "storage", "type": "ptp", "ipam": host_local(&["10.3.0.0/24"]) });
    let delegates = [cluster, storage];
    conflist("web", &[json!({ "type": "catena", "delegates": delegates })])
}

fn shared() -> Shared {
    let networks = ["web", "cluster", "storage"];
    let shared = networks.into_iter().fold(Shared::none(), Shared::catena);
    shared.device("cni0").directory("/var/lib/catena/pods")
}

fn catena<'n>(node: &'n Node, container: &Container) -> Catena<'n> {
    let catena = Catena::new(node, CATENA).cap_args(&port_and_rates(8080));
    catena.env("CNI_CONTAINERID", container.name())
}

/// What a process is killed at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verb {
    Add,
    Check,
    Del,
    /// GC that finds the attachment alive.
    GcThatKeeps,
    /// GC of an empty list.
    GcThatRemoves,
}

/// What removes what the killed process has left.
#[derive(Clone, Copy, Debug)]
enum Undo {
    Del,
    /// GC of an empty list.
    Gc,
    /// ADD, where the killed one was not done, and then DEL.
    AddAndDel,
}

/// Runs a verb that is killed at this system call, unless it ends before.
fn killed(
    node: &Node,
    verb: Verb,
    chain: &Value,
    container: &Container,
    point: usize,
) -> Option<Output> {
    let file = node.json_file("web.conflist", chain).display().to_string();
    let netns = container.path().display().to_string();
    let kept = format!("{}/eth0", container.name());
    let args = match verb {
        Verb::Add => vec!["add", &file, &netns],
        Verb::Check => vec!["check", &file, &netns],
        Verb::Del => vec!["del", &file, &netns],
        Verb::GcThatKeeps => vec!["gc", &file, "--keep", &kept],
        Verb::GcThatRemoves => vec!["gc", &file, "--all"],
    };
    catena(node, container).cmd(args).killed_at(point)
}

fn undo(node: &Node, undo: Undo, chain: &Value, container: &Container) {
    match undo {
        Undo::Del => catena(node, container).del(chain, container),
        Undo::Gc => drop(catena(node, container).gc(chain, &["--all"]).success()),
        Undo::AddAndDel => {
            if catena(node, container).try_check(chain, container).code() != 0 {
                catena(node, container).add(chain, container);
                catena(node, container).check(chain, container);
            }
            catena(node, container).del(chain, container);
        }
    }
}

/// A glance into a container, for a comparison: cheaper than the whole listing.
fn inside(container: &Container) -> String {
    let listings = "ip address; ip route show table all; ip -6 route show table all; tc qdisc";
    container.run(["sh", "-c", listings])
}

/// What is being tried: said where it fails.
struct Trying(String);

impl Drop for Trying {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}, every {} calls", self.0, step());
        }
    }
}

/// Tries a verb's system calls one after the other, on a node that knows the network already.
fn killed_everywhere(chain: &Value, verb: Verb, by: Undo) {
    let node = Node::new();
    let containers: Vec<_> = (0..ROUND).map(|n| node.container(&format!("c{n}"))).collect();
    catena(&node, &containers[0]).add(chain, &containers[0]);
    catena(&node, &containers[0]).del(chain, &containers[0]);
    let (before, within) = (node.snapshot(), inside(&containers[1]));
    let (mut point, mut tried, mut ended) = (1, 0, false);
    while !ended {
        let first = point;
        for container in &containers {
            let _trying = Trying(format!("{verb:?} killed at call {point}"));
            if verb != Verb::Add {
                catena(&node, container).add(chain, container);
            }
            let output = killed(&node, verb, chain, container, point);
            if matches!(verb, Verb::Check | Verb::GcThatKeeps) {
                catena(&node, container).check(chain, container);
            }
            undo(&node, by, chain, container);
            assert_eq!(within, inside(container), "{verb:?} killed at call {point}");
            if let Some(output) = output {
                output.success();
                ended = true;
                break;
            }
            point += step();
            tried += 1;
        }
        let _trying = Trying(format!("{verb:?} killed at calls from {first} to {point}"));
        assert_same(&before, &node.snapshot(), &shared());
    }
    println!("{verb:?}: {tried} kill points of {point} system calls, each undone by {by:?}");
    assert!(point > 100, "{point} system calls are too few: what was killed?");
}

/// The same for an ADD that is a node's first, and sets the node up. Afterwards another one has to work.
fn killed_on_a_new_node(chain: &Value, by: Undo) {
    // Each thread becomes nodes of its own: most of the time is spent on waiting for the kernel.
    let tried: Vec<usize> = thread::scope(|scope| {
        let threads = [1, 1 + step()].map(|first| scope.spawn(move || new_nodes(chain, by, first)));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let tried = tried.iter().sum::<usize>();
    println!("a node's first ADD: {tried} kill points, each undone by {by:?}");
    assert!(tried * step() > 200, "{tried} points are too few: what was killed?");
}

/// Tries every second point from the first on; how many it were.
fn new_nodes(chain: &Value, by: Undo, first: usize) -> usize {
    let mut new = None;
    for (tried, point) in (first..).step_by(2 * step()).enumerate() {
        let node = Node::new();
        let c1 = node.container("c1");
        let (before, within) = new.get_or_insert_with(|| (node.snapshot(), inside(&c1)));
        let output = killed(&node, Verb::Add, chain, &c1, point);
        let _trying = Trying(format!("a node's first ADD killed at call {point}"));
        undo(&node, by, chain, &c1);
        assert_eq!(*within, inside(&c1));
        assert_same(before, &node.snapshot(), &shared());
        catena(&node, &c1).add(chain, &c1);
        if let Some(output) = output {
            output.success();
            catena(&node, &c1).check(chain, &c1);
            return tried;
        }
    }
    unreachable!("every run comes to its end")
}

#[test]
fn an_add_that_is_killed_is_undone_by_del() {
    killed_everywhere(&full(), Verb::Add, Undo::Del);
}

#[test]
fn an_add_that_is_killed_is_undone_by_gc() {
    killed_everywhere(&full(), Verb::Add, Undo::Gc);
}

#[test]
fn an_add_that_is_killed_is_done_by_the_next_add() {
    killed_everywhere(&full(), Verb::Add, Undo::AddAndDel);
}

#[test]
fn a_nodes_first_add_that_is_killed_is_undone_by_del() {
    killed_on_a_new_node(&full(), Undo::Del);
}

#[test]
fn a_nodes_first_add_that_is_killed_is_undone_by_gc() {
    killed_on_a_new_node(&full(), Undo::Gc);
}

#[test]
fn a_del_that_is_killed_is_done_by_the_next_one() {
    killed_everywhere(&full(), Verb::Del, Undo::Del);
}

#[test]
fn a_del_that_is_killed_is_done_by_gc() {
    killed_everywhere(&full(), Verb::Del, Undo::Gc);
}

#[test]
fn a_check_that_is_killed_changes_nothing_that_del_needs() {
    killed_everywhere(&full(), Verb::Check, Undo::Del);
}

#[test]
fn a_check_that_is_killed_changes_nothing_that_gc_needs() {
    killed_everywhere(&full(), Verb::Check, Undo::Gc);
}

#[test]
fn a_gc_that_is_killed_has_kept_what_lives_and_del_removes_it() {
    killed_everywhere(&full(), Verb::GcThatKeeps, Undo::Del);
}

#[test]
fn a_gc_that_is_killed_has_kept_what_lives_and_gc_removes_it() {
    killed_everywhere(&full(), Verb::GcThatKeeps, Undo::Gc);
}

#[test]
fn a_gc_that_is_killed_on_its_way_is_done_by_del() {
    killed_everywhere(&full(), Verb::GcThatRemoves, Undo::Del);
}

#[test]
fn a_gc_that_is_killed_on_its_way_is_done_by_the_next_one() {
    killed_everywhere(&full(), Verb::GcThatRemoves, Undo::Gc);
}

#[test]
fn a_killed_add_of_a_point_to_point_link_is_undone_by_del() {
    killed_on_a_new_node(&small(), Undo::Del);
}

#[test]
fn a_killed_add_of_a_point_to_point_link_is_undone_by_gc() {
    killed_everywhere(&small(), Verb::Add, Undo::Gc);
}

#[test]
fn a_killed_del_of_a_point_to_point_link_is_done_by_the_next_one() {
    killed_everywhere(&small(), Verb::Del, Undo::Del);
}

#[test]
fn a_killed_check_of_a_point_to_point_link_changes_nothing() {
    killed_everywhere(&small(), Verb::Check, Undo::Del);
}

#[test]
fn a_killed_gc_of_a_point_to_point_link_is_done_by_the_next_one() {
    killed_everywhere(&small(), Verb::GcThatRemoves, Undo::Gc);
}

#[test]
fn a_killed_add_of_two_networks_is_undone_by_del() {
    killed_everywhere(&two_networks(), Verb::Add, Undo::Del);
}

#[test]
fn a_killed_add_of_two_networks_is_undone_by_gc() {
    killed_everywhere(&two_networks(), Verb::Add, Undo::Gc);
}

#[test]
fn a_killed_add_of_two_networks_is_done_by_the_next_add() {
    killed_everywhere(&two_networks(), Verb::Add, Undo::AddAndDel);
}

#[test]
fn a_killed_del_of_two_networks_is_done_by_gc() {
    killed_everywhere(&two_networks(), Verb::Del, Undo::Gc);
}

#[test]
fn a_killed_gc_of_two_networks_is_done_by_del() {
    killed_everywhere(&two_networks(), Verb::GcThatRemoves, Undo::Del);
}
