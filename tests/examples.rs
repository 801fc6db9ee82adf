//! Every example conflist works as it stands.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testnode::conf::{port_and_rates, values};
use testnode::{
    Attachment, Catena, HttpServer, Node, PLUGINS, Plugins, Runtime, Shared, Snapshot, assert_same,
    http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// The examples' files with what they hold.
fn examples() -> Vec<(PathBuf, Value)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let mut files: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|suffix| suffix == "conflist"));
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    let read = |file: PathBuf| {
        let list = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        (file, list)
    };
    files.into_iter().map(read).collect()
}

fn shared(list: &Value) -> Shared {
    let shared = Shared::none().catena(list["name"].as_str().unwrap());
    values(list, "bridge").into_iter().fold(shared, Shared::device)
}

/// The page that the container serves, through the node's port where the chain maps ports.
#[track_caller]
fn assert_served(node: &Node, list: &Value) {
    if values(list, "type").contains(&"portmap") {
        let page = http_get(node, "http://127.0.0.1:8080/").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(page.text, "page");
    }
}

#[test]
fn every_example_works_as_it_stands() {
    for (file, list) in examples() {
        println!("{}", file.display());
        let node = Node::new();
        let c1 = node.container("c1");
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
        let run = |verb: &str| {
            catena.cmd([verb.as_ref(), file.as_os_str(), c1.path().as_os_str()]).output().success()
        };
        run("status");
        let result: Value = serde_json::from_str(&run("add")).unwrap();
        assert_eq!(result["cniVersion"], list["cniVersion"]);
        let _server = HttpServer::start(&c1, 80, "page");
        assert_served(&node, &list);
        run("check");
        run("gc");
        run("check");
        run("del");
        assert_same(&before, &node.snapshot(), &shared(&list));
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none().device("lo"));
    }
}

#[test]
fn every_example_works_for_a_runtime() {
    for (file, list) in examples() {
        println!("{}", file.display());
        let node = Node::new();
        let c1 = node.container("c1");
        let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
        let plugins = Plugins::new(&node, [links(&node, CATENA, &PLUGINS)]);
        let runtime = Runtime::new(plugins, list.clone());
        let capabilities = port_and_rates(8080);
        let attachment = capabilities
            .as_object()
            .unwrap()
            .iter()
            .fold(Attachment::new(&c1), |attachment, (name, value)| {
                attachment.capability(name, value.clone())
            });
        runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        let _server = HttpServer::start(&c1, 80, "page");
        assert_served(&node, &list);
        runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
        runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        assert_same(&before, &node.snapshot(), &shared(&list));
        assert_same(&inside, &Snapshot::of(&c1), &Shared::none().device("lo"));
    }
}
