//! The cluster network's software says by a file that it is ready.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::json;
use testnode::conf::{bridge, conflist};
use testnode::{Attachment, Node, Plugins, Runtime, Scripts, Shared, assert_same, links, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

#[test]
fn the_cluster_network_is_waited_for_but_not_by_del() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    scripts.plugin("mark", "[ $CNI_COMMAND != ADD ] || printf %s \"$prev\"");
    let (ready, log) = (node.fresh_path("ready"), node.fresh_path("log"));
    let carrier = json!({
        "type": "catena",
        "plugins": [bridge("cni0", &["10.1.0.0/24"]), { "type": "mark" }],
        "readinessindicatorfile": ready,
        "logFile": log,
        "logLevel": "verbose",
    });
    let plugins =
        Plugins::new(&node, [links(&node, CATENA, &["catena"]), scripts.dir().to_owned()]);
    let runtime = Runtime::new(plugins, conflist("web", &[carrier]));
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let [old, new] = [&c1, &c2].map(|container| Attachment::new(container));
    let before = node.snapshot();
    node.write(&ready, "");
    runtime.add(&old).unwrap_or_else(|e| panic!("{e}"));
    fs::remove_file(&ready).unwrap();
    scripts.forget();
    thread::scope(|scope| {
        let waiting = [
            scope.spawn(|| runtime.add(&new).map(drop)),
            scope.spawn(|| runtime.status()),
            scope.spawn(|| runtime.gc(&[old.clone(), new.clone()])),
        ];
        until("all three wait", Duration::from_secs(30), || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            (log.matches("waiting for the cluster network").count() == 3).then_some(())
        });
        runtime.del(&old).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scripts.calls(), ["DEL mark"]);
        node.write(&ready, "");
        for call in waiting {
            call.join().unwrap().unwrap_or_else(|e| panic!("{e}"));
        }
    });
    for call in ["ADD mark", "STATUS mark", "GC mark"] {
        assert!(scripts.calls().contains(&call.to_owned()), "{call}: {:?}", scripts.calls());
    }
    runtime.del(&new).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &Shared::none().catena("web").device("cni0"));
}
