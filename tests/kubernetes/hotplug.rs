//! An edit of a running pod's annotation attaches and detaches interfaces.

use std::fs;

use serde_json::{Value, json};
use testnode::kubernetes::{Fault, Proxy, definitions, pods};
use testnode::{Container, Node, NodeDaemon, Scripts, Snapshot, assert_same, until};

use crate::CATENA;
use crate::cluster::{Cluster, NETWORKS, PATIENCE, network};

pub fn daemon<'n>(cluster: &Cluster<'n>, kubeconfig: &std::path::Path) -> NodeDaemon<'n> {
    let file = kubeconfig.display().to_string();
    NodeDaemon::start(cluster.node, CATENA, &["--node-name", "worker", "--kubeconfig", &file])
}

/// Edits a pod's annotation.
pub fn ask(cluster: &Cluster<'_>, pod: &str, networks: &str) {
    let path = format!("{}/{pod}", pods("default"));
    let patch = json!({ "metadata": { "annotations": { NETWORKS: networks } } });
    cluster.api.admin().patch(&path, &patch);
}

/// The names and interfaces of a pod's status.
fn status(cluster: &Cluster<'_>, pod: &str) -> Vec<String> {
    let status = cluster.status("default", pod).unwrap_or_default();
    let entry = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        format!("{}@{}", text("name"), text("interface"))
    };
    status.as_array().into_iter().flatten().map(entry).collect()
}

#[track_caller]
pub fn await_status(cluster: &Cluster<'_>, pod: &str, expected: &[&str]) {
    let what = format!("the status of {pod} is {expected:?}");
    until(&what, PATIENCE, || (status(cluster, pod) == expected).then_some(()));
}

fn interfaces(container: &Container) -> Vec<String> {
    let links = container.json(["ip", "-json", "link"]);
    let names = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap());
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

#[test]
fn an_edit_attaches_and_detaches_and_the_status_and_events_follow() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let before = node.snapshot();
    let daemon = daemon(&cluster, &cluster.kubeconfig);
    let pod = cluster.pod("web", &Value::Null);
    let inside = Snapshot::of(&pod.container);
    cluster.usual().add(&pod.attachment).unwrap();
    assert_eq!(interfaces(&pod.container), ["eth0"]);

    ask(&cluster, "web", "storage,media@md9");
    let both = ["pods@eth0", "default/media@md9", "default/storage@net1"];
    await_status(&cluster, "web", &both);
    let mut names = interfaces(&pod.container);
    names.sort();
    assert_eq!(names, ["eth0", "md9", "net1"]);
    let shown = pod.container.run(["ip", "-4", "addr", "show", "net1"]);
    assert!(shown.contains("10.2.0.2/24"), "{shown}");
    cluster.usual().check(&pod.attachment).unwrap();
    until("both events", PATIENCE, || {
        let events = cluster.events("default", "AddedInterface");
        let told = |text: &str| events.iter().any(|event| event == text);
        (told("pod [default/web]: added interface net1 to network: default/storage")
            && told("pod [default/web]: added interface md9 to network: default/media"))
        .then_some(())
    });

    // The other way round, and a network that only now has a definition.
    cluster.api.admin().delete(&format!("{}/storage", definitions("default")));
    ask(
        &cluster,
        "web",
        r#"[{"name":"media","interface":"md9"},{"name":"private","namespace":"blue"}]"#,
    );
    await_status(&cluster, "web", &["pods@eth0", "default/media@md9", "blue/private@net1"]);
    assert_eq!(
        cluster.events("default", "RemovedInterface"),
        ["pod [default/web]: removed interface net1 from network: default/storage"]
    );
    cluster.usual().check(&pod.attachment).unwrap();
    ask(&cluster, "web", "");
    await_status(&cluster, "web", &["pods@eth0"]);
    assert_eq!(interfaces(&pod.container), ["eth0"]);

    // What came while the pod ran goes with it, without daemon and API.
    ask(&cluster, "web", "media");
    await_status(&cluster, "web", &["pods@eth0", "default/media@net1"]);
    drop(daemon);
    cluster.api.stop();
    cluster.usual().del(&pod.attachment).unwrap();
    let shared = cluster.shared().file("/run/catena/*");
    assert_same(&before, &node.snapshot(), &shared);
    assert_same(&inside, &Snapshot::of(&pod.container), &shared);
}

#[test]
fn what_was_edited_while_no_daemon_ran_is_caught_up_with() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let pod = cluster.pod("web", &json!("storage"));
    let other = cluster.pod("db", &json!("storage"));
    for pod in [&pod, &other] {
        cluster.usual().add(&pod.attachment).unwrap();
    }
    let untouched = cluster.status("default", "db");
    ask(&cluster, "web", "media");
    let daemon = daemon(&cluster, &cluster.kubeconfig);
    await_status(&cluster, "web", &["pods@eth0", "default/media@net1"]);
    assert_eq!(cluster.status("default", "db"), untouched);
    let done = |action| {
        daemon.metric(&format!(r#"catena_hotplug_total{{action="{action}",outcome="done"}}"#))
    };
    assert_eq!((done("attach"), done("detach")), (1, 1));
    // A status that was not written is written when the daemon comes again.
    drop(daemon);
    let path = format!("{}/web", pods("default"));
    let status = crate::cluster::STATUS;
    cluster.api.admin().patch(&path, &json!({ "metadata": { "annotations": { status: null } } }));
    let _daemon = self::daemon(&cluster, &cluster.kubeconfig);
    await_status(&cluster, "web", &["pods@eth0", "default/media@net1"]);
}

#[test]
fn what_fails_leaves_nothing_is_told_and_is_tried_again() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    let kubeconfig = proxy.kubeconfig(&cluster.api.token("kube-system", "catena"));
    let _daemon = daemon(&cluster, &kubeconfig);
    let pod = cluster.pod("web", &json!("storage"));
    cluster.usual().add(&pod.attachment).unwrap();
    let before = node.snapshot();
    ask(&cluster, "web", "storage,late");
    let events = cluster.events("default", "FailedAddingInterface");
    assert!(events[0].contains("there is no NetworkAttachmentDefinition late"), "{events:?}");
    assert_eq!(interfaces(&pod.container), ["eth0", "net1"]);
    assert_same(&before, &node.snapshot(), &cluster.shared().file("/run/catena/*"));
    cluster.usual().check(&pod.attachment).unwrap();
    // The status fails once as well.
    proxy.once("PATCH", "pods/web/status", Fault::Status(403));
    cluster.define("default", "late", &network("late", "lt0", "10.5.0.0/24"));
    let all = ["pods@eth0", "default/storage@net1", "default/late@net2"];
    await_status(&cluster, "web", &all);
    // An annotation that cannot be read changes nothing.
    ask(&cluster, "web", "storage,late@");
    until("that is told", PATIENCE, || {
        let events = cluster.events("default", "FailedAddingInterface");
        events.iter().any(|event| event.contains("annotation")).then_some(())
    });
    assert_eq!(status(&cluster, "web"), all);
}

#[test]
fn isolation_and_the_nodes_own_networks_hold_for_edits_too() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let daemon = daemon(&cluster, &cluster.kubeconfig);
    let runtime = cluster.runtime(
        "multus",
        &json!({
            "delegates": [network("own", "cni0", "10.1.0.0/24")],
            "namespaceIsolation": true,
            "multusNamespace": "default",
            "defaultNetworks": ["storage"],
        }),
    );
    let pod = cluster.pod("web", &Value::Null);
    runtime.add(&pod.attachment).unwrap();
    let before = status(&cluster, "web");
    assert_eq!(before.len(), 2, "{before:?}");
    ask(&cluster, "web", "blue/private");
    let events = cluster.events("default", "FailedAddingInterface");
    assert!(events[0].contains("namespace isolation enabled"), "{events:?}");
    ask(&cluster, "web", "media@net1");
    until("the name is refused", PATIENCE, || {
        let events = cluster.events("default", "FailedAddingInterface");
        events.iter().any(|event| event.contains("which the pod has already")).then_some(())
    });
    assert_eq!((status(&cluster, "web"), interfaces(&pod.container).len()), (before, 2));
    ask(&cluster, "web", "media");
    until("it is attached", PATIENCE, || (status(&cluster, "web").len() == 3).then_some(()));
    runtime.del(&pod.attachment).unwrap();
    assert_eq!(interfaces(&pod.container), [""; 0]);
    assert_eq!(fs::read_dir("/var/lib/catena/pods").unwrap().count(), 0);
    drop(daemon);
}

#[test]
fn an_element_that_asks_for_something_else_is_attached_anew() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let daemon = daemon(&cluster, &cluster.kubeconfig);
    let pod = cluster.pod("web", &json!("media,storage"));
    cluster.usual().add(&pod.attachment).unwrap();
    let all = ["pods@eth0", "default/media@net1", "default/storage@net2"];
    let entry = || cluster.status("default", "web").unwrap()[2].clone();
    let address = |link: &str| pod.container.run(["ip", "-4", "addr", "show", link]);
    let untouched = address("net1");
    let element = |more: Value| {
        let mut element = json!({ "name": "storage" });
        element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{ "name": "media" }, element]).to_string()
    };
    let more = json!({ "ips": ["10.2.0.77/24"], "mac": "02:00:00:00:00:77" });
    ask(&cluster, "web", &element(more));
    until("the status has the address", PATIENCE, || {
        (entry()["ips"] == json!(["10.2.0.77"])).then_some(())
    });
    assert_eq!(entry()["mac"], "02:00:00:00:00:77");
    assert_eq!(status(&cluster, "web"), all);
    assert!(address("net2").contains("10.2.0.77/24"), "{}", address("net2"));
    let link = pod.container.run(["ip", "link", "show", "net2"]);
    assert!(link.contains("02:00:00:00:00:77"), "{link}");
    assert_eq!(address("net1"), untouched);
    cluster.usual().check(&pod.attachment).unwrap();
    // What cannot be had is told, the status says what there is, and the next edit is tried.
    ask(&cluster, "web", &element(json!({ "ips": ["10.9.9.9"] })));
    await_status(&cluster, "web", &all[..2]);
    let events = cluster.events("default", "FailedAddingInterface");
    assert!(events[0].contains("10.9.9.9"), "{events:?}");
    assert_eq!(interfaces(&pod.container), ["eth0", "net1"]);
    ask(&cluster, "web", &element(json!({})));
    await_status(&cluster, "web", &all);
    assert_eq!(address("net1"), untouched);
    let done = |action| {
        daemon.metric(&format!(r#"catena_hotplug_total{{action="{action}",outcome="done"}}"#))
    };
    assert_eq!((done("detach"), done("attach")), (2, 2));
    cluster.usual().del(&pod.attachment).unwrap();
}

#[test]
fn a_pod_whose_network_takes_long_holds_up_no_other() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let scripts = Scripts::new(&node);
    let (begun, open) = (node.fresh_path("begun"), node.fresh_path("open"));
    scripts.plugin(
        "gate",
        &format!(
            "if [ $CNI_COMMAND = ADD ]; then\n\
             echo >>{begun}; while [ ! -e {open} ]; do sleep 0.01; done; printf %s \"$prev\"\nfi",
            begun = begun.display(),
            open = open.display()
        ),
    );
    let slow = json!({
        "cniVersion": "1.0.0", "name": "slow",
        "plugins": [network("slow", "sl0", "10.5.0.0/24"), { "type": "gate" }],
    });
    cluster.define("default", "slow", &slow);
    let _daemon = daemon(&cluster, &cluster.kubeconfig);
    let keys = json!({
        "plugins": [testnode::conf::bridge("cni0", &["10.1.0.0/24"])],
        "binDir": scripts.dir(),
    });
    let runtime = cluster.runtime("catena", &keys);
    // One more than are edited at once.
    let names: Vec<_> = (0..9).map(|n| format!("p{n}")).collect();
    let pods: Vec<_> = names.iter().map(|name| cluster.pod(name, &Value::Null)).collect();
    for pod in &pods {
        runtime.add(&pod.attachment).unwrap();
    }
    for name in &names[..8] {
        ask(&cluster, name, "slow");
    }
    let lines = || fs::read_to_string(&begun).unwrap_or_default().lines().count();
    until("eight are at it", PATIENCE, || (lines() == 8).then_some(()));
    ask(&cluster, "p8", "storage");
    await_status(&cluster, "p8", &["pods@eth0", "default/storage@net1"]);
    // One edit of a pod at a time: what was asked meanwhile is looked at afterwards.
    ask(&cluster, "p0", "storage");
    ask(&cluster, "p8", "media");
    await_status(&cluster, "p8", &["pods@eth0", "default/media@net1"]);
    assert_eq!(interfaces(&pods[0].container), ["eth0", "net1"]);
    fs::write(&open, "").unwrap();
    await_status(&cluster, "p0", &["pods@eth0", "default/storage@net1"]);
    await_status(&cluster, "p1", &["pods@eth0", "default/slow@net1"]);
    assert_eq!(lines(), 8);
}
