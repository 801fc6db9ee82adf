//! Nodes whose addresses change: what the others and they themselves have follows.

use std::time::Duration;

use testnode::{Netns, Node, until};

use crate::egress::await_set;
use crate::machines::{Machine, Wires};
use crate::{A, B, C, PATIENCE, assert_reached};

/// How long it takes until a daemon has noticed that its connection to the API is dead, and has told of it.
const UNTIL_NOTICED: Duration = Duration::from_secs(60);

/// Gives a node other addresses instead of those that it has, on its link and then in its Node. Its connections die with the
/// old ones.
fn moves(machine: &Machine<'_>, old: [&str; 2], new: [&str; 2]) {
    // The kernel would take the new one away with the old one.
    machine.netns.set_sysctl("ipv4.conf.eth0.promote_secondaries", "1");
    machine.netns.ip(&format!(
        "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n\
         addr del {}/24 dev eth0\naddr del {}/64 dev eth0\n",
        new[0], new[1], old[0], old[1]
    ));
    machine.tell_addresses(&new);
}

/// Waits until the tunnel goes out from `local` and leads to these nodes and no others.
#[track_caller]
fn await_tunnel(machine: &Machine<'_>, local: &str, remote: &[&str]) {
    until(&format!("the tunnel leads from {local} to {remote:?}"), UNTIL_NOTICED, || {
        // While it is made anew there is none to be shown.
        let shown = |show: &[&str]| -> Option<serde_json::Value> {
            serde_json::from_str(&machine.netns.try_run(show).stdout).ok()
        };
        let link = shown(&["ip", "-j", "-d", "link", "show", "catena.vxlan"])?;
        let known = shown(&["bridge", "-j", "fdb", "show", "dev", "catena.vxlan"])?;
        let known = known.as_array().cloned().unwrap_or_default();
        let mut ends: Vec<_> = known.iter().filter_map(|one| one["dst"].as_str()).collect();
        ends.sort_unstable();
        let is_so = link[0]["linkinfo"]["info_data"]["local"] == local && ends == remote;
        is_so.then_some(())
    });
}

/// Waits until the next hop is this one.
#[track_caller]
fn await_hop(machine: &Machine<'_>, to: &str, via: &str) {
    until(&format!("{to} is reached by {via}"), PATIENCE, || {
        (machine.way(to) == ("eth0".into(), Some(via.parse().unwrap()))).then_some(())
    });
}

#[test]
fn a_nodes_new_addresses_are_followed_by_routes_tunnels_and_rules() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b, c) =
        (wires.machine("a", 1, 11), wires.machine("b", 2, 12), wires.machine("c", 1, 13));
    let all = [&a, &b, &c];
    for (machine, cidrs) in all.into_iter().zip([A, B, C]) {
        machine.join(&cidrs);
    }
    let _daemons =
        all.map(|machine| machine.daemon(&["--pod-network", "--conf-dir", &machine.conf_dir()]));
    let await_nodes = |v4: &str, v6: &str| {
        for machine in all {
            await_set(machine, "cluster_nodes4", v4);
            await_set(machine, "cluster_nodes6", v6);
        }
    };
    a.await_kept(&[B[0], C[0], B[1], C[1]]);
    b.await_kept(&[A[0], C[0], A[1], C[1]]);
    c.await_kept(&[A[0], B[0], A[1], B[1]]);
    await_tunnel(&b, "192.168.2.12", &["192.168.1.11", "192.168.1.13"]);
    await_nodes("192.168.1.11, 192.168.1.13, 192.168.2.12", "fd01::b, fd01::d, fd02::c");
    let names = ["pod-a", "pod-b", "pod-c"];
    let pods: [Netns; 3] = std::array::from_fn(|n| all[n].pod_of_network(names[n]));
    let pods: [_; 3] = std::array::from_fn(|n| (&pods[n], all[n].addresses_of(names[n])));
    assert_reached(&pods);

    // The one beyond the router: both ends of its tunnels.
    moves(&b, ["192.168.2.12", "fd02::c"], ["192.168.2.22", "fd02::16"]);
    await_tunnel(&a, "192.168.1.11", &["192.168.2.22"]);
    await_tunnel(&b, "192.168.2.22", &["192.168.1.11", "192.168.1.13"]);
    await_tunnel(&c, "192.168.1.13", &["192.168.2.22"]);
    await_nodes("192.168.1.11, 192.168.1.13, 192.168.2.22", "fd01::b, fd01::d, fd02::16");
    assert_reached(&pods);

    // One that is another's next hop, too; it has its old addresses beside the new ones.
    a.netns.ip("addr add 192.168.1.21/24 dev eth0\naddr add fd01::15/64 dev eth0 nodad\n");
    a.tell_addresses(&["192.168.1.21", "fd01::15"]);
    await_hop(&c, "10.1.1.5", "192.168.1.21");
    await_hop(&c, "fd10:0:0:1::5", "fd01::15");
    await_tunnel(&a, "192.168.1.21", &["192.168.2.22"]);
    await_tunnel(&b, "192.168.2.22", &["192.168.1.13", "192.168.1.21"]);
    await_nodes("192.168.1.13, 192.168.1.21, 192.168.2.22", "fd01::d, fd01::15, fd02::16");
    for machine in all {
        let kept = machine.kept();
        assert_eq!(kept.len(), 4, "{kept:?}");
    }
    assert_reached(&pods);
}
