//! Leases that are lost, or not to be had, beside each server.

use testnode::dhcp::{Family, Pool, Program};
use testnode::{Background, Container, Node, until};

use crate::PATIENCE;
use crate::lan::{self, Daemon, Lan, address, await_address, list, short, state};

/// Waits until the address of a lease that was refused is replaced by another one's, with its routes.
fn await_another(lan: &Lan<'_>, daemon: &Daemon, pod: &testnode::Netns, first: &str) -> String {
    daemon.await_log(&format!("the lease of {first} is lost: a DHCP server refuses the lease"));
    let second = until("another address is there, with its routes", PATIENCE, || {
        let (addresses, routes) = state(pod, "eth0");
        let [address] = &addresses[..] else { return None };
        let has = |route: &str| routes.contains(route);
        let whole = has("10.9.0.0/16 via 10.7.0.3") && has("default via 10.7.0.1");
        (whole && address != first).then(|| address.clone())
    });
    assert!(lan.server.refused(first) > 0, "{}", lan.server.log());
    assert!(lan.server.granted(&second) > 0, "{}", lan.server.log());
    pod.ping("10.7.0.1");
    second
}

/// A server that has given the address to somebody else refuses to renew the lease.
fn a_refused_lease_is_replaced(program: Program) {
    let node = Node::new();
    // dnsmasq takes no shorter lease, and no shorter times.
    let mut lan = Lan::with(&node, program, short(120, [3, 15]));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    lan.await_granted(&first, 2);
    lan.server.lease_to_another(&first);
    let second = await_another(&lan, &daemon, &pod, &first);
    // The runtime was told of another one.
    let text = lan.catena().try_check(&list(), &pod).failure().stderr;
    assert!(text.contains(&format!("has no address {first}")), "{text}");
    lan.catena().del(&list(), &pod);
    lan.await_released(&second);
}

/// The same of a daemon that comes when that has happened, and asks whether the lease still holds.
fn a_lease_that_is_refused_after_a_restart_is_replaced(program: Program) {
    let node = Node::new();
    let mut lan = Lan::with(&node, program, Pool::new(Family::V4));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    lan.server.lease_to_another(&first);
    let daemon = lan.daemon();
    let second = await_another(&lan, &daemon, &pod, &first);
    lan.catena().del(&list(), &pod);
    lan.await_released(&second);
}

/// A lease whose time is over is taken off the interface, and comes back with the server.
fn an_expired_lease_goes_and_comes_back(program: Program) {
    let node = Node::new();
    let mut lan = Lan::with(&node, program, short(6, [2, 4]));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    if program == Program::Dnsmasq {
        // Its leases last for two minutes at least: these go by while no daemon is there.
        daemon.kill();
        lan.server.stop();
        daemon = later(&node, 150);
    } else {
        lan.await_granted(&first, 2);
        lan.server.stop();
        daemon.await_log(&format!("{first} is not extended yet"));
    }
    await_address(&pod, None);
    daemon.await_log(&format!("the lease of {first} is lost: it has expired"));
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("10.7.0.1") && !routes.contains("10.9.0.0"), "{routes}");
    let text = lan.catena().try_check(&list(), &pod).failure().stderr;
    assert!(text.contains(&format!("has no address {first}")), "{text}");
    lan.server.resume();
    await_address(&pod, Some(&first));
    until("the routes are there again", PATIENCE, || {
        state(&pod, "eth0").1.contains("10.9.0.0/16 via 10.7.0.3").then_some(())
    });
    pod.ping("10.7.0.1");
    lan.catena().check(&list(), &pod);
}

/// A daemon for which the node has been running that many seconds longer.
fn later(node: &Node, seconds: u32) -> Daemon {
    let offset = seconds.to_string();
    let apart = node.cmd(["unshare", "--time", "--fork", "--kill-child", "--boottime", &offset]);
    Daemon::run(node, apart.args([lan::program(node)]).args(["daemon", "-timeout", "1s"]))
}

/// A lease that has expired while the daemon could enter no container; its server is stopped. Returns its address, and what keeps the
/// daemon out as long as it is there.
fn expired_out_of_reach(
    lan: &mut Lan<'_>,
    daemon: &Daemon,
    pod: &Container,
) -> (String, Background) {
    let first = address(&lan.catena().add(&list(), pod));
    lan.await_granted(&first, 2);
    lan.server.stop();
    let pid = daemon.pid().to_string();
    let strace = ["strace", "-f", "-o", "/dev/null", "-e", "inject=setns:error=ENOMEM", "-p", &pid];
    let strace = lan.node.cmd(strace).spawn(lan.node.fresh_path("strace.log"));
    until("strace is there", PATIENCE, || strace.log().contains("attached").then_some(()));
    daemon.await_log(&format!("the lease of {first} is lost: it has expired"));
    daemon.await_log(&format!("the lease of {first}/24 is still on the interface: "));
    assert_eq!(state(pod, "eth0").0, [first.as_str()]);
    (first, strace)
}

#[test]
fn an_address_that_cannot_be_taken_off_goes_as_soon_as_it_can() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(6, [2, 4]));
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let (first, kept_out) = expired_out_of_reach(&mut lan, &daemon, &pod);
    drop(kept_out);
    await_address(&pod, None);
    lan.server.resume();
    await_address(&pod, Some(&first));
    lan.catena().check(&list(), &pod);
}

#[test]
fn an_address_that_could_not_be_taken_off_goes_with_the_next_daemon() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(6, [2, 4]));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let (first, _kept_out) = expired_out_of_reach(&mut lan, &daemon, &pod);
    daemon.kill();
    let daemon = lan.daemon();
    await_address(&pod, None);
    let routes = state(&pod, "eth0").1;
    assert!(!routes.contains("10.7.0.1") && !routes.contains("10.9.0.0"), "{routes}");
    daemon.await_log(&format!("what was left of the lease of {first}/24 is off the interface"));
}

/// Who finds no address left gets one as soon as another gives one back.
fn a_pool_without_an_address_left_fails_add(program: Program) {
    let node = Node::new();
    let lan = Lan::with(&node, program, Pool { addresses: 1, ..Pool::new(Family::V4) });
    let flags = ["-timeout", "500ms", "-resendmax", "500ms", "-resendtimeout", "2s"];
    let _daemon = Daemon::catenas(&node, &flags);
    let [one, two] = ["one", "two"].map(|name| node.container(name));
    let (catena, list) = (lan.catena(), list());
    let address = address(&catena.add(&list, &one));
    let text = catena.try_add(&list, &two).failure().stderr;
    assert!(text.contains("no DHCP server answers"), "{text}");
    assert_eq!(state(&one, "eth0").0, [address.as_str()]);
    catena.del(&list, &one);
    lan.await_released(&address);
    assert_eq!(lan::address(&catena.add(&list, &two)), address);
}

#[test]
fn a_lease_that_dnsmasq_refuses_is_replaced() {
    a_refused_lease_is_replaced(Program::Dnsmasq);
}

#[test]
fn a_lease_that_kea_refuses_is_replaced() {
    a_refused_lease_is_replaced(Program::Kea);
}

#[test]
fn a_lease_that_dhcpd_refuses_is_replaced() {
    a_refused_lease_is_replaced(Program::Isc);
}

#[test]
fn a_lease_that_dnsmasq_refuses_after_a_restart_is_replaced() {
    a_lease_that_is_refused_after_a_restart_is_replaced(Program::Dnsmasq);
}

#[test]
fn a_lease_that_kea_refuses_after_a_restart_is_replaced() {
    a_lease_that_is_refused_after_a_restart_is_replaced(Program::Kea);
}

#[test]
fn a_lease_that_dhcpd_refuses_after_a_restart_is_replaced() {
    a_lease_that_is_refused_after_a_restart_is_replaced(Program::Isc);
}

#[test]
fn an_expired_lease_of_dnsmasq_goes_and_comes_back() {
    an_expired_lease_goes_and_comes_back(Program::Dnsmasq);
}

#[test]
fn an_expired_lease_of_kea_goes_and_comes_back() {
    an_expired_lease_goes_and_comes_back(Program::Kea);
}

#[test]
fn an_expired_lease_of_dhcpd_goes_and_comes_back() {
    an_expired_lease_goes_and_comes_back(Program::Isc);
}

#[test]
fn without_an_address_left_at_dnsmasq_add_fails() {
    a_pool_without_an_address_left_fails_add(Program::Dnsmasq);
}

#[test]
fn without_an_address_left_at_kea_add_fails() {
    a_pool_without_an_address_left_fails_add(Program::Kea);
}

#[test]
fn without_an_address_left_at_dhcpd_add_fails() {
    a_pool_without_an_address_left_fails_add(Program::Isc);
}
