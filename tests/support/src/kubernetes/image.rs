//! The images that pods are made of, since no registry can be reached.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::exec::Run;
use crate::node::Node;
use crate::runtimes::rootfs;

/// The name of the one that does nothing.
pub(super) const IMAGE: &str = "localhost/busybox:1";

/// It runs until it is told to end, at once: as the first process it would not die of the signal.
const COMMAND: [&str; 3] =
    ["/bin/sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 3600 & wait; done"];

/// Writes the image that does nothing to an archive on the node.
pub(super) fn idle(node: &Node) -> PathBuf {
    archive(node, IMAGE, &rootfs(node), &json!({ "Cmd": COMMAND, "Env": ["PATH=/bin"] }))
}

/// Writes an image of a binary alone, as `/<its name>`, to an archive on the node. A test's binary is not static: the libraries
/// that it is linked to are beside it.
pub(super) fn of_binary(node: &Node, name: &str, binary: &Path) -> PathBuf {
    let root = node.fresh_path("root");
    let file = Path::new("/").join(binary.file_name().unwrap_or_default());
    let within = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    fs::create_dir_all(&root).unwrap_or_else(|e| panic!("creating {}: {e}", root.display()));
    // The debugger's part would be copied several times.
    let strip = ["strip".as_ref(), "-o".as_ref()];
    let stripped = within(&file);
    Run::new(strip.into_iter().chain([stripped.as_os_str(), binary.as_os_str()]))
        .output()
        .success();
    let linked = Run::new(["ldd".as_ref(), binary.as_os_str()]).output().success();
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let at = within(Path::new(library));
        fs::create_dir_all(at.parent().unwrap_or(&root))
            .and_then(|()| fs::copy(library, &at))
            .unwrap_or_else(|e| panic!("copying {library}: {e}"));
    }
    archive(node, name, &root, &json!({ "Entrypoint": [file] }))
}

/// Writes an image to an archive on the node, in `docker save`'s format.
fn archive(node: &Node, name: &str, root: &Path, config: &Value) -> PathBuf {
    let dir = node.fresh_path("image");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("creating {}: {e}", dir.display()));
    let (layer, archive) = (dir.join("layer.tar"), node.fresh_path("image.tar"));
    let root = root.display().to_string();
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
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    node.write(dir.join("config.json"), &config.to_string());
    node.write(dir.join("manifest.json"), &manifest.to_string());
    let archive_path = archive.display().to_string();
    let files = ["manifest.json", "config.json", "layer.tar"];
    let tar = ["tar", "--create", "--file", &archive_path, "--directory", &dir_path];
    run(&[&tar[..], &files].concat());
    archive
}
