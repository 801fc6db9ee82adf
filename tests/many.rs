//! Many attachments come and go at once, and each has what is its own.
#![allow(clippy::unwrap_used, reason = "test code")]
#![allow(clippy::print_stdout, reason = "how much was tried is a part of the answer")]

use std::collections::HashMap;
use std::env;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap};
use testnode::{
    Attachment, Catena, Container, Node, PluginOutput, Plugins, Runtime, Shared, assert_same, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
/// How many ADDs and DELs.
const OPERATIONS: usize = 200;
/// How many at once.
const AT_ONCE: usize = 16;
/// How many containers each of those has to choose from: more in all than the subnet has addresses.
const CONTAINERS: usize = 2;
/// How many host ports the containers choose from; every second one wants none.
const PORTS: usize = 6;

/// 13 addresses and the gateway's.
fn plugins() -> Vec<Value> {
    let mut bridge = bridge("cni0", &["10.1.0.0/28"]);
    bridge["ipMasq"] = json!(true);
    vec![bridge, portmap(), bandwidth()]
}

/// The chain, for a runtime that executes each plugin.
fn each() -> Value {
    conflist("web", &plugins())
}

/// The same in one process.
fn one() -> Value {
    let capabilities = json!({ "portMappings": true, "bandwidth": true });
    conflist(
        "web",
        &[json!({ "type": "catena", "capabilities": capabilities, "plugins": plugins() })],
    )
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

fn runtime(node: &Node, list: Value) -> Runtime<'_> {
    let names = ["catena", "bridge", "host-local", "portmap", "bandwidth"];
    Runtime::new(Plugins::new(node, [links(node, CATENA, &names)]), list)
}

fn with_port(container: &Container, host_port: Option<u16>) -> Attachment {
    let args = port_and_rates(host_port.unwrap_or_default());
    let attachment = Attachment::new(container).capability("bandwidth", args["bandwidth"].clone());
    match host_port {
        Some(_) => attachment.capability("portMappings", args["portMappings"].clone()),
        None => attachment,
    }
}

/// The numbers of one worker, from the seed of all (SplitMix64).
struct Random(u64);

impl Random {
    /// Those of a worker.
    fn of(worker: usize) -> Self {
        Self(seed().wrapping_add(0x1234_5678_9abc_def1_u64.wrapping_mul(worker as u64 + 1)))
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// `MANY_SEED`, or the time.
fn seed() -> u64 {
    static SEED: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let seed = env::var("MANY_SEED").map_or_else(
            |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
            |seed| seed.parse().unwrap(),
        );
        println!("MANY_SEED={seed}");
        seed
    });
    *SEED
}

/// Who has which address and which port, from the end of ADD to the beginning of DEL.
#[derive(Default)]
struct Living(Mutex<HashMap<String, String>>);

impl Living {
    fn enter(&self, container: &str, things: &[String]) {
        let mut living = self.0.lock().unwrap();
        for thing in things {
            let other = living.insert(thing.clone(), container.to_owned());
            assert_eq!(other, None, "{container} was given {thing} as well");
        }
    }

    fn leave(&self, things: &[String]) {
        let mut living = self.0.lock().unwrap();
        for thing in things {
            living.remove(thing);
        }
    }
}

/// What became of the operations.
#[derive(Default, Debug)]
struct Tally {
    added: AtomicUsize,
    deleted: AtomicUsize,
    no_address: AtomicUsize,
    port_taken: AtomicUsize,
}

/// One container and what it has, if it is attached.
struct Member {
    container: Container,
    attached: Option<(Attachment, Vec<String>)>,
}

fn attach(
    runtime: &Runtime<'_>,
    member: &mut Member,
    port: Option<u16>,
    living: &Living,
    tally: &Tally,
) {
    let attachment = with_port(&member.container, port);
    match runtime.add(&attachment) {
        Ok(result) => {
            let address = result["ips"][0]["address"].as_str().unwrap().to_owned();
            let port = port.map(|port| format!("port {port}"));
            let things: Vec<_> = [address].into_iter().chain(port).collect();
            living.enter(member.container.name(), &things);
            tally.added.fetch_add(1, Ordering::Relaxed);
            runtime.check(&attachment).unwrap_or_else(|failure| panic!("{failure}"));
            member.attached = Some((attachment, things));
        }
        Err(failure) => {
            let (code, text) = (failure.output.error_code(), failure.output.error_text());
            let count = match code {
                999 if text.contains("no free address") => &tally.no_address,
                11 if is_about(port, &text) && text.contains("has it") => &tally.port_taken,
                _ => panic!("{failure}"),
            };
            count.fetch_add(1, Ordering::Relaxed);
            // As runtimes do.
            runtime.del(&attachment).unwrap_or_else(|failure| panic!("{failure}"));
        }
    }
}

fn is_about(port: Option<u16>, text: &str) -> bool {
    port.is_some_and(|port| text.contains(&format!(":{port}/tcp")))
}

fn detach(runtime: &Runtime<'_>, member: &mut Member, living: &Living, tally: &Tally) {
    let Some((attachment, things)) = member.attached.take() else { return };
    living.leave(&things);
    runtime.del(&attachment).unwrap_or_else(|failure| panic!("{failure}"));
    tally.deleted.fetch_add(1, Ordering::Relaxed);
}

fn many_at_once(list: Value) {
    let node = Node::new();
    let runtime = runtime(&node, list);
    let first = Attachment::new(&node.container("first"));
    runtime.add(&first).unwrap();
    runtime.del(&first).unwrap();
    let before = node.snapshot();
    let (living, tally, operations) = (Living::default(), Tally::default(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 0..AT_ONCE {
            let (node, runtime, living, tally, operations) =
                (&node, &runtime, &living, &tally, &operations);
            scope.spawn(move || {
                let mut random = Random::of(worker);
                let new = |n| Member {
                    container: node.container(&format!("c{worker}-{n}")),
                    attached: None,
                };
                let mut members: Vec<_> = (0..CONTAINERS).map(new).collect();
                while operations.fetch_add(1, Ordering::Relaxed) < OPERATIONS {
                    let member = &mut members[random.below(CONTAINERS)];
                    if member.attached.is_some() {
                        detach(runtime, member, living, tally);
                    } else {
                        let port = random.below(2 * PORTS);
                        let port = (port < PORTS).then_some(8000 + port as u16);
                        attach(runtime, member, port, living, tally);
                    }
                }
                for member in &mut members {
                    detach(runtime, member, living, tally);
                }
            });
        }
    });
    println!("{OPERATIONS} operations, {AT_ONCE} at once: {tally:?}");
    assert_same(&before, &node.snapshot(), &shared());
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert_eq!(count(&tally.added), count(&tally.deleted));
    for some in [&tally.added, &tally.no_address, &tally.port_taken] {
        assert!(count(some) > 0, "{tally:?}");
    }
}

#[test]
fn many_that_are_attached_at_once_by_one_chain_share_nothing() {
    many_at_once(one());
}

#[test]
fn many_that_are_attached_at_once_plugin_by_plugin_share_nothing() {
    many_at_once(each());
}

/// A glance into a container, for a comparison.
fn inside(container: &Container) -> String {
    container.run(["sh", "-c", "ip address; ip route show table all; tc qdisc"])
}

/// Runs both at the same moment.
fn together<A: Send, B: Send>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    let start = Barrier::new(2);
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            start.wait();
            other()
        });
        start.wait();
        let one = one();
        (one, other.join().unwrap())
    })
}

fn tool<'n>(node: &'n Node, container: &Container) -> Catena<'n> {
    let catena = Catena::new(node, CATENA).env("CNI_CONTAINERID", container.name());
    catena.cap_args(&port_and_rates(8080))
}

/// The same after a first attachment came and went, so that what networks share is there.
fn tool_after_one<'n>(node: &'n Node, container: &Container) -> Catena<'n> {
    let catena = tool(node, container);
    catena.add(&each(), container);
    catena.del(&each(), container);
    catena
}

#[test]
fn an_add_and_a_del_of_one_container_at_once_leave_it_whole_or_gone() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = tool_after_one(&node, &c1);
    let (before, within) = (node.snapshot(), inside(&c1));
    let (mut whole, mut gone) = (0, 0);
    for _ in 0..20 {
        let (added, deleted) =
            together(|| catena.try_add(&each(), &c1), || catena.try_del(&each(), c1.path()));
        added.success();
        deleted.success();
        if catena.try_check(&each(), &c1).is_success() {
            whole += 1;
            catena.del(&each(), &c1);
        } else {
            gone += 1;
            assert_same(&before, &node.snapshot(), &shared());
        }
        assert_eq!(within, inside(&c1));
        // The other way round: one that is attached is deleted and added.
        catena.add(&each(), &c1);
        let (deleted, added) =
            together(|| catena.try_del(&each(), c1.path()), || catena.try_add(&each(), &c1));
        deleted.success();
        if added.is_success() {
            catena.check(&each(), &c1);
        } else {
            let text = PluginOutput::from(added).error_text();
            assert!(text.contains("already") && text.contains("DEL it first"), "{text}");
        }
        catena.del(&each(), &c1);
        assert_eq!(within, inside(&c1));
    }
    println!("ADD and DEL at once: {whole} were attached in the end, {gone} were not");
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn a_plugin_by_plugin_add_and_del_of_one_container_at_once_are_undone_by_del() {
    let node = Node::new();
    let c1 = node.container("c1");
    let runtime = runtime(&node, each());
    let attachment = with_port(&c1, Some(8080));
    runtime.add(&attachment).unwrap();
    runtime.del(&attachment).unwrap();
    let (before, within) = (node.snapshot(), inside(&c1));
    for _ in 0..20 {
        // ADD fails where DEL takes away what the next plugin builds on.
        let (_, deleted) = together(|| runtime.add(&attachment), || runtime.del(&attachment));
        deleted.unwrap();
        runtime.del(&attachment).unwrap();
        assert_eq!(within, inside(&c1));
    }
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn of_two_adds_of_one_container_at_once_one_is_done() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = tool_after_one(&node, &c1);
    let before = node.snapshot();
    for _ in 0..20 {
        let (one, other) =
            together(|| catena.try_add(&each(), &c1), || catena.try_add(&each(), &c1));
        assert_ne!(one.is_success(), other.is_success(), "{one}\n{other}");
        let refused = if one.is_success() { other } else { one };
        let text = PluginOutput::from(refused).error_text();
        assert!(text.contains("already") && text.contains("DEL it first"), "{text}");
        catena.check(&each(), &c1);
        catena.del(&each(), &c1);
    }
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn gc_leaves_what_is_being_added_and_on_its_list() {
    const ADDS: usize = 20;
    const ADDERS: usize = 3;
    let node = Node::new();
    let containers: Vec<_> = (0..ADDERS).map(|n| node.container(&format!("c{n}"))).collect();
    tool_after_one(&node, &containers[0]);
    let before = node.snapshot();
    let list: Vec<_> = containers.iter().map(|c| format!("--keep={}/eth0", c.name())).collect();
    let list: Vec<_> = list.iter().map(String::as_str).collect();
    let (adding, mut collected) = (AtomicUsize::new(ADDERS), 0);
    thread::scope(|scope| {
        for (n, container) in containers.iter().enumerate() {
            let (node, adding) = (&node, &adding);
            scope.spawn(move || {
                // Also where this one fails GC has to come to its end.
                let _adding = Leaves(adding);
                let catena = tool(node, container).cap_args(&port_and_rates(8080 + n as u16));
                for _ in 0..ADDS {
                    catena.add(&each(), container);
                    catena.check(&each(), container);
                    catena.del(&each(), container);
                }
            });
        }
        while adding.load(Ordering::Relaxed) > 0 {
            Catena::new(&node, CATENA).gc(&each(), &list).success();
            collected += 1;
        }
    });
    println!("{} ADDs beside {collected} GCs", ADDS * ADDERS);
    assert_same(&before, &node.snapshot(), &shared());
}

/// Counts down when it goes.
struct Leaves<'c>(&'c AtomicUsize);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn gc_leaves_what_is_being_added_whole_or_removes_it_whole() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = tool_after_one(&node, &c1);
    let before = node.snapshot();
    let (mut whole, mut gone) = (0, 0);
    for _ in 0..60 {
        let (added, collected) =
            together(|| catena.try_add(&each(), &c1), || catena.gc(&each(), &["--all"]));
        added.success();
        collected.success();
        let checked = catena.try_check(&each(), &c1);
        if checked.is_success() {
            whole += 1;
            catena.del(&each(), &c1);
        } else {
            gone += 1;
            eprintln!("{checked}");
            assert_same(&before, &node.snapshot(), &shared());
        }
    }
    println!("ADD and GC at once: {whole} were attached in the end, {gone} were not");
    assert_same(&before, &node.snapshot(), &shared());
}
