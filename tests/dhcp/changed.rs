//! Leases of networks that are not the usual ones, and of such that become others: the kernel has what the server says.

use testnode::dhcp::{Pool, Program};
use testnode::{Background, Container, Node, until};

use crate::PATIENCE;
use crate::lan::{Lan, address, list, short, state};

/// dnsmasq in the place of the network's own server, with these options; the host has their routers' addresses as well.
fn serve(lan: &mut Lan<'_>, options: &[&str]) -> Background {
    lan.server.stop();
    let log = lan.node.fresh_path("dnsmasq.log");
    let dnsmasq =
        ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root"];
    let run = lan.server.host().cmd(dnsmasq);
    let run =
        run.args(["--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"]);
    let run = run.args(["--log-dhcp", "--log-facility=-", "--pid-file=", "--leasefile-ro"]);
    let run =
        run.args(["--dhcp-range=10.7.0.50,10.7.0.59,255.255.255.0,120", "--dhcp-option=58,3"]);
    // What is asked for while there is no server is asked for again soon.
    let run = run.args(["--dhcp-option=59,15"]);
    let server =
        run.args(options.iter().map(|option| format!("--dhcp-option={option}"))).spawn(log);
    until("dnsmasq serves", PATIENCE, || server.log().contains("DHCP, IP range").then_some(()));
    server
}

fn await_routes(pod: &Container, wanted: &[&str]) {
    until(&format!("the routes are {wanted:?}"), PATIENCE, || {
        let routes = state(pod, "eth0").1;
        let routes: Vec<_> = routes.lines().map(str::trim).collect();
        (routes == wanted).then_some(())
    });
}

#[test]
fn a_router_that_a_route_of_the_lease_leads_to_is_reached_and_followed_when_it_is_another() {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    lan.server.host().ip("addr add 10.9.9.1/32 dev eth0\naddr add 10.9.8.1/32 dev eth0\naddr add 192.0.2.7/32 dev lo\n");
    // The route that needs the other one comes first.
    let first = serve(&mut lan, &["121,192.0.2.0/24,10.9.9.1,10.9.9.1/32,0.0.0.0"]);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let leased = address(&lan.catena().add(&list(), &pod));
    let own = format!("10.7.0.0/24 dev eth0 proto kernel scope link src {leased}");
    await_routes(
        &pod,
        &[&own, "10.9.9.1 dev eth0 scope link", "192.0.2.0/24 via 10.9.9.1 dev eth0"],
    );
    pod.ping("192.0.2.7");
    drop(first);
    let second = serve(&mut lan, &["121,192.0.2.0/24,10.9.8.1,10.9.8.1/32,0.0.0.0"]);
    await_routes(
        &pod,
        &[&own, "10.9.8.1 dev eth0 scope link", "192.0.2.0/24 via 10.9.8.1 dev eth0"],
    );
    pod.ping("192.0.2.7");
    drop(second);
}

#[test]
fn an_address_that_is_alone_in_its_subnet_has_a_default_route() {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    lan.server.host().ip("addr add 192.0.2.7/32 dev lo\n");
    let _server = serve(&mut lan, &["1,255.255.255.255", "3,10.7.0.1"]);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let result = lan.catena().add(&list(), &pod);
    assert_eq!(result["ips"][0]["address"], format!("{}/32", address(&result)));
    await_routes(&pod, &["default via 10.7.0.1 dev eth0", "10.7.0.1 dev eth0 scope link"]);
    pod.ping("192.0.2.7");
    lan.catena().check(&list(), &pod);
}

#[test]
fn a_lease_that_comes_back_with_another_prefix_changes_the_interface() {
    let node = Node::new();
    let pool = short(3600, [2, 14]);
    let mut lan = Lan::with(&node, Program::Isc, pool);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let leased = address(&lan.catena().add(&list(), &pod));
    lan.server.serve(Pool { prefix: 16, ..pool });
    lan.server.resume();
    until("the prefix is the new one, and the routes are there", PATIENCE, || {
        let addresses = pod.run(["ip", "-4", "-brief", "addr", "show", "eth0"]);
        let routes = state(&pod, "eth0").1;
        let has = |route: &str| routes.contains(route);
        let whole = has("10.7.0.0/16 dev eth0")
            && has("10.9.0.0/16 via 10.7.0.3")
            && has("default via 10.7.0.1");
        (addresses.contains(&format!("{leased}/16")) && whole && !has("10.7.0.0/24")).then_some(())
    });
    assert_eq!(state(&pod, "eth0").0, [leased]);
    pod.ping("10.7.0.1");
    assert!(!daemon.log().contains("is lost"), "{}", daemon.log());
}

#[test]
fn a_change_that_cannot_be_made_is_made_as_soon_as_it_can() {
    let node = Node::new();
    let pool = short(3600, [2, 14]);
    let mut lan = Lan::with(&node, Program::Isc, pool);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let leased = address(&lan.catena().add(&list(), &pod));
    // The kernel takes no route by a router that nothing leads to.
    pod.ip("route del 10.7.0.0/24 dev eth0\n");
    // No renewal sees to it.
    lan.server.serve(Pool { via: 4, times: [1800, 3150], ..pool });
    lan.server.resume();
    daemon.await_log("the interface does not follow the lease, and is seen to again");
    daemon.await_log("what eth0 has of the lease is not seen to");
    let own = format!("10.7.0.0/24 dev eth0 proto kernel scope link src {leased}");
    pod.ip(&format!("route add {own}\n"));
    let new = "10.9.0.0/16 via 10.7.0.4 dev eth0 mtu 1400";
    await_routes(&pod, &["default via 10.7.0.1 dev eth0 mtu 1400", &own, new]);
    daemon.await_log("eth0 had lost the route to 10.9.0.0/16, and has it again");
}
