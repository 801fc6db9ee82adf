//! Nodes that lack something: IPv6, room on the disk, quiet, rights.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::{collections::HashSet, thread};

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, port_and_rates, portmap, values};
use testnode::{
    Catena, HttpServer, Node, PluginOutput, Shared, Snapshot, assert_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn chain(subnets: &[&str]) -> Value {
    let mut bridge = bridge("cni0", subnets);
    bridge["ipMasq"] = json!(true);
    bridge["macspoofchk"] = json!(true);
    conflist("web", &[bridge, portmap(), bandwidth(), json!({ "type": "snat" })])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

#[test]
fn without_ipv6_there_is_still_ipv4() {
    let node = Node::new();
    let c1 = node.container("c1");
    for of in ["all", "default"] {
        node.set_sysctl(&format!("ipv6.conf.{of}.disable_ipv6"), "1");
        c1.set_sysctl(&format!("ipv6.conf.{of}.disable_ipv6"), "1");
    }
    let (before, inside) = (node.snapshot(), Snapshot::of(&c1));
    let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
    let list = chain(&DUAL[..1]);
    catena.add(&list, &c1);
    let server = HttpServer::start(&c1, 80, "c1");
    let answer = http_get(&node, "http://127.0.0.1:8080/");
    assert_eq!(answer.unwrap_or_else(|e| panic!("{e}")).text, "c1");
    catena.check(&list, &c1);
    drop(server);
    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none());
}

#[test]
fn on_a_full_disk_add_fails_whole_and_del_and_check_go_on() {
    let node = Node::new();
    node.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", "/var/lib"]);
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let before = node.snapshot();
    let list = chain(&DUAL);
    let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
    catena.add(&list, &c1);
    let fill = || node.try_run(["dd", "if=/dev/zero", "of=/var/lib/fill", "bs=4k"]).failure();
    fill();
    let with_one = node.snapshot();
    let second = Catena::new(&node, CATENA).cap_args(&port_and_rates(9090)).try_add(&list, &c2);
    let second = PluginOutput::from(second);
    assert_eq!(second.error_code(), 5, "{second}");
    assert!(second.error_text().contains("No space left"), "{second}");
    assert_same(&with_one, &node.snapshot(), &Shared::none());
    catena.del(&list, &c2);
    assert_same(&with_one, &node.snapshot(), &Shared::none());
    catena.check(&list, &c1);
    catena.del(&list, &c1);
    node.run(["rm", "/var/lib/fill"]);
    assert_same(&before, &node.snapshot(), &shared());
}

/// A user namespace has the container's network namespace here, and not the node's: who is there and goes into the container may
/// not come back.
#[test]
fn a_container_is_entered_where_there_is_no_way_back() {
    let node = Node::new();
    let loopback = links(&node, CATENA, &["loopback"]).join("loopback");
    let script = r#"
        mkfifo /run/ready
        unshare --net sh -c 'echo > /run/ready; exec sleep 60' &
        trap "kill $!" EXIT
        read _ < /run/ready
        export CNI_NETNS=/proc/$!/ns/net CNI_CONTAINERID=x CNI_IFNAME=lo CNI_PATH="${1%/*}"
        call() { echo '{ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" }' | CNI_COMMAND=$1 "$2"; }
        call ADD "$1" > /dev/null
        nsenter --net="$CNI_NETNS" ip -o link show up
        call DEL "$1"
        nsenter --net="$CNI_NETNS" ip -o link show up"#;
    let apart = ["unshare", "--user", "--map-root-user", "sh", "-ec", script, "sh"];
    let up = node.cmd(apart).args([&loopback]).output().success();
    assert_eq!(up.lines().count(), 1, "{up}");
    assert!(up.starts_with("1: lo: <LOOPBACK,UP,LOWER_UP>"), "{up}");
}

#[test]
fn many_attachments_at_once_do_not_meet() {
    const COUNT: u16 = 16;
    let node = Node::new();
    let names: Vec<_> = (0..COUNT).map(|i| (format!("c{i}"), 8000 + i)).collect();
    let containers: Vec<_> = names.iter().map(|(name, _)| node.container(name)).collect();
    let before = node.snapshot();
    let list = conflist(
        "web",
        &[json!({ "type": "catena", "plugins": chain(&DUAL)["plugins"],
        "capabilities": { "portMappings": true, "bandwidth": true } })],
    );
    let file = node.json_file("web.conflist", &list).display().to_string();
    // All of them at one time; what each of them printed.
    let all = |verb: &str| -> Vec<Value> {
        thread::scope(|scope| {
            let runs: Vec<_> = names
                .iter()
                .map(|(name, port)| {
                    let run = node
                        .cmd([CATENA, verb, &file, name])
                        .env("CAP_ARGS", port_and_rates(*port).to_string());
                    scope.spawn(move || run.output().json())
                })
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        })
    };
    for _ in 0..2 {
        let results = all("add");
        let addresses: HashSet<_> =
            results.iter().flat_map(|result| values(&result["ips"], "address")).collect();
        assert_eq!(addresses.len(), 2 * usize::from(COUNT), "{addresses:?}");
        all("check");
        let servers: Vec<_> = containers
            .iter()
            .map(|container| HttpServer::start(container, 80, container.name()))
            .collect();
        for (name, port) in &names {
            let answer = http_get(&node, &format!("http://127.0.0.1:{port}/"));
            assert_eq!(&answer.unwrap_or_else(|e| panic!("{port}: {e}")).text, name);
        }
        drop(servers);
        all("del");
        assert_same(&before, &node.snapshot(), &shared());
    }
}
