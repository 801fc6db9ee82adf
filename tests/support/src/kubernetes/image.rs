//! The one image that pods are made of, since no registry can be reached.

use std::path::PathBuf;

use serde_json::json;

use crate::exec::Run;
use crate::node::Node;
use crate::runtimes::rootfs;

/// Its name.
pub(super) const IMAGE: &str = "localhost/busybox:1";

/// It runs until it is told to end, at once: as the first process it would not die of the signal.
const COMMAND: [&str; 3] =
    ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"];

/// Writes the image to an archive on the node, in `docker save`'s format.
pub(super) fn archive(node: &Node) -> PathBuf {
    let dir = node.dir("image");
    let (layer, archive) = (dir.join("layer.tar"), node.fresh_path("image.tar"));
    let root = rootfs(node).display().to_string();
    let (layer_path, dir_path) = (layer.display().to_string(), dir.display().to_string());
    let run = |argv: &[&str]| Run::new(argv).output().success();
    run(&["tar", "--create", "--file", &layer_path, "--directory", &root, "."]);
    let digest = run(&["sha256sum", &layer_path]);
    let digest = digest.split(' ').next().unwrap_or_default();
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "os": "linux",
        "architecture": architecture,
        "config": { "Cmd": COMMAND, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    node.write(dir.join("config.json"), &config.to_string());
    node.write(dir.join("manifest.json"), &manifest.to_string());
    let archive_path = archive.display().to_string();
    let files = ["manifest.json", "config.json", "layer.tar"];
    let tar = ["tar", "--create", "--file", &archive_path, "--directory", &dir_path];
    run(&[&tar[..], &files].concat());
    archive
}
