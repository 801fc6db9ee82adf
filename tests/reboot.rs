//! A reboot of the node, with what is on its disk after it: no address is lost, and none that lives is given away.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap, values};
use testnode::{
    Attachment, Call, Catena, HttpServer, Node, PluginOutput, Plugins, Restart, Runtime, Shared,
    assert_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const RESTARTS: [Restart; 2] = [Restart::Machine, Restart::Container];
const LEASES: &str = "/var/lib/cni/networks/web";

/// Five addresses are to be had.
fn small() -> Value {
    let mut bridge = bridge("cni0", &["10.1.0.0/29"]);
    bridge["ipMasq"] = json!(true);
    conflist("web", &[bridge, portmap(), bandwidth()])
}

fn catena(node: &Node, port: u16) -> Catena<'_> {
    Catena::new(node, CATENA).cap_args(&port_and_rates(port))
}

/// Adds as many containers as there are addresses.
fn fill(node: &Node, name: &str) {
    for i in 0..5 {
        catena(node, 8000 + i).add(&small(), &node.container(&format!("{name}{i}")));
    }
}

/// A runtime whose containers are attached to three networks of five addresses each.
fn three(node: &Node) -> Runtime<'_> {
    let delegate = |name: &str, device: &str, subnet: &str| {
        let mut list = conflist(name, &[bridge(device, &[subnet])]);
        list["cniVersion"] = json!("1.0.0");
        list["plugins"][0]["ipam"]["routes"] = json!([]);
        list
    };
    let delegates = [
        delegate("one", "on0", "10.1.0.0/29"),
        delegate("two", "tw0", "10.2.0.0/29"),
        delegate("three", "th0", "10.3.0.0/29"),
    ];
    let plugins = Plugins::new(node, [links(node, CATENA, &["catena"])]);
    Runtime::new(plugins, conflist("all", &[json!({ "type": "catena", "delegates": delegates })]))
}

/// The addresses that have a lease, with their owners.
fn leases() -> Vec<String> {
    let files = fs::read_dir(LEASES).unwrap().map(|file| file.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut leases: Vec<_> = files
        .filter(|path| name(path).parse::<IpAddr>().is_ok())
        .map(|path| format!("{} {}", name(&path), fs::read_to_string(&path).unwrap()))
        .collect();
    leases.sort();
    leases
}

/// What is on the disk of the network's attachments.
fn records() -> Vec<PathBuf> {
    let dir = fs::read_dir("/var/lib/catena/attachments/web").unwrap();
    dir.map(|file| file.unwrap().path()).collect()
}

#[test]
fn a_subnet_that_was_full_before_a_reboot_is_free_again() {
    for restart in RESTARTS {
        let node = Node::new();
        let full = |name: &str| {
            let refused = catena(&node, 9000).try_add(&small(), &node.container(name));
            let refused = PluginOutput::from(refused);
            assert!(refused.error_text().contains("no free address"), "{refused}");
        };
        let before = node.snapshot();
        fill(&node, "old");
        full("more");
        for boot in 0..2 {
            node.restart(restart);
            // Other names than before, and the same.
            fill(&node, if boot == 0 { "new" } else { "old" });
            full("more");
            node.run(["ip", "netns", "del", "more"]);
        }
        // DELs that come late, of before both: nothing of their successors goes.
        let held = leases();
        for i in 0..5 {
            let gone = Path::new("/run/netns").join(format!("new{i}"));
            catena(&node, 8000 + i).try_del(&small(), &gone).success();
        }
        assert_eq!(leases(), held);
        assert_eq!(records().len(), 5);
        for i in 0..5 {
            let netns = Path::new("/run/netns").join(format!("old{i}"));
            catena(&node, 8000 + i).try_check(&small(), &netns_of(&netns)).success();
            catena(&node, 8000 + i).try_del(&small(), &netns).success();
        }
        let shared = Shared::none().catena("web").device("cni0");
        assert_same(&before, &node.snapshot(), &shared);
    }
}

#[test]
fn all_networks_of_a_container_are_free_again_after_a_reboot() {
    for restart in RESTARTS {
        let node = Node::new();
        let runtime = three(&node);
        let before = node.snapshot();
        let add = |name: &str| runtime.add(&Attachment::new(&node.container(name))).map(drop);
        let fill = || {
            for i in 0..5 {
                add(&format!("c{i}")).unwrap_or_else(|e| panic!("{e}"));
            }
            let refused = add("more").unwrap_err().output.error_text();
            assert!(refused.contains("no free address"), "{refused}");
            node.run(["ip", "netns", "del", "more"]);
        };
        fill();
        node.restart(restart);
        // Containers of the same names come again, of whose predecessors nobody has said that they are gone.
        fill();
        node.restart(restart);
        // The runtime says so only now, of each or of all.
        for i in 0..3 {
            let gone = Attachment::new(&node.container(&format!("c{i}"))).without_netns();
            runtime.del(&gone).unwrap_or_else(|e| panic!("{e}"));
            node.run(["ip", "netns", "del", &format!("c{i}")]);
        }
        runtime.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
        let shared =
            ["all", "one", "two", "three"].into_iter().fold(Shared::none(), Shared::catena);
        assert_same(&before, &node.snapshot(), &shared.directory("/var/lib/catena/pods"));
    }
}

fn netns_of(path: &Path) -> testnode::Netns {
    testnode::Netns::at("a container", path)
}

#[test]
fn after_a_reboot_nothing_of_before_is_in_the_ruleset() {
    for restart in RESTARTS {
        let node = Node::new();
        fill(&node, "old");
        node.restart(restart);
        let c1 = node.container("c1");
        catena(&node, 8080).add(&small(), &c1);
        let _server = HttpServer::start(&c1, 80, "c1");
        let page = http_get(&node, "http://127.0.0.1:8080/").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(page.text, "c1");
        let ruleset = node.run(["nft", "list", "ruleset"]);
        assert!(ruleset.contains("8080") && !ruleset.contains("800"), "{ruleset}");
        // GC without a word removes what no longer has a namespace, all of before, and keeps what lives.
        catena(&node, 8080).gc(&small(), &[]).success();
        assert_eq!(records().len(), 1);
        assert_eq!(leases().len(), 1);
        catena(&node, 8080).check(&small(), &c1);
    }
}

#[test]
fn what_lives_is_never_taken_for_another_boot_s() {
    for restart in RESTARTS {
        let node = Node::new();
        fill(&node, "old");
        node.restart(restart);
        // All five are in use in this boot, by Catena and by the Go plugin.
        let first = node.container("first");
        catena(&node, 8000).add(&small(), &first);
        let ipam = json!({ "cniVersion": "1.0.0", "name": "web", "type": "bridge",
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/29" }]] } });
        let go = Plugins::debian(&node);
        let call = |verb: &str, id: &str| {
            let call = Call::of(verb, &Attachment::new(&first).container_id(id));
            go.call("host-local", &call, &ipam.to_string())
        };
        let more: Vec<_> = (1..5)
            .map(|i| {
                let container = node.container(&format!("next{i}"));
                catena(&node, 8000 + i).add(&small(), &container);
                container
            })
            .collect();
        let held = leases();
        let refused = call("ADD", "go");
        assert!(refused.error_text().contains("no IP addresses available"), "{refused}");
        let refused = catena(&node, 9000).try_add(&small(), &node.container("more"));
        assert!(refused.failure().stdout.contains("no free address"));
        assert_eq!(leases(), held);
        // One goes, and the Go plugin gets it; after that a reboot does not free it, since its boot is not known.
        catena(&node, 8004).del(&small(), &more[3]);
        call("ADD", "go").result();
        node.restart(restart);
        for i in 0..4 {
            catena(&node, 8000 + i).add(&small(), &node.container(&format!("last{i}")));
        }
        let refused = catena(&node, 9000).try_add(&small(), &node.container("more"));
        assert!(refused.failure().stdout.contains("no free address"));
        assert!(leases().iter().any(|lease| lease.contains(" go\r\n")), "{:?}", leases());
        call("DEL", "go").success();
        catena(&node, 8004).add(&small(), &node.container("last4"));
    }
}

#[test]
fn both_host_locals_on_one_directory_at_the_same_time_lose_and_double_no_address() {
    const WORKERS: usize = 6;
    const ROUNDS: usize = 30;
    let node = Node::new();
    let c1 = node.container("c1");
    let ours = links(&node, CATENA, &["host-local"]);
    let plugins = [Plugins::new(&node, [&ours]), Plugins::debian(&node)];
    // As many addresses as each worker may have at a time, and no more.
    let ipam = json!({ "cniVersion": "1.0.0", "name": "web", "type": "bridge", "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "rangeEnd": "10.1.0.21" }]]
    } })
    .to_string();
    let living = Mutex::new(BTreeSet::new());
    let done: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (plugins, ipam, living, c1) = (&plugins, &ipam, &living, &c1);
                scope.spawn(move || {
                    let mut held: Vec<(String, String)> = Vec::new();
                    let mut random = 7 + worker as u64 * 7919;
                    let mut pick = |below: u64| {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (random >> 33) % below
                    };
                    let mut done = 0;
                    for round in 0..ROUNDS {
                        let plugin = &plugins[usize::from(pick(2) == 1)];
                        let call = |verb: &str, id: &str| {
                            let call = Call::of(verb, &Attachment::new(c1).container_id(id));
                            plugin.call("host-local", &call, ipam)
                        };
                        if held.len() < 2 && (held.is_empty() || pick(2) == 0) {
                            let id = format!("w{worker}-{round}");
                            let result = call("ADD", &id).result();
                            let address = result["ips"][0]["address"].as_str().unwrap().to_owned();
                            let fresh = living.lock().unwrap().insert(address.clone());
                            assert!(fresh, "{address} is given out twice, the second time to {id}");
                            held.push((id, address));
                        } else {
                            let (id, address) = held.swap_remove(pick(held.len() as u64) as usize);
                            living.lock().unwrap().remove(&address);
                            call("DEL", &id).success();
                        }
                        done += 1;
                    }
                    for (id, address) in held {
                        living.lock().unwrap().remove(&address);
                        let call = Call::of("DEL", &Attachment::new(c1).container_id(&id));
                        plugins[worker % 2].call("host-local", &call, ipam).success();
                    }
                    done
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("{done} ADDs and DELs of both plugins by {WORKERS} workers");
    assert_eq!(leases(), Vec::<String>::new());
    // All of them are to be had again.
    for i in 0..12 {
        let call = Call::of("ADD", &Attachment::new(&c1).container_id(&format!("last{i}")));
        plugins[i % 2].call("host-local", &call, &ipam).result();
    }
    assert_eq!(leases().len(), 12);
}

#[test]
fn a_clock_that_jumps_loses_no_lease_that_lives() {
    let node = Node::new();
    let preload = node.run(["sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1"]);
    let at = |offset: &str| {
        // File times are the kernel's, and not faked: the jump is between the process and its files.
        catena(&node, 8000).env("LD_PRELOAD", preload.trim()).env("FAKETIME", offset)
    };
    let containers: Vec<_> = (0..5).map(|i| node.container(&format!("c{i}"))).collect();
    let offsets = ["-20y", "+0", "+20y", "-1h", "+1h"];
    for (i, (container, offset)) in containers.iter().zip(offsets).enumerate() {
        let ports = port_and_rates(8000 + u16::try_from(i).unwrap());
        at(offset).cap_args(&ports).add(&small(), container);
    }
    let created = |record: &PathBuf| {
        let record = fs::read_to_string(record).unwrap();
        let first: Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
        first["created"].as_u64().unwrap()
    };
    let created: Vec<_> = records().iter().map(created).collect();
    let apart = created.iter().max().unwrap() - created.iter().min().unwrap();
    assert!(apart > 39 * 365 * 86400, "the clock was not where it was to be: {created:?}");
    let held = leases();
    assert_eq!(held.len(), 5);
    for offset in offsets {
        let refused = at(offset).cap_args(&port_and_rates(9000));
        let refused =
            refused.try_add(&small(), &node.container(&format!("more{offset}"))).failure();
        assert!(refused.stdout.contains("no free address"), "{refused}");
        for container in &containers {
            at(offset).check(&small(), container);
        }
        at(offset).gc(&small(), &[]).success();
        assert_eq!(leases(), held, "{offset}");
    }
    // The files' own times jump.
    for time in ["1980-01-01", "2090-01-01"] {
        node.run([
            "sh",
            "-c",
            &format!("find {LEASES} /var/lib/catena -exec touch -d {time} {{}} +"),
        ]);
        let refused = at("+0").cap_args(&port_and_rates(9000));
        let refused = refused.try_add(&small(), &node.container(&format!("more{time}"))).failure();
        assert!(refused.stdout.contains("no free address"), "{refused}");
        at("+0").gc(&small(), &[]).success();
        assert_eq!(leases(), held, "{time}");
    }
    for (container, offset) in containers.iter().zip(offsets.iter().rev()) {
        at(offset).del(&small(), container);
    }
    assert_eq!(leases(), Vec::<String>::new());
}

#[test]
fn a_power_cut_that_empties_what_was_not_synced_loses_no_address() {
    for cut in ["leases", "index", "both", "records"] {
        let node = Node::new();
        fill(&node, "old");
        let mut files = Vec::new();
        if cut != "index" {
            files.extend(fs::read_dir(LEASES).unwrap().map(|file| file.unwrap().path()));
        }
        if cut != "leases" {
            let index = fs::read_dir("/var/lib/catena/leases").unwrap().next().unwrap().unwrap();
            files.extend(fs::read_dir(index.path()).unwrap().map(|file| file.unwrap().path()));
            // The stamp is written once in a boot, and synced.
            files.retain(|file| !file.ends_with(".stamp"));
        }
        if cut == "records" {
            // The first line is synced before ADD does anything; what follows is when it is done.
            for record in records() {
                let text = fs::read_to_string(&record).unwrap();
                fs::write(&record, format!("{}\n{{\"add", text.lines().next().unwrap())).unwrap();
            }
        }
        for file in &files {
            fs::write(file, "").unwrap();
            // It takes its time until a node is up again.
            node.run(["touch".as_ref(), "-d".as_ref(), "-5 min".as_ref(), file.as_os_str()]);
        }
        node.restart(Restart::Machine);
        fill(&node, "new");
        let refused = catena(&node, 9000).try_add(&small(), &node.container("more")).failure();
        assert!(refused.stdout.contains("no free address"), "{cut}: {refused}");
        for lease in leases() {
            assert!(lease.contains("cnitool"), "{cut}: {lease}");
        }
        let addresses: Vec<Value> = (0..5)
            .map(|i| {
                let path = Path::new("/run/netns").join(format!("new{i}"));
                catena(&node, 8000 + i).try_check(&small(), &netns_of(&path)).success();
                netns_of(&path).json(["ip", "-j", "-4", "addr", "show", "eth0"])
            })
            .collect();
        let addresses: BTreeSet<_> = addresses.iter().flat_map(|a| values(a, "local")).collect();
        assert_eq!(addresses.len(), 5, "{cut}");
        for name in ["old", "new"] {
            for i in 0..5 {
                let path = Path::new("/run/netns").join(format!("{name}{i}"));
                catena(&node, 8000 + i).try_del(&small(), &path).success();
            }
        }
        assert_eq!(leases(), Vec::<String>::new(), "{cut}");
        let left: Vec<_> = records()
            .into_iter()
            .filter(|file| file.extension() != Some("corrupt".as_ref()))
            .collect();
        assert_eq!(left, Vec::<PathBuf>::new(), "{cut}");
    }
}
