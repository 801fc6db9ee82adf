//! Real runtimes, with Debian's Go plugins.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use testnode::runtimes::{Containerd, PAGE, Podman, SERVE};
use testnode::{Node, Shared, await_same, http_get, until};

fn conf_dir(node: &Node) -> PathBuf {
    let dir = node.dir("net.d");
    let conflist = json!({
        "cniVersion": "1.0.0",
        "name": "web",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": "10.1.0.0/24" }], [{ "subnet": "fd00:1::/64" }]],
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
                }
            },
            { "type": "portmap", "capabilities": { "portMappings": true } }
        ]
    });
    node.write(dir.join("10-web.conflist"), &conflist.to_string());
    dir
}

fn shared() -> Shared {
    ["ip nat", "ip6 nat", "ip filter", "ip6 filter"]
        .iter()
        .fold(Shared::none(), |shared, table| shared.whole_table(table))
        .device("cni0")
        .forwarding()
        .sysctl("ipv4.conf.all.route_localnet")
        .host_local("web")
        .directory("/var/lib/cni/results")
}

fn page(node: &Node, url: &str) -> std::net::SocketAddr {
    let answer =
        until(&format!("{url} answers"), Duration::from_secs(10), || http_get(node, url).ok());
    assert_eq!(answer.text, "busybox");
    answer.from
}

#[test]
fn podman_starts_a_container_with_a_port() {
    let node = Node::new();
    let podman = Podman::new(&node, &conf_dir(&node), Path::new("/usr/lib/cni"));
    let before = node.snapshot();

    let output = podman.run_busybox(&["--network", "web"], &["/bin/ip", "addr"]).success();
    assert!(output.contains("10.1.0.2/24"), "{output}");
    await_same(&before, &node, &shared());

    podman.start_busybox("server", &["--network", "web", "-p", "8080:80"], &SERVE);
    let netns = podman.netns("server");
    assert!(netns.run(["ip", "addr"]).contains("10.1.0.3/24"));
    let from = page(&node, &format!("http://10.1.0.3{PAGE}"));
    assert_eq!(from.ip().to_string(), "10.1.0.1");
    page(&node, &format!("http://[fd00:1::3]{PAGE}"));
    page(&node, &format!("http://127.0.0.1:8080{PAGE}"));
    podman.remove("server");
    await_same(&before, &node, &shared());
}

#[test]
fn containerd_starts_a_container() {
    let node = Node::new();
    let containerd = Containerd::start(&node, &conf_dir(&node), Path::new("/usr/lib/cni"));
    let before = node.snapshot();

    let output = containerd.run_busybox("once", &[], &["/bin/ip", "addr"]).success();
    assert!(output.contains("10.1.0.2/24"), "{output}");
    await_same(&before, &node, &shared());

    let server = containerd.start_busybox("server", &[], &SERVE);
    assert!(server.netns().run(["ip", "addr"]).contains("10.1.0.3/24"));
    page(&node, &format!("http://10.1.0.3{PAGE}"));
    page(&node, &format!("http://[fd00:1::3]{PAGE}"));
    containerd.stop(server);
    await_same(&before, &node, &shared());
}
