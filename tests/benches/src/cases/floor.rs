//! What the kernel alone takes for the full chain, by the bare program.

use std::{convert::Infallible, time::Duration};

use testnode::Container;

use crate::peers::{Stand, Way, timed};

/// What it finds there, as a first container of Catena's would have made it.
pub fn prepare(stand: &Stand<'_>) {
    stand
        .node
        .ip("link add floor0 type bridge\naddr add 10.9.0.1/16 dev floor0\nlink set floor0 up\n");
    let rules = "table ip floor {
        map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
        chain hide { ip daddr 10.9.0.0/16 return; masquerade; }
        set hairpin { type ipv4_addr . ipv4_addr; }
        map pods { type ipv4_addr : verdict; }
        chain in { type nat hook prerouting priority -90; dnat ip to meta l4proto . th dport map @ports; }
        chain out { type nat hook postrouting priority 100; ip saddr vmap @pods; }
    }";
    stand.node.cmd(["nft", "-f", "-"]).stdin(rules).output().success();
}

/// Gives a container what the full chain does. Its number tells it from others.
pub fn add(stand: &Stand<'_>, container: &Container, number: u16) {
    let path = container.path().display().to_string();
    run(stand, &["add", &path, &number.to_string()]);
}

/// How long that takes for a new container, and to take it away; with [`Way::Veth`] for a veth alone. There is no CHECK.
pub fn times(stand: &Stand<'_>, number: u16) -> [Option<Duration>; 3] {
    let container = stand.node.container("alone");
    let (add, del) = match stand.way {
        Way::Veth => ("add-veth", "del-veth"),
        _ => ("add", "del"),
    };
    let path = container.path().display().to_string();
    let timed = |work: &dyn Fn()| {
        Some(timed(|| {
            work();
            Ok::<_, Infallible>(())
        }))
    };
    let number_text = number.to_string();
    let times = [
        timed(&|| run(stand, &[add, &path, &number_text])),
        None,
        timed(&|| run(stand, &[del, &number_text])),
    ];
    container.delete();
    times
}

fn run(stand: &Stand<'_>, args: &[&str]) {
    stand.node.cmd([&stand.binaries.floor]).args(args).output().success();
}
