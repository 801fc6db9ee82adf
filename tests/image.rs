//! The container image is one binary and nothing else.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testnode::Node;
use testnode::runtimes::Podman;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

#[test]
fn the_image_is_the_binary_alone() {
    let node = Node::new();
    let podman = Podman::new(&node, &node.dir("net.d"), &node.dir("plugins"));
    let context = node.dir("context");
    // What it is made of does not matter here, but the test's binary is large.
    node.run([
        "strip".as_ref(),
        "-o".as_ref(),
        context.join("catena").as_os_str(),
        CATENA.as_ref(),
    ]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/Containerfile");
    let [file, context] = [&file, &context].map(|path| path.to_str().unwrap());
    podman.cmd(["build", "--file", file, "--tag", "catena:test", context]).output().success();

    let inspected = podman.cmd(["inspect", "--type", "image", "catena:test"]).output().success();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected[0]["Config"]["Entrypoint"], json!(["/catena"]));
    let archive = node.fresh_path("image.tar");
    let archive = archive.to_str().unwrap();
    podman
        .cmd(["save", "--format", "oci-dir", "--output", archive, "catena:test"])
        .output()
        .success();
    let layers = fs::read_dir(Path::new(archive).join("blobs/sha256")).unwrap();
    let files: BTreeSet<_> = layers
        .map(|layer| {
            node.try_run(["tar".as_ref(), "tf".as_ref(), layer.unwrap().path().as_os_str()])
        })
        .filter(|listed| listed.is_success())
        .flat_map(|listed| listed.stdout.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(files, BTreeSet::from(["catena".to_owned()]));
}
