//! What somebody does to a node or a container.

use std::time::Duration;

use serde_json::Value;
use testnode::{Container, Netns, Node, until};

/// A command line of the shell; `$VETH`, `$IFB`, `$V4` and `$V6` (addresses with their prefix lengths) stand for the
/// attachment's own.
#[derive(Clone, Copy)]
pub struct Damage {
    /// Whether it is done in the container.
    inside: bool,
    pub command: &'static str,
}

const fn on_node(command: &'static str) -> Damage {
    Damage { inside: false, command }
}

const fn inside(command: &'static str) -> Damage {
    Damage { inside: true, command }
}

/// What is nobody's DEL leaves where it is; an ADD takes it over.
pub const OF_NOBODY: &str = "nft delete element inet catena hostports4 '{ tcp . 8080 }';
    nft add element inet catena hostports4 '{ tcp . 8080 : 10.1.0.77 . 80 }'";

/// To the ruleset.
pub const RULESET: &[Damage] = &[
    on_node("nft delete table inet catena"),
    on_node("nft flush table inet catena"),
    on_node("nft flush chain inet catena dnat4"),
    on_node("nft flush map inet catena hostports4"),
    on_node("nft delete element inet catena hostports4 '{ tcp . 8080 }'"),
    on_node(OF_NOBODY),
    on_node(
        "comment=$(nft list map inet catena hostports4 | grep -o 'comment \"[^\"]*\"' | head -1);
         nft delete element inet catena hostports4 '{ tcp . 8080 }';
         nft add element inet catena hostports4 \"{ tcp . 8080 $comment : 10.1.0.77 . 80 }\"",
    ),
    on_node("nft delete element inet catena hairpin4 \"{ ${V4%/*} . ${V4%/*} }\""),
    on_node("nft delete element inet catena egress6 \"{ ${V6%/*} }\""),
    on_node(
        "nft flush chain inet catena $(nft list map inet catena egress4 | grep -o 'egress_[^ ]*' | head -1)",
    ),
    on_node("nft delete element inet catena forwarded4 \"{ ${V4%/*} }\""),
    on_node("nft flush chain inet foreign forward; nft add rule inet foreign forward counter"),
    on_node("nft flush ruleset"),
];

/// To devices, addresses, routes, rates and sysctls, of either kind of chain.
pub const COMMON: &[Damage] = &[
    inside("ip addr del $V4 dev eth0"),
    inside("ip addr flush dev eth0 scope global"),
    inside("ip addr del $V4 dev eth0; ip addr add ${V4%/*}/16 dev eth0"),
    inside("ip addr del $V6 dev eth0; ip addr add ${V6%/*}/48 dev eth0 nodad"),
    inside("ip link set eth0 down"),
    inside("ip link set eth0 address 02:00:00:00:00:01"),
    inside("ip route del default"),
    inside("ip -6 route del default"),
    inside("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"),
    inside("sysctl -qw net.ipv4.conf.all.log_martians=0"),
    on_node("ip link set $VETH down"),
    on_node("rm /var/lib/cni/networks/web/${V4%/*}"),
    on_node("tc qdisc del dev $VETH root"),
    on_node("tc qdisc replace dev $VETH root tbf rate 1mbit burst 10kb latency 25ms"),
    on_node("tc qdisc del dev $VETH ingress"),
    on_node("tc filter del dev $VETH ingress"),
    on_node("tc qdisc del dev $IFB root"),
    on_node("ip link set $IFB down"),
    on_node("ip link del $IFB"),
    on_node("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0"),
];

const EDITED_GATEWAY: &str = "ip addr del 10.1.0.1/24 dev cni0; ip addr add 10.1.0.99/24 dev cni0";

/// To what only a bridge has.
pub const OF_BRIDGE: &[Damage] = &[
    on_node("ip link del cni0"),
    on_node("ip link set cni0 down"),
    on_node("ip addr flush dev cni0 scope global"),
    on_node(EDITED_GATEWAY),
    on_node("ip link set $VETH nomaster"),
    on_node("bridge link set dev $VETH hairpin off"),
    on_node("sysctl -qw net.ipv4.conf.cni0.route_localnet=0"),
];

/// To what only a link to the node has.
pub const OF_PTP: &[Damage] = &[
    on_node("ip addr flush dev $VETH scope global"),
    on_node("ip route del ${V4%/*}"),
    on_node("ip -6 route del ${V6%/*}"),
    inside("ip route del 10.1.0.1"),
    on_node("sysctl -qw net/ipv4/conf/$VETH/route_localnet=0"),
];

impl Damage {
    /// How the name of the device begins that is not quite as before when it has been repaired: one that was deleted comes
    /// back with another number, and what somebody has added stays.
    pub fn leaves_other(&self) -> Option<&'static str> {
        match self.command {
            "ip link del cni0" | EDITED_GATEWAY => Some("cni0"),
            "ip link del $IFB" => Some("ifb"),
            _ => None,
        }
    }

    /// Does it.
    pub fn be_done(&self, node: &Node, container: &Container, result: &Value) {
        let shell = ["sh", "-c", self.command];
        let run = if self.inside { container.cmd(shell) } else { node.cmd(shell) };
        let of = |start: &str| {
            let mut names = result["interfaces"].as_array().unwrap().iter();
            let own = names.find(|one| one["name"].as_str().unwrap().starts_with(start));
            own.unwrap()["name"].as_str().unwrap().to_owned()
        };
        let address = |index: usize| result["ips"][index]["address"].as_str().unwrap().to_owned();
        run.env("VETH", of("veth"))
            .env("IFB", of("ifb"))
            .env("V4", address(0))
            .env("V6", address(1))
            .output()
            .success();
        if ["ip link set eth0 down", "ip link set $VETH down"].contains(&self.command) {
            // The other end loses its carrier a moment later.
            await_down(container, "eth0");
            await_down(node, &of("veth"));
        }
    }
}

fn await_down(netns: &Netns, device: &str) {
    until(&format!("{device} is down"), Duration::from_secs(10), || {
        let link = netns.json(["ip", "-j", "link", "show", device]);
        (link[0]["operstate"] == "DOWN").then_some(())
    });
}

/// Where it is done, and the command, on one line.
impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.inside { "container" } else { "node" };
        let words: Vec<_> = self.command.split_whitespace().collect();
        write!(f, "{place}: {}", words.join(" "))
    }
}
