//! Leases of IPv6, alone and beside one of IPv4.

use std::fs;
use std::net::Ipv6Addr;

use serde_json::{Value, json};
use testnode::dhcp::{DhcpServer, Family, Pool, Program};
use testnode::{
    Advertiser, Catena, Container, Netns, Node, PluginOutput, Shared, assert_same, until,
};

use crate::lan::{Daemon, Lan, address, list_with, short, state};
use crate::{CATENA, PATIENCE};

const BOTH: [&str; 2] = ["IPv4", "IPv6"];
/// For daemons that shall not wait long for servers that are not there.
const IMPATIENT: [&str; 6] = ["-timeout", "1s", "-resendmax", "1s", "-resendtimeout", "4s"];
const RECORDS: &str = "/var/lib/catena/dhcp/run-cni-dhcp.sock";

/// Without an address of its own a bridge has that of some interface on it, and another one when that goes.
fn give_the_bridge_an_address(node: &Node) {
    node.ip("link set cni1 address 02:00:00:00:00:09\n");
}

/// A pool of IPv6 whose leases last some seconds.
fn short_v6(lease: u32, times: [u32; 2]) -> Pool {
    Pool { family: Family::V6, ..short(lease, times) }
}

fn list(families: &[&str]) -> Value {
    list_with(json!({ "ipFamilies": families }))
}

/// The addresses of IPv6 on an interface that are more than its own.
fn addresses(container: &Netns) -> Vec<String> {
    let shown = container.json(["ip", "-json", "-6", "addr", "show", "eth0"]);
    let all = shown[0]["addr_info"].as_array().into_iter().flatten();
    let text = |one: &Value| format!("{}/{}", one["local"].as_str().unwrap(), one["prefixlen"]);
    all.filter(|one| one["scope"] == "global").map(text).collect()
}

#[track_caller]
fn await_addresses(container: &Netns, wanted: &[&str]) {
    until(&format!("the addresses are {wanted:?}"), PATIENCE, || {
        (addresses(container) == wanted).then_some(())
    });
}

/// Waits until a lease was given back. dnsmasq does not say of which address.
#[track_caller]
fn await_released(server: &DhcpServer<'_>, program: Program, address: &str) {
    until(&format!("{address} is given back"), PATIENCE, || match program {
        Program::Dnsmasq => server.log().contains("release received").then_some(()),
        _ => (server.released(address) > 0).then_some(()),
    });
}

/// A lease is got, with all that goes with it, renewed, kept over the daemon's death and over the server's, and given back.
fn a_lease_lives(program: Program) {
    let node = Node::new();
    // dnsmasq has times of its own, and takes no shorter lease.
    let lease = if program == Program::Dnsmasq { 120 } else { 30 };
    let mut lan = Lan::with(&node, program, short_v6(lease, [2, 12]));
    give_the_bridge_an_address(&node);
    let mut daemon = Daemon::catenas(&node, &["-timeout", "2s"]);
    let [one, two] = ["one", "two"].map(|name| node.container(name));
    let (catena, list) = (lan.catena(), list(&["IPv6"]));
    let result = catena.add(&list, &one);
    let address = address(&result);
    assert!(address.starts_with("fd07::5"), "{result}");
    let alone = format!("{address}/128");
    assert_eq!(result["ips"], json!([{ "address": alone, "interface": 2 }]));
    assert_eq!(result["routes"], Value::Null, "{result}");
    assert_eq!(result["dns"], json!({ "nameservers": ["fd07::2"], "search": ["example.org"] }));
    assert_eq!((addresses(&one), state(&one, "eth0").0.len()), (vec![alone.clone()], 0));
    assert_eq!(catena.add(&list, &two)["ips"].as_array().unwrap().len(), 1);
    if program != Program::Dnsmasq {
        lan.await_granted(&address, 3);
    }
    daemon.kill();
    let granted = lan.server.granted(&address);
    daemon = Daemon::catenas(&node, &["-timeout", "2s"]);
    daemon.await_log(&format!("{address} is confirmed"));
    lan.await_granted(&address, granted + 1);
    if program != Program::Dnsmasq {
        lan.server.stop();
        daemon.await_log(&format!("{address} is not extended yet"));
        lan.server.resume();
        lan.await_granted(&address, lan.server.granted(&address) + 1);
    }
    assert_eq!(addresses(&one), [alone]);
    catena.check(&list, &one);
    assert!(!daemon.log().contains("is lost"), "{}", daemon.log());
    catena.del(&list, &one);
    await_released(&lan.server, program, &address);
    catena.del(&list, &two);
    assert_eq!(fs::read_dir(RECORDS).unwrap().count(), 0);
}

#[test]
fn a_lease_of_dnsmasq_lives() {
    a_lease_lives(Program::Dnsmasq);
}

#[test]
fn a_lease_of_kea_lives() {
    a_lease_lives(Program::Kea);
}

#[test]
fn a_lease_of_dhcpd_lives() {
    a_lease_lives(Program::Isc);
}

/// A network with servers of both families, whose leases are renewed after two seconds.
fn both(node: &Node) -> (Lan<'_>, DhcpServer<'_>) {
    let lan = Lan::with(node, Program::Isc, short(3600, [2, 3000]));
    let v6 = lan.server.beside(Program::Isc, short_v6(3600, [2, 3000]));
    (lan, v6)
}

/// The addresses of a result, without prefix lengths.
fn of_both(result: &Value) -> [String; 2] {
    [0, 1].map(|at| {
        let text = result["ips"][at]["address"].as_str().unwrap_or_else(|| panic!("{result}"));
        text.split('/').next().unwrap().to_owned()
    })
}

#[test]
fn an_attachment_of_both_families_has_a_lease_of_each() {
    let node = Node::new();
    let (lan, server) = both(&node);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let (catena, list) = (lan.catena(), list(&BOTH));
    let before = node.snapshot();
    let result = catena.add(&list, &pod);
    let [v4, v6] = of_both(&result);
    assert!(v4.starts_with("10.7.0.5") && v6.starts_with("fd07::5"), "{result}");
    assert_eq!(result["ips"][1]["gateway"], Value::Null);
    assert_eq!(
        result["dns"],
        json!({ "nameservers": ["10.7.0.2", "fd07::2"], "domain": "example.org", "search": ["example.org"] })
    );
    pod.ping("10.7.0.1");
    until("both are renewed", PATIENCE, || {
        (lan.server.granted(&v4) > 2 && server.granted(&v6) > 2).then_some(())
    });
    until("nothing is open that leads into the pod", PATIENCE, || {
        daemon.abroad().is_empty().then_some(())
    });
    daemon.kill();
    let daemon = lan.daemon();
    for address in [&v4, &v6] {
        daemon.await_log(&format!("{address} is confirmed"));
    }
    until("both are renewed", PATIENCE, || {
        (lan.server.granted(&v4) > 5 && server.granted(&v6) > 5).then_some(())
    });
    assert_eq!(
        (state(&pod, "eth0").0, addresses(&pod)),
        (vec![v4.clone()], vec![format!("{v6}/128")])
    );
    catena.check(&list, &pod);
    catena.del(&list, &pod);
    lan.await_released(&v4);
    await_released(&server, Program::Isc, &v6);
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    // The first family comes first.
    let [v6, v4] = of_both(&catena.add(&self::list(&["IPv6", "IPv4"]), &pod));
    assert!(v4.starts_with("10.7.0.5") && v6.starts_with("fd07::5"), "{v4} {v6}");
}

#[test]
fn a_namespace_that_disappears_without_del_ends_both_leases() {
    let node = Node::new();
    let (lan, server) = both(&node);
    give_the_bridge_an_address(&node);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let [v4, v6] = of_both(&lan.catena().add(&list(&BOTH), &pod));
    pod.delete();
    daemon.await_log("is gone without DEL");
    lan.await_released(&v4);
    await_released(&server, Program::Isc, &v6);
    until("the record is gone", PATIENCE, || {
        (fs::read_dir(RECORDS).unwrap().count() == 0).then_some(())
    });
}

/// Where duplicates are detected, a server is told of one.
fn an_address_that_another_host_has_is_declined(program: Program) {
    let node = Node::new();
    let pool = Pool { addresses: 1, ..Pool::new(Family::V6) };
    let lan = Lan::with(&node, program, pool);
    let daemon = Daemon::catenas(&node, &IMPATIENT);
    node.ip("addr add fd07::50/64 dev cni1 nodad\n");
    let pod = node.container("pod");
    let mut list = list(&["IPv6"]);
    list["plugins"][0]["enabledad"] = json!(true);
    let text = PluginOutput::from(lan.catena().try_add(&list, &pod)).error_text();
    assert!(text.contains("fd07::50/128") && text.contains("duplicate"), "{text}");
    daemon.await_log("another host has fd07::50, as the server knows now");
    assert_eq!(lan.server.declined(), 1, "{}", lan.server.log());
    until("the record is gone", PATIENCE, || {
        (fs::read_dir(RECORDS).unwrap().count() == 0).then_some(())
    });
    // dnsmasq only begins elsewhere to look for a free one.
    if program != Program::Dnsmasq {
        let other = node.container("other");
        let text = PluginOutput::from(lan.catena().try_add(&list, &other)).error_text();
        assert!(text.contains("NoAddrsAvail"), "{text}");
    }
}

#[test]
fn an_address_that_another_host_has_is_declined_to_dnsmasq() {
    an_address_that_another_host_has_is_declined(Program::Dnsmasq);
}

#[test]
fn an_address_that_another_host_has_is_declined_to_kea() {
    an_address_that_another_host_has_is_declined(Program::Kea);
}

#[test]
fn an_address_that_another_host_has_is_declined_to_dhcpd() {
    an_address_that_another_host_has_is_declined(Program::Isc);
}

#[test]
fn a_lease_that_ends_takes_only_its_familys_address_and_comes_back_with_the_server() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut server = lan.server.beside(Program::Isc, short_v6(6, [2, 4]));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let (catena, list) = (lan.catena(), list(&BOTH));
    let [v4, v6] = of_both(&catena.add(&list, &pod));
    server.stop();
    daemon.await_log(&format!("the lease of {v6} is lost: it has expired"));
    await_addresses(&pod, &[]);
    assert_eq!(state(&pod, "eth0").0, [v4]);
    pod.ping("10.7.0.1");
    let text = catena.try_check(&list, &pod).failure().stderr;
    assert!(text.contains(&format!("the lease of {v6} is lost")) || text.contains(&v6), "{text}");
    server.resume();
    await_addresses(&pod, &[&format!("{v6}/128")]);
    until("CHECK is content", PATIENCE, || {
        catena.try_check(&list, &pod).is_success().then_some(())
    });
}

/// The other family's lease is not kept without it.
#[test]
fn a_family_that_gets_nothing_fails_add_and_leaves_nothing() {
    for (served, missing) in [(Family::V4, "IPv6"), (Family::V6, "IPv4")] {
        let node = Node::new();
        let lan = Lan::with(&node, Program::Isc, Pool::new(served));
        let _daemon = Daemon::catenas(&node, &IMPATIENT);
        let pod = node.container("pod");
        let before = node.snapshot();
        let text = PluginOutput::from(lan.catena().try_add(&list(&BOTH), &pod)).error_text();
        assert!(text.contains(&format!("{missing}: no DHCP server answers")), "{text}");
        let first = match served {
            Family::V4 => "10.7.0.50",
            Family::V6 => "fd07::50",
        };
        let last = |n: u8| format!("{}{n}", first.strip_suffix('0').unwrap());
        until("what was got is given back", PATIENCE, || {
            (0..10).any(|n| lan.server.released(&last(n)) > 0).then_some(())
        });
        assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
        assert_eq!(fs::read_dir(RECORDS).unwrap().count(), 0);
    }
}

#[test]
fn families_that_are_none_are_refused_by_their_key() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let catena = lan.catena();
    for wrong in [json!([]), json!(["IPv5"]), json!(["IPv6", "IPv6"]), json!("IPv6")] {
        let list = list_with(json!({ "ipFamilies": wrong }));
        for output in [catena.status(&list), catena.try_add(&list, &pod)] {
            let output = PluginOutput::from(output);
            assert_eq!(output.error_code(), 7);
            let text = output.error_text();
            assert!(text.contains(&format!("ipFamilies {wrong}: it is [\"IPv4\"]")), "{text}");
        }
        catena.del(&list, &pod);
    }
}

#[test]
fn the_references_daemon_is_found_to_know_no_ipv6() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.reference();
    let pod = node.container("pod");
    let output = PluginOutput::from(lan.catena().try_add(&list(&BOTH), &pod));
    assert_eq!(output.error_code(), 50);
    let text = output.error_text();
    assert!(text.contains("gave no lease of IPv6, which ipFamilies asks for"), "{text}");
    until("what it got is given back", PATIENCE, || {
        lan.server.log().contains("DHCPRELEASE(eth0)").then_some(())
    });
}

/// A container whose lease is the only thing that it has of IPv6, on a network with a router.
fn behind_a_router<'n>(
    node: &'n Node,
    lan: &Lan<'n>,
    list: &Value,
) -> (Container, Advertiser, Value) {
    let router =
        Advertiser::start(lan.server.host(), "eth0", Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 0));
    let pod = node.container("pod");
    // As the kernel has it by default.
    pod.set_sysctl("ipv6.conf.default.accept_ra", "1");
    let result = lan.catena().add(list, &pod);
    (pod, router, result)
}

/// Whether a container knows anything of its router.
fn believes(pod: &Netns) -> bool {
    let routes = pod.run(["ip", "-6", "route"]);
    routes.contains("fd07::/64") || routes.contains("default")
}

/// The interface is up while servers are asked (CVE-2020-10749).
#[test]
fn a_container_that_waits_for_its_lease_believes_no_router() {
    let node = Node::new();
    let (lan, _server) = both(&node);
    let _daemon = lan.daemon();
    // For the lease's address alone.
    let list = list(&["IPv6"]);
    let (pod, _router, result) = behind_a_router(&node, &lan, &list);
    assert_eq!(addresses(&pod), [format!("{}/128", address(&result))]);
    assert!(!believes(&pod), "{}", pod.run(["ip", "-6", "route"]));
}

#[test]
fn a_bridge_takes_no_address_of_another_container_for_its_gateway() {
    let node = Node::new();
    let (lan, _server) = both(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let mut list = list(&BOTH);
    for key in ["isGateway", "isDefaultGateway"] {
        list["plugins"][0][key] = json!(true);
    }
    let result = lan.catena().add(&list, &pod);
    assert_eq!(result["ips"][0]["gateway"], "10.7.0.1");
    assert_eq!(result["ips"][1]["gateway"], Value::Null, "{result}");
    assert!(!node.run(["ip", "-6", "addr", "show", "cni1"]).contains("fd07::"));
}

/// What docs/ipam.md gives as the way out.
#[test]
fn with_tuning_a_container_takes_its_routes_of_the_router() {
    let node = Node::new();
    let (lan, _server) = both(&node);
    let _daemon = lan.daemon();
    let mut list = list(&["IPv6"]);
    let tuning = json!({ "type": "tuning", "sysctl": {
        "net.ipv6.conf.IFNAME.autoconf": "0", "net.ipv6.conf.IFNAME.accept_ra": "1" } });
    list["plugins"].as_array_mut().unwrap().push(tuning);
    let (pod, _router, result) = behind_a_router(&node, &lan, &list);
    until("the router is known", PATIENCE, || {
        let routes = pod.run(["ip", "-6", "route"]);
        (routes.contains("fd07::/64") && routes.contains("default via fe80::")).then_some(())
    });
    let leased = address(&result);
    assert_eq!(addresses(&pod), [format!("{leased}/128")]);
    pod.ping("fd07::1");
    lan.server.host().ping(&leased);
    lan.catena().check(&list, &pod);
}

#[test]
fn ptp_has_no_lease() {
    let node = Node::new();
    let (lan, _server) = both(&node);
    let _daemon = Daemon::catenas(&node, &IMPATIENT);
    let pod = node.container("pod");
    let ipam = json!({ "type": "dhcp", "ipFamilies": ["IPv6"] });
    let list = json!({ "cniVersion": "1.1.0", "name": "leased", "plugins": [{ "type": "ptp", "ipam": ipam }] });
    let catena = Catena::new(lan.node, CATENA);
    for output in [catena.try_add(&list, &pod), catena.status(&list)] {
        let text = PluginOutput::from(output).error_text();
        assert!(text.contains("ptp asks its IPAM plugin before"), "{text}");
    }
}
