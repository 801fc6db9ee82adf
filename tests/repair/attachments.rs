//! Which attachments are repaired.

use super::*;

/// The condition of each attachment in a report, by network and interface's container.
fn conditions(report: &Value) -> Vec<(&str, &str)> {
    let attachments = report["attachments"].as_array().unwrap().iter();
    attachments
        .map(|one| (one["network"].as_str().unwrap(), one["condition"].as_str().unwrap()))
        .collect()
}

fn repair(node: &Node, args: &[&str]) -> (Value, bool) {
    let output = Catena::new(node, CATENA).cmd([&["repair"], args].concat()).output();
    let done = output.is_success();
    (serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output}")), done)
}

#[test]
fn all_living_attachments_are_repaired_or_those_of_one_network() {
    let node = Node::new();
    let [c1, c2, gone] = ["c1", "c2", "gone"].map(|name| node.container(name));
    let web = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), portmap()]);
    let db = conflist("db", &[bridge("cni1", &["10.2.0.0/24"]), portmap()]);
    let catena = |port| Catena::new(&node, CATENA).cap_args(&capabilities(port));
    assert_eq!(repair(&node, &[]), (json!({ "attachments": [] }), true), "nothing is on record");
    catena(8080).add(&web, &c1);
    catena(8081).add(&db, &c2);
    catena(8082).add(&web, &gone);
    gone.delete();
    for bridge in ["cni0", "cni1"] {
        node.ip(&format!("link del {bridge}\n"));
    }
    node.run(["nft", "flush", "ruleset"]);

    let (report, well) = repair(&node, &["web"]);
    assert!(well, "{report}");
    assert_eq!(conditions(&report), [("web", "repaired")], "of its living ones");
    assert!(!node.try_run(["ip", "link", "show", "cni1"]).is_success());
    catena(8080).check(&web, &c1);
    let rules = node.run(["nft", "list", "table", "inet", "catena"]);
    assert!(rules.contains("8080") && !rules.contains("8082"), "{rules}");

    let (report, well) = repair(&node, &[]);
    assert!(well, "{report}");
    assert_eq!(conditions(&report), [("db", "repaired"), ("web", "well")]);
    catena(8081).check(&db, &c2);
    let output = Catena::new(&node, CATENA).cmd(["repair", "-o", "table"]).output().success();
    assert!(output.starts_with("db cnitool-") && output.contains("/eth0: well\n"), "{output}");
    Catena::new(&node, CATENA).cmd(["repair", "../web"]).output().failure();
    let output = Catena::new(&node, CATENA).cmd(["repair", "nosuch"]).output().failure();
    assert!(output.stderr.contains(r#""nosuch""#), "{output}");
    assert!(output.stderr.contains("these have: db, web"), "{output}");
}

/// The pair of a bridge, by which neighbours reach each other's ports, is for bridges that the node is on, and ports with
/// `snat`.
#[test]
fn a_flushed_ruleset_comes_back_without_what_add_never_made() {
    let mut unrouted = bridge("cni0", &["10.1.0.0/24"]);
    unrouted["isGateway"] = json!(false);
    unrouted["isDefaultGateway"] = json!(false);
    let mut unmasqueraded = portmap();
    unmasqueraded["snat"] = json!(false);
    for (of, paired) in [
        ([unrouted, portmap()], false),
        ([bridge("cni0", &["10.1.0.0/24"]), unmasqueraded], false),
        ([bridge("cni0", &["10.1.0.0/24"]), portmap()], true),
    ] {
        let node = Node::new();
        let list = conflist("web", &of);
        let c1 = node.container("c1");
        Catena::new(&node, CATENA).cap_args(&capabilities(8080)).add(&list, &c1);
        let before = node.run(["nft", "list", "table", "inet", "catena"]);
        assert_eq!(before.contains(r#""cni0" . "cni0""#), paired, "{before}");
        node.run(["nft", "flush", "ruleset"]);
        let (report, well) = repair(&node, &[]);
        assert!(well, "{report}");
        assert_eq!(node.run(["nft", "list", "table", "inet", "catena"]), before);
    }
}

#[test]
fn what_cannot_be_put_back_is_told_and_the_rest_is_put_back() {
    let node = Node::new();
    let scene = Scene::new(&node, with_bridge());
    scene.c1.ip("link del eth0\n");
    node.run(["nft", "flush", "ruleset"]);
    let output = scene.catena().cmd(["repair"]).output().failure();
    assert!(output.stderr.contains("1 of 1 attachments miss something"), "{output}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    let attachment = &report["attachments"][0];
    assert_eq!(attachment["condition"], "damaged");
    let left = attachment["left"].to_string();
    assert!(left.contains("there is no interface eth0 in /run/netns/c1"), "{left}");
    assert!(!left.contains("nf_tables"), "{left}");
    scene.catena().del(&scene.list, &scene.c1);
    assert_eq!(repair(&node, &[]).0, json!({ "attachments": [] }));
}

#[test]
fn a_bridge_that_comes_back_has_the_address_that_its_containers_know() {
    let node = Node::new();
    let scene = Scene::new(&node, with_bridge());
    let mac = |node: &Node| {
        node.json(["ip", "-j", "link", "show", "cni0"])[0]["address"].as_str().unwrap().to_owned()
    };
    let before = mac(&node);
    node.ip("link del cni0\n");
    // By the next ADD: it makes the bridge for its own container.
    let _c2 = add_another(&node, &scene.list);
    assert_eq!(mac(&node), before);
    scene.catena().try_check(&scene.list, &scene.c1).failure();
    let (report, well) = repair(&node, &[]);
    assert!(well, "{report}");
    assert_eq!(report["attachments"].as_array().unwrap().len(), 2);
    scene.works();
}

#[test]
fn what_a_runtime_made_plugin_by_plugin_is_repaired_and_chains_within_chains() {
    let node = Node::new();
    let subnets = |n: u8| [format!("10.{n}.0.0/24"), format!("fd00:{n}::/64")];
    let chain_on = |n: u8| {
        let subnets = subnets(n);
        chain(bridge(&format!("cni{n}"), &[&subnets[0], &subnets[1]]))
    };
    let list = chain_on(1);
    let has = json!({ "portMappings": true, "bandwidth": true });
    let with_chain =
        |n: u8| json!({ "type": "catena", "capabilities": has, "plugins": chain_on(n)["plugins"] });
    let names =
        ["bridge", "host-local", "portmap", "bandwidth", "firewall", "snat", "tuning", "catena"];
    let bin = links(&node, CATENA, &names);
    let runtime = |list: &Value| Runtime::new(Plugins::new(&node, [&bin]), list.clone());
    let one_by_one = runtime(&list);
    let within = conflist("in", &[with_chain(2)]);
    let meta = runtime(&within);
    let of = |container: &Container, port| {
        let capabilities = capabilities(port);
        let capabilities = capabilities.as_object().unwrap().clone();
        capabilities.into_iter().fold(Attachment::new(container), |attachment, (name, value)| {
            attachment.capability(&name, value)
        })
    };
    let [c1, c2, c3] = ["c1", "c2", "c3"].map(|name| node.container(name));
    one_by_one.add(&of(&c1, 8080)).unwrap();
    meta.add(&of(&c2, 8081)).unwrap();
    // A chain of Catena's in which a delegate has one of its own.
    let outer = conflist("out", &[with_chain(3)]);
    let tool = Catena::new(&node, CATENA).cap_args(&capabilities(8082));
    tool.add(&outer, &c3);

    node.ip("link del cni1\nlink del cni2\nlink del cni3\n");
    node.run(["nft", "flush", "ruleset"]);
    for container in [&c1, &c2, &c3] {
        container.run(["ip", "-6", "route", "del", "default"]);
    }
    let (report, well) = repair(&node, &[]);
    assert!(well, "{report}");
    let found = conditions(&report);
    assert!(found.iter().all(|(_, condition)| *condition == "repaired" || *condition == "well"));
    assert_eq!(found.iter().filter(|(network, _)| *network == "out").count(), 1, "{report}");
    one_by_one.check(&of(&c1, 8080)).unwrap();
    meta.check(&of(&c2, 8081)).unwrap();
    tool.check(&outer, &c3);
}

#[test]
fn what_a_later_plugin_changed_is_kept_where_the_interface_is_of_a_chain_within() {
    let node = Node::new();
    let c1 = node.container("c1");
    let mut guarded = bridge("cni0", &["10.1.0.0/24"]);
    guarded["macspoofchk"] = json!(true);
    let within = json!({ "type": "catena", "plugins": [guarded, portmap()] });
    let tuning = json!({ "type": "tuning", "mac": "02:11:22:33:44:55" });
    let list = conflist("web", &[within, tuning]);
    let catena = Catena::new(&node, CATENA).cap_args(&capabilities(8080));
    catena.add(&list, &c1);
    let works = || {
        c1.run(["ip", "neigh", "flush", "all"]);
        c1.ping("10.1.0.1");
        catena.check(&list, &c1);
    };
    works();
    for damage in [
        "nft flush ruleset",
        "nft delete element bridge catena macs '{ '$(ls /sys/class/net/cni0/brif)' . 02:11:22:33:44:55 }'",
    ] {
        node.run(["sh", "-c", damage]);
        let (report, well) = repair(&node, &[]);
        assert!(well, "{damage}: {report}");
        works();
    }
}

#[test]
fn what_a_later_plugin_changed_is_kept_where_a_runtime_runs_them_one_by_one() {
    let node = Node::new();
    let [c1, c2] = ["c1", "c2"].map(|name| node.container(name));
    let mut guarded = bridge("cni0", &["10.1.0.0/24"]);
    guarded["macspoofchk"] = json!(true);
    let tuning = json!({ "type": "tuning", "mac": "02:11:22:33:44:55" });
    let list = conflist("web", &[guarded, portmap(), tuning]);
    let bin = links(&node, CATENA, &["bridge", "host-local", "portmap", "tuning"]);
    let runtime = Runtime::new(Plugins::new(&node, [&bin]), list);
    runtime.add(&Attachment::new(&c1)).unwrap();
    let works = || {
        assert!(c1.run(["ip", "link", "show", "eth0"]).contains("02:11:22:33:44:55"));
        c1.run(["ip", "neigh", "flush", "all"]);
        c1.ping("10.1.0.1");
        runtime.check(&Attachment::new(&c1)).unwrap();
    };
    works();
    for args in [&["--dry-run"][..], &[]] {
        let (report, well) = repair(&node, args);
        assert!(well && conditions(&report).iter().all(|(_, is)| *is == "well"), "{report}");
        works();
    }
    node.run(["nft", "flush", "ruleset"]);
    runtime.add(&Attachment::new(&c2)).unwrap();
    works();
    node.run(["nft", "flush", "ruleset"]);
    let (report, well) = repair(&node, &[]);
    assert!(well, "{report}");
    works();
}

#[test]
fn beside_adds_and_dels_a_repair_brings_nothing_back_that_was_deleted() {
    let node = Node::new();
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), portmap(), bandwidth()]);
    let before = node.snapshot();
    let containers: Vec<_> = (0..4).map(|n| node.container(&format!("c{n}"))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (node, list, done) = (&node, &list, &done);
        let repairs = scope.spawn(move || {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                // With each repair there is something to be done for those that live.
                node.run(["nft", "flush", "ruleset"]);
                let _ = repair(node, &[]);
                count += 1;
            }
            count
        });
        let attached: Vec<_> = containers
            .iter()
            .enumerate()
            .map(|(n, container)| {
                scope.spawn(move || {
                    let catena = Catena::new(node, CATENA)
                        .cap_args(&capabilities(8080 + u16::try_from(n).unwrap()));
                    for _ in 0..8 {
                        catena.add(list, container);
                        catena.del(list, container);
                    }
                })
            })
            .collect();
        let failed = attached.into_iter().any(|thread| thread.join().is_err());
        done.store(true, Ordering::Relaxed);
        assert!(!failed);
        assert!(repairs.join().unwrap() > 0);
    });
    assert_eq!(repair(&node, &[]).0, json!({ "attachments": [] }));
    assert_same(&before, &node.snapshot(), &Shared::none().catena("web").device("cni0"));
}
