//! The netlink layer against the kernel's own view.

#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

use std::path::Path;

use chain::Code;
use delegates::{
    Node,
    net::{
        Mac,
        addr::NewAddress,
        link::{Bridge, Change, Ifb, Veth, VethPeer},
        route::Route,
    },
};
use nix::errno::Errno;
use testnode::{Container, Node as TestNode};

fn veth(node: &Node, container: &Container, name: &str, master: Option<u32>) {
    let inside = node.container(container.path()).unwrap();
    node.host()
        .unwrap()
        .link()
        .add(&Veth {
            name,
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: Some(1400),
            master,
            up: true,
            peer: VethPeer {
                name: "eth0",
                mac: "02:00:00:00:00:02".parse().unwrap(),
                netns: inside.netns(),
            },
        })
        .unwrap();
}

#[test]
fn one_request_makes_a_veth_with_each_end_where_it_belongs() {
    let outer = TestNode::new();
    let container = outer.container("c1");
    let node = Node::new();
    let host = node.host().unwrap();
    host.link().add(&Bridge { name: "br0", mac: Mac([2, 0, 0, 0, 0, 9]), mtu: None }).unwrap();
    let bridge = host.link().require("br0").unwrap();
    assert_eq!((bridge.kind.as_str(), bridge.up), ("bridge", true));

    veth(&node, &container, "vetha", Some(bridge.index));

    let outside = outer.json(["ip", "-j", "-d", "link", "show", "vetha"]);
    assert_eq!(outside[0]["master"], "br0");
    assert_eq!(outside[0]["address"], "02:00:00:00:00:01");
    assert_eq!(outside[0]["mtu"], 1400);
    assert!(outside[0]["flags"].as_array().unwrap().contains(&"UP".into()));
    let inside = container.json(["ip", "-j", "-d", "link", "show", "eth0"]);
    assert_eq!(inside[0]["address"], "02:00:00:00:00:02");
    assert_eq!(inside[0]["mtu"], 1400);
    assert_eq!(inside[0]["operstate"], "DOWN");

    let change = Change { hairpin: Some(true), isolated: Some(true), ..Change::default() };
    host.link().set("vetha", &change).unwrap();
    let link = host.link().require("vetha").unwrap();
    assert_eq!(link.kind, "veth");
    assert_eq!(link.mac, Some(Mac([2, 0, 0, 0, 0, 1])));
    assert_eq!(link.master, Some(bridge.index));
    assert!(link.port.unwrap().hairpin && link.port.unwrap().isolated);
}

#[test]
fn a_taken_name_is_told_by_its_errno() {
    let outer = TestNode::new();
    let node = Node::new();
    let host = node.host().unwrap();
    let bridge = Bridge { name: "br0", mac: Mac([2, 0, 0, 0, 0, 9]), mtu: None };
    host.link().add(&bridge).unwrap();
    let error = host.link().add(&bridge).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EEXIST));
    assert!(error.to_string().contains("cannot create bridge br0"), "{error}");
    drop(outer);
}

#[test]
fn devices_are_deleted_together_and_others_stay() {
    let outer = TestNode::new();
    let container = outer.container("c1");
    let node = Node::new();
    veth(&node, &container, "vetha", None);
    let links = node.host().unwrap();
    for name in ["ifb7", "ifb8"] {
        links.link().add(&Ifb { name, mtu: Some(1400) }).unwrap();
    }
    links.link().del_together(&["vetha", "absent", "ifb7"]).unwrap();
    assert!(links.link().get("vetha").unwrap().is_none());
    assert!(links.link().get("ifb7").unwrap().is_none());
    assert!(links.link().get("ifb8").unwrap().is_some());
    links.link().del_together(&["vetha", "ifb7"]).unwrap();
    assert!(!links.link().del("vetha").unwrap());
}

#[test]
fn addresses_and_routes_are_added_listed_and_removed() {
    let outer = TestNode::new();
    let container = outer.container("c1");
    let node = Node::new();
    veth(&node, &container, "vetha", None);
    let inside = node.container(container.path()).unwrap();
    let net = inside.net().unwrap();
    let eth0 = net.link().require("eth0").unwrap().index;
    let up = Change { up: Some(true), ..Change::default() };
    net.link().set("eth0", &up).unwrap();
    for address in ["10.1.0.2/24", "fd00:1::2/64"] {
        net.addr().add(eth0, &NewAddress::new(address.parse().unwrap())).unwrap();
        let again = net.addr().add(eth0, &NewAddress::new(address.parse().unwrap())).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::EEXIST));
    }
    let addresses = net.addr().list(eth0).unwrap();
    let global: Vec<_> =
        addresses.iter().filter(|a| a.global).map(|a| (a.net.to_string(), a.tentative)).collect();
    assert_eq!(global, [("10.1.0.2/24".to_owned(), false), ("fd00:1::2/64".to_owned(), false)]);
    let shown = container.json(["ip", "-j", "addr", "show", "eth0"]);
    assert_eq!(shown[0]["addr_info"][0]["broadcast"], "10.1.0.255");

    let mut default = Route::new("0.0.0.0/0".parse().unwrap(), eth0);
    default.via = Some("10.1.0.1".parse().unwrap());
    default.mtu = Some(1300);
    default.advmss = Some(1200);
    default.priority = Some(77);
    default.table = Some(1000);
    assert!(net.route().add(&default).unwrap());
    assert!(!net.route().add(&default).unwrap(), "the same once more");
    let default6 =
        Route { dst: "::/0".parse().unwrap(), via: Some("fd00:1::1".parse().unwrap()), ..default };
    assert!(net.route().add(&default6).unwrap());
    assert!(!net.route().add(&default6).unwrap(), "the same once more");
    let shown = container.json(["ip", "-j", "-d", "route", "show", "table", "1000"]);
    assert_eq!(shown[0]["gateway"], "10.1.0.1");
    assert_eq!(shown[0]["metric"], 77);
    assert_eq!(shown[0]["metrics"][0]["mtu"], 1300);
    assert_eq!(shown[0]["metrics"][0]["advmss"], 1200);
    for (v6, wanted) in [(false, default), (true, default6)] {
        let listed = net.route().list(v6, eth0, Some(1000)).unwrap();
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!(listed[0], Route { scope: Some(0), ..wanted });
        assert!(net.route().del(&wanted).unwrap());
        assert!(!net.route().del(&wanted).unwrap());
        assert!(net.route().list(v6, eth0, Some(1000)).unwrap().is_empty());
    }
    assert!(net.route().is_local("10.1.0.2".parse().unwrap()).unwrap());
    assert!(!net.route().is_local("10.1.0.3".parse().unwrap()).unwrap());
    assert!(!net.route().is_local("192.0.2.1".parse().unwrap()).unwrap());
    assert!(net.addr().del(eth0, "10.1.0.2/24".parse().unwrap()).unwrap());
    assert!(!net.addr().del(eth0, "10.1.0.2/24".parse().unwrap()).unwrap());
}

#[test]
fn what_is_no_container_is_refused() {
    let outer = TestNode::new();
    let node = Node::new();
    let refused =
        |path: &Path| node.container(path).and_then(|inside| inside.net().map(|_| ())).unwrap_err();
    assert_eq!(refused(Path::new("/run/netns/absent")).code, Code::UnknownContainer);
    assert_eq!(refused(&outer.fresh_path("absent")).code, Code::UnknownContainer);
    assert_eq!(refused(Path::new("/proc/self/ns/mnt")).code, Code::InvalidNetNs);
    assert_eq!(refused(Path::new("/dev/null")).code, Code::InvalidNetNs);
    assert_eq!(refused(Path::new("/")).code, Code::InvalidNetNs);
    let own = refused(outer.path());
    assert_eq!(own.code, Code::InvalidNetNs);
    assert!(own.msg.contains("CNI_NETNS_OVERRIDE"), "{own}");
    assert!(node.container_if_there(None).unwrap().is_none());
    assert!(node.container_if_there(Some(Path::new("/run/netns/absent"))).unwrap().is_none());
}

#[test]
fn a_container_is_not_held_after_the_run() {
    let outer = TestNode::new();
    let container = outer.container("c1");
    let mut node = Node::new();
    veth(&node, &container, "vetha", None);
    chain::Node::flush(&mut node).unwrap();
    container.delete();
    testnode::until("the veth goes with its namespace", std::time::Duration::from_secs(5), || {
        node.host().unwrap().link().get("vetha").unwrap().is_none().then_some(())
    });
}

/// Indices are a namespace's own: what has the index of the other end here need not be it.
#[test]
fn the_other_end_of_a_veth_is_the_one_that_leads_back() {
    let outer = TestNode::new();
    let [apart, joined, _] = ["apart", "joined", "far"].map(|name| outer.container(name));
    let node = Node::new();
    for (netns, other, name) in [("apart", "far", "far0"), ("joined", "", "near0")] {
        let place = if other.is_empty() { String::new() } else { format!("netns {other}") };
        outer.ip(&format!(
            "link add {name} index 700 {place} type veth peer eth0 index 7 netns {netns}\n"
        ));
    }
    let other_end = |container: &Container| {
        let inside = node.container(container.path()).unwrap();
        let eth0 = inside.net().unwrap().link().require("eth0").unwrap();
        assert_eq!((eth0.index, eth0.peer), (7, Some(700)));
        node.host().unwrap().link().other_end(&eth0, inside.netns()).unwrap()
    };
    assert_eq!(other_end(&joined).map(|link| link.name), Some("near0".to_owned()));
    assert_eq!(other_end(&apart), None);
}
