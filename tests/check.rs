//! CHECK notices what is no longer as ADD left it, and says what; DEL clears away what is left all the same.
#![allow(clippy::unwrap_used, reason = "test code")]

use serde_json::{Value, json};
use testnode::conf::{bandwidth, bridge, conflist, host_local, port_and_rates, portmap};
use testnode::{Catena, Container, Node, PluginOutput, Shared, assert_same};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const DUAL: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];

fn snat() -> Value {
    json!({ "type": "snat", "nonMasqueradeCIDRs": ["10.0.0.0/8"] })
}

fn with_bridge() -> Value {
    conflist("web", &[bridge("cni0", &DUAL), portmap(), bandwidth(), snat()])
}

fn with_ptp() -> Value {
    let ptp = json!({ "type": "ptp", "ipam": host_local(&DUAL) });
    conflist("web", &[ptp, portmap(), bandwidth(), snat()])
}

/// What somebody does to a node or a container; `$VETH`, `$IFB` and `$V4` stand for the attachment's own.
struct Damage {
    /// Which delegate is to notice.
    delegate: &'static str,
    /// Whether it is done in the container.
    inside: bool,
    /// A command line of the shell.
    command: &'static str,
    /// What the message must have.
    told: &'static str,
}

const fn outside(delegate: &'static str, command: &'static str, told: &'static str) -> Damage {
    Damage { delegate, inside: false, command, told }
}

const fn inside(command: &'static str, told: &'static str) -> Damage {
    Damage { delegate: "", inside: true, command, told }
}

/// What the node can lose of either kind of chain.
const COMMON: [Damage; 18] = [
    inside("ip addr del $V4 dev eth0", "$V4"),
    inside("ip addr flush dev eth0 scope global", "$V4"),
    inside("ip link set eth0 down", "eth0"),
    inside("ip link set eth0 address 02:00:00:00:00:01", "02:00:00:00:00:01"),
    inside("ip link set eth0 name eth1", "eth0"),
    inside("ip link del eth0", "eth0"),
    inside("ip route del default", "0.0.0.0/0"),
    inside("ip -6 route del default", "::/0"),
    outside("", "ip link set $VETH down", "$VETH"),
    outside("host-local", "rm /var/lib/cni/networks/web/${V4%/*}", "lease"),
    outside("portmap", "nft delete element inet catena hostports4 '{ tcp . 8080 }'", "8080"),
    outside(
        "portmap",
        "nft delete element inet catena hairpin4 \"{ ${V4%/*} . ${V4%/*} }\"",
        "${V4%/*}",
    ),
    outside("portmap", "nft delete table inet catena", "8080"),
    outside("snat", "nft delete element inet catena egress4 \"{ ${V4%/*} }\"", "${V4%/*}"),
    outside("bandwidth", "tc qdisc del dev $VETH root", "ingress"),
    outside(
        "bandwidth",
        "tc qdisc replace dev $VETH root tbf rate 1mbit burst 10kb latency 25ms",
        "ingress",
    ),
    outside("bandwidth", "tc qdisc del dev $VETH ingress", "egress"),
    outside("bandwidth", "ip link del $IFB", "egress"),
];

const OF_BRIDGE: [Damage; 4] = [
    outside("bridge", "ip link set $VETH nomaster", "cni0"),
    outside("bridge", "ip link del cni0", "cni0"),
    outside(
        "portmap",
        "ip link set $VETH type bridge_slave hairpin off",
        "hairpin mode of $VETH is off, not on",
    ),
    outside(
        "portmap",
        "nft delete element inet catena bridges '{ \"cni0\" . \"cni0\" }'",
        "bridge cni0: not in the nf_tables ruleset",
    ),
];

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

/// Replaces the names of the attachment's own in a text, by the shell.
fn fill(node: &Node, result: &Value, text: &str) -> String {
    let interfaces = result["interfaces"].as_array().unwrap();
    let named = |start: &str| {
        let mut names = interfaces.iter().map(|interface| interface["name"].as_str().unwrap());
        names.find(|name| name.starts_with(start)).unwrap().to_owned()
    };
    let echo = format!("printf %s \"{}\"", text.replace('"', "\\\""));
    node.cmd(["sh", "-c", &echo])
        .env("VETH", named("veth"))
        .env("IFB", named("ifb"))
        .env("V4", result["ips"][0]["address"].as_str().unwrap())
        .output()
        .success()
}

#[track_caller]
fn noticed(node: &Node, list: &Value, damage: &Damage) {
    let before = node.snapshot();
    let container: Container = node.container("c1");
    let catena = Catena::new(node, CATENA).cap_args(&port_and_rates(8080));
    let result = catena.add(list, &container);
    catena.check(list, &container);
    let command = fill(node, &result, damage.command);
    let shell = ["sh", "-c", &command];
    if damage.inside {
        container.run(shell)
    } else {
        node.run(shell)
    };

    let check = PluginOutput::from(catena.try_check(list, &container));
    let text = check.error_text();
    let told = fill(node, &result, damage.told);
    assert!(text.contains(&told), "`{command}`: {told} is missing in {text}");
    let delegate = match damage.delegate {
        "" => list["plugins"][0]["type"].as_str().unwrap(),
        delegate => delegate,
    };
    assert!(text.contains(&format!("{delegate}: ")), "`{command}`: not told by {delegate}: {text}");

    catena.del(list, &container);
    if damage.delegate == "snat" {
        // DEL of a policy's last container takes the policy along, but it was not the last to go.
        catena.gc(list, &["--all"]).success();
    }
    assert_same(&before, &node.snapshot(), &shared());
    container.delete();
}

#[test]
fn what_a_bridge_chain_has_lost_is_noticed() {
    let node = Node::new();
    for damage in COMMON.iter().chain(&OF_BRIDGE) {
        noticed(&node, &with_bridge(), damage);
    }
}

#[test]
fn what_a_ptp_chain_has_lost_is_noticed() {
    let node = Node::new();
    for damage in &COMMON {
        noticed(&node, &with_ptp(), damage);
    }
}

#[test]
fn disable_check_is_heeded() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA).cap_args(&port_and_rates(8080));
    let mut list = with_bridge();
    list["disableCheck"] = json!(true);
    catena.add(&list, &c1);
    c1.ip("link del eth0\n");
    catena.check(&list, &c1);
    list["disableCheck"] = json!(false);
    catena.try_check(&list, &c1).failure();
}

#[test]
fn what_was_never_added_is_not_as_add_left_it() {
    let node = Node::new();
    let c1 = node.container("c1");
    for list in [with_bridge(), with_ptp()] {
        let check = Catena::new(&node, CATENA).try_check(&list, &c1);
        let check = PluginOutput::from(check);
        assert!(check.error_text().contains("prevResult"), "{check}");
    }
}
