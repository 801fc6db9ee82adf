//! A container's root made of busybox alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::node::Node;

/// The command of a container that serves a page: for [`http_get`](crate::http_get), under the
/// path [`PAGE`], on port 80.
pub const SERVE: [&str; 6] = ["/bin/httpd", "-f", "-p", "80", "-h", "/www"];

/// The path of the page that a container with the command [`SERVE`] has; its text is `busybox`.
pub const PAGE: &str = "/cgi-bin/page";

const APPLETS: [&str; 9] = ["sh", "ip", "ls", "cat", "sleep", "ping", "wget", "httpd", "nc"];

/// Answers with the client's address, as [`HttpServer`](crate::HttpServer) does. The server has
/// IPv4 addresses in the form `::ffff:192.0.2.1`, with or without brackets.
const CGI: &str = r#"#!/bin/sh
address=${REMOTE_ADDR#[}
address=${address%]}
address=${address#::ffff:}
case $address in *:*) address="[$address]" ;; esac
printf 'Content-Type: application/json\r\n\r\n'
printf '{"text":"busybox","from":"%s:%s"}' "$address" "$REMOTE_PORT"
"#;

/// Makes a root directory on the node's tmpfs.
pub(crate) fn rootfs(node: &Node) -> PathBuf {
    let root = node.fresh_path("root");
    for dir in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "www/cgi-bin"] {
        fs::create_dir_all(root.join(dir)).unwrap_or_else(|e| panic!("creating {dir}: {e}"));
    }
    let busybox = root.join("bin/busybox");
    fs::copy("/bin/busybox", &busybox)
        .unwrap_or_else(|e| panic!("/bin/busybox: {e}; it's in Debian's busybox-static"));
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))
            .unwrap_or_else(|e| panic!("linking {applet}: {e}"));
    }
    let script = Path::new("www").join(PAGE.trim_start_matches('/'));
    node.write(root.join(&script), CGI);
    executable(&root.join(&script));
    root
}

/// Writes the command that containerd runs containers with; it has no option to do without control groups, so this has it.
pub(crate) fn oci_runtime(node: &Node) -> String {
    let path = node.fresh_path("oci-runtime");
    node.write(&path, "#!/bin/sh\nexec crun --cgroup-manager=disabled \"$@\"\n");
    executable(&path);
    path.display().to_string()
}

fn executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
}
