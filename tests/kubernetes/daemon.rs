//! A daemon that watches the API: calls need no round trip to read, and whatever becomes of the API it goes on.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testnode::kubernetes::{ApiServer, Fault, Proxy, definitions, pods};
use testnode::{Node, NodeDaemon, Scripts, until};

use crate::CATENA;
use crate::cluster::{Cluster, NETWORKS, PATIENCE, network};

const PODS: &str = r#"{resource="pods"}"#;
const DEFINITIONS: &str = r#"{resource="network-attachment-definitions"}"#;

/// A daemon of the node `worker` by this kubeconfig, not yet ready.
fn begin<'n>(node: &'n Node, kubeconfig: &Path) -> NodeDaemon<'n> {
    let run = node.cmd([CATENA, "daemon", "--node-name", "worker", "--kubeconfig"]);
    NodeDaemon::begin(node, run.args([kubeconfig]))
}

/// The same, with its watches answered.
fn daemon<'n>(node: &'n Node, kubeconfig: &Path) -> NodeDaemon<'n> {
    let daemon = begin(node, kubeconfig);
    await_ready(&daemon);
    daemon
}

fn await_ready(daemon: &NodeDaemon<'_>) {
    until("the daemon is ready", PATIENCE, || {
        (daemon.page("readyz").as_deref() == Some("ok\n")).then_some(())
    });
}

/// Waits until a watch keeps so many objects.
fn await_objects(daemon: &NodeDaemon<'_>, watch: &str, objects: u64) {
    daemon.await_metric(&format!("catena_watch_objects{watch}"), objects);
}

/// A token of the account that `deploy/` gives to the daemon.
fn token(api: &ApiServer<'_>) -> String {
    api.token("kube-system", "catena")
}

#[test]
fn an_add_reads_nothing_from_the_api_and_writes_the_status_at_once() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    let daemon = daemon(&node, &proxy.kubeconfig(&token(&cluster.api)));
    await_objects(&daemon, DEFINITIONS, 3);
    let pod = cluster.pod("web", &json!("storage,blue/private@net9"));
    // Another node's is not this daemon's.
    let other = testnode::kubernetes::pod("other", "elsewhere", &json!({}));
    cluster.api.admin().create(&pods("default"), &other);
    await_objects(&daemon, PODS, 1);
    let before = proxy.seen().len();
    cluster.usual().add(&pod.attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 1);
    assert_eq!(cluster.status("default", "web").unwrap().as_array().unwrap().len(), 3);
    cluster.events("default", "AddedInterface");
    let seen = proxy.seen().split_off(before);
    let reads: Vec<_> = seen.iter().filter(|s| s.verb == "GET").collect();
    let patches = seen.iter().filter(|s| s.verb == "PATCH").count();
    assert!(reads.is_empty() && patches == 1, "{seen:#?}");
    cluster.usual().del(&pod.attachment).unwrap();
    assert_eq!(daemon.served("DEL", 0), 1);
}

#[test]
fn what_the_watches_do_not_have_is_asked_of_the_api() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    let daemon = daemon(&node, &proxy.kubeconfig(&token(&cluster.api)));
    let old = cluster.pod("web", &json!("storage"));
    await_objects(&daemon, PODS, 1);
    // From here on the watches hear nothing, and notice nothing.
    proxy.always("WATCH", "", Fault::Hang);
    let before = proxy.seen().len();
    proxy.cut();
    until("both watches hang", PATIENCE, || {
        let seen = proxy.seen().split_off(before);
        let hanging = seen.iter().filter(|s| s.verb == "WATCH" && s.status.is_none());
        (hanging.count() == 2).then_some(())
    });
    let admin = cluster.api.admin();
    admin.delete(&format!("{}/web?gracePeriodSeconds=0", pods("default")));
    cluster.define("default", "late", &network("late", "lt0", "10.5.0.0/24"));
    let new = testnode::kubernetes::pod("web", "worker", &json!({ NETWORKS: "late" }));
    let new = admin.create(&pods("default"), &new);
    let uid = new["metadata"]["uid"].as_str().unwrap();
    let mut attachment = old.attachment.clone();
    attachment.args = attachment.args.replace(&old.uid, uid);
    cluster.usual().add(&attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 1);
    let status = cluster.status("default", "web").unwrap();
    assert_eq!(status[1]["name"], "default/late", "{status:#}");
    // A sandbox of the pod that is gone gets nothing, whatever the watch still has.
    let container = node.container("old");
    let old = testnode::Attachment::new(&container).args(&old.attachment.args);
    let error = cluster.usual().add(&old).unwrap_err().output;
    assert_eq!(daemon.served("ADD", 0) + daemon.served("ADD", 11), 2, "{error}");
    assert!(error.error_text().contains("UID"), "{error}");
}

#[test]
fn watches_go_on_after_what_they_missed_was_compacted() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let proxy = Proxy::start(&cluster.api);
    let daemon = daemon(&node, &proxy.kubeconfig(&token(&cluster.api)));
    await_objects(&daemon, DEFINITIONS, 3);
    proxy.times(2, "WATCH", "", Fault::Expired);
    proxy.cut();
    cluster.define("default", "late", &network("late", "lt0", "10.5.0.0/24"));
    cluster.api.admin().delete(&format!("{}/media", definitions("default")));
    cluster.pod("web", &json!("late"));
    await_objects(&daemon, DEFINITIONS, 3);
    await_objects(&daemon, PODS, 1);
    let pod = cluster.pod("db", &json!("late"));
    await_objects(&daemon, PODS, 2);
    cluster.usual().add(&pod.attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 1);
}

/// The server itself has forgotten what the watches ask for.
#[test]
fn watches_go_on_after_etcd_was_compacted() {
    let node = Node::new();
    let cluster = Cluster::of(&node, ApiServer::start_with(&node, &["--watch-cache=false"]));
    let proxy = Proxy::start(&cluster.api);
    cluster.pod("web", &json!("storage"));
    // They have listed, and are kept from going on from there.
    proxy.times(2, "WATCH", "", Fault::Hold);
    let daemon = daemon(&node, &proxy.kubeconfig(&token(&cluster.api)));
    let watches = || {
        let seen = proxy.seen().into_iter();
        seen.filter(|seen| seen.verb == "WATCH").collect::<Vec<_>>()
    };
    until("both watches are held", PATIENCE, || (watches().len() == 2).then_some(()));
    let admin = cluster.api.admin();
    cluster.define("default", "late", &network("late", "lt0", "10.5.0.0/24"));
    admin.delete(&format!("{}/media", definitions("default")));
    admin.delete(&format!("{}/web?gracePeriodSeconds=0", pods("default")));
    let pod = cluster.pod("db", &json!("late"));
    cluster.pod("dc", &json!("late"));
    cluster.api.compact();
    proxy.let_go();
    await_objects(&daemon, PODS, 2);
    await_objects(&daemon, DEFINITIONS, 3);
    until("both were told of it", PATIENCE, || {
        (daemon.log().matches("too far behind").count() == 2).then_some(())
    });
    let before = proxy.seen().len();
    cluster.usual().add(&pod.attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 1);
    let reads = proxy.seen().split_off(before).into_iter().filter(|seen| seen.verb == "GET");
    assert_eq!(reads.count(), 0);
}

#[test]
fn a_token_that_has_ended_is_read_anew_as_soon_as_there_is_another() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let old = cluster.api.token_for("kube-system", "catena", std::time::Duration::ZERO);
    let kubeconfig = cluster.api.kubeconfig(&old);
    let daemon = begin(&node, &kubeconfig);
    until("the API refuses the token", PATIENCE, || {
        daemon.log().contains("Unauthorized").then_some(())
    });
    assert!(daemon.page("readyz").unwrap().contains("has not been told of pods yet"));
    let mut config: Value = serde_json::from_slice(&fs::read(&kubeconfig).unwrap()).unwrap();
    config["users"][0]["user"]["token"] = token(&cluster.api).into();
    fs::write(&kubeconfig, config.to_string()).unwrap();
    await_ready(&daemon);
    await_objects(&daemon, DEFINITIONS, 3);
    // Said once, however often it was refused.
    for watch in ["pods", "network-attachment-definitions"] {
        let log = daemon.log();
        let told = log
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(&format!("watch=\"{watch}\"")));
        assert_eq!(told.count(), 1, "{log}");
    }
}

#[test]
fn a_daemon_serves_what_needs_no_api_while_that_is_away_and_hears_of_it_when_it_is_back() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    cluster.api.stop();
    let daemon = begin(&node, &cluster.kubeconfig);
    let container = node.container("c1");
    let plain = testnode::Attachment::new(&container);
    cluster.usual().add(&plain).unwrap();
    cluster.usual().del(&plain).unwrap();
    assert_eq!((daemon.served("ADD", 0), daemon.served("DEL", 0)), (1, 1));
    cluster.api.restart();
    await_ready(&daemon);
    let pod = cluster.pod("web", &json!("storage"));
    await_objects(&daemon, PODS, 1);
    cluster.usual().add(&pod.attachment).unwrap();
    cluster.api.restart();
    let other = cluster.pod("db", &json!("media"));
    await_objects(&daemon, PODS, 2);
    cluster.usual().add(&other.attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 3);
}

#[test]
fn in_a_pod_it_works_on_the_hosts_files_and_keeps_its_account() {
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let pod = cluster.pod("web", &json!("storage"));
    let account = node.dir("account");
    let config: Value = serde_json::from_slice(&fs::read(&cluster.kubeconfig).unwrap()).unwrap();
    let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
    fs::copy(authority, account.join("ca.crt")).unwrap();
    node.write(account.join("token"), &token(&cluster.api));
    // Process 1 sees the node as it is; the pod has other files everywhere.
    let in_pod = format!(
        "mount -t tmpfs none /var/lib/catena; mkdir /var/lib/catena/account\n\
         cp {account}/* /var/lib/catena/account; mount -t tmpfs none /run\n\
         folder=/var/run/secrets/kubernetes.io/serviceaccount; mkdir -p $folder\n\
         mv /var/lib/catena/account/* $folder\n\
         exec {CATENA} daemon --host-mounts --node-name worker",
        account = account.display()
    );
    let init = "unshare --mount --propagation private sh -ec \"$0\" & wait";
    let address = cluster.api.address();
    let run = node
        .cmd(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", init])
        .args([&in_pod])
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string());
    let daemon = NodeDaemon::begin(&node, run);
    await_ready(&daemon);
    await_objects(&daemon, PODS, 1);
    // Another's plugin, in a folder that the pod does not see.
    let scripts = Scripts::new(&node);
    let seen = node.fresh_path("seen");
    let look = format!("ls /var/lib/catena/pods > {}; printf %s \"$prev\"", seen.display());
    scripts.plugin("foreign", &format!("[ $CNI_COMMAND != ADD ] || {{ {look}; }}"));
    let plugins = [testnode::conf::bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "foreign" })];
    let keys = json!({ "plugins": plugins, "binDir": scripts.dir() });
    let runtime = cluster.runtime("catena", &keys);
    runtime.add(&pod.attachment).unwrap();
    assert_eq!(daemon.served("ADD", 0), 1);
    assert_eq!(cluster.status("default", "web").unwrap().as_array().unwrap().len(), 2);
    let seen = fs::read_to_string(seen).unwrap();
    assert!(seen.contains("id-web"), "it sees the host's files, not the pod's: {seen}");
    // The record is the node's: the plugin alone finds it.
    drop(daemon);
    runtime.check(&pod.attachment).unwrap();
    runtime.del(&pod.attachment).unwrap();
    assert_eq!(scripts.calls(), ["ADD foreign", "CHECK foreign", "DEL foreign"]);
}

#[test]
fn with_the_pods_of_a_full_node_its_memory_stays_within_the_budget() {
    const PODS_OF_A_NODE: usize = 250;
    const BUDGET_KIB: u64 = 25 << 10;
    let node = Node::new();
    let cluster = Cluster::new(&node);
    let daemon = daemon(&node, &cluster.kubeconfig);
    let own = json!({ "plugins": [testnode::conf::bridge("cni0", &["10.1.0.0/16"])] });
    let runtime = cluster.runtime("catena", &own);
    let attached: Vec<_> =
        (0..PODS_OF_A_NODE).map(|n| cluster.pod(&format!("p{n}"), &json!("storage"))).collect();
    std::thread::scope(|scope| {
        for part in attached.chunks(PODS_OF_A_NODE.div_ceil(8)) {
            let runtime = &runtime;
            scope.spawn(move || {
                for pod in part {
                    runtime.add(&pod.attachment).unwrap();
                }
            });
        }
    });
    assert_eq!(daemon.served("ADD", 0), PODS_OF_A_NODE as u64);
    // The binary's own pages are the file's; a test's binary has many more of them than the one that is installed.
    let own = || {
        let status = format!("/proc/{}/status", daemon.process.pid());
        let status = fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    assert!(own() <= BUDGET_KIB, "{} KiB", own());
}
