//! Catena's plugin with the reference plugins' daemon.

use std::io::{BufRead, BufReader, Write};

use serde_json::json;
use testnode::{
    Attachment, Catena, Node, PluginOutput, Plugins, Runtime, Shared, assert_same, links, until,
};

use crate::lan::{Daemon, Lan, address, list};
use crate::{CATENA, PATIENCE, REFERENCE};

#[test]
fn a_lease_gives_address_and_routes_and_is_given_back() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = lan.reference();
    let pod = node.container("pod");
    let (catena, list) = (lan.catena(), list());
    let before = node.snapshot();
    catena.status(&list).success();
    let result = catena.add(&list, &pod);
    let address = result["ips"][0]["address"].as_str().unwrap();
    assert!(address.starts_with("10.7.0.5") && address.ends_with("/24"), "{result}");
    let routes = result["routes"].as_array().unwrap();
    let has = |dst: &str, gw: &str| routes.iter().any(|one| one["dst"] == dst && one["gw"] == gw);
    assert!(has("10.9.0.0/16", "10.7.0.3") && has("0.0.0.0/0", "10.7.0.1"), "{result}");
    pod.ping("10.7.0.1");
    assert!(pod.run(["ip", "route"]).contains("10.9.0.0/16 via 10.7.0.3"));
    catena.check(&list, &pod);
    let address = address.split('/').next().unwrap();
    lan.server.host().ping(address);
    catena.del(&list, &pod);
    lan.await_released(address);
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    // One that ended before its lease was given back ends in peace, too.
    catena.add(&list, &pod);
    daemon.kill();
    catena.del(&list, &pod);
}

#[test]
fn servers_know_a_container_by_the_same_identifier_as_with_the_references_daemon() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let pod = node.container("pod");
    let known_with = |daemon: Daemon| {
        lan.catena().add(&list(), &pod);
        let known = lan.server.clients();
        lan.catena().del(&list(), &pod);
        until("the lease is given back", PATIENCE, || (lan.server.leased() == 0).then_some(()));
        drop(daemon);
        known
    };
    let known = known_with(lan.reference());
    assert!(known.len() == 1 && known[0].starts_with("00:"), "{known:?}");
    assert_eq!(known_with(lan.daemon()), known);
}

#[test]
fn without_a_daemon_status_and_add_say_what_to_start_and_nothing_is_left() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let pod = node.container("pod");
    let before = node.snapshot();
    let catena = lan.catena();
    let add = catena.try_add(&list(), &pod);
    for output in [catena.status(&list()), add] {
        let output = PluginOutput::from(output);
        assert_eq!(output.error_code(), 50);
        let text = output.error_text();
        assert!(text.contains("no DHCP daemon listens on /run/cni/dhcp.sock"), "{text}");
        assert!(text.contains("start \"catena daemon\" or \"dhcp daemon\""), "{text}");
    }
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    // What answers there and is no such daemon.
    let odd = json!({ "cniVersion": "1.1.0", "name": "leased", "plugins": [{
        "type": "bridge", "bridge": "cni1",
        "ipam": { "type": "dhcp", "daemonSocketPath": node.fresh_path("odd.sock") } }] });
    let path = odd["plugins"][0]["ipam"]["daemonSocketPath"].as_str().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        BufReader::new(&stream).read_line(&mut asked).unwrap();
        assert_eq!(asked, "CONNECT /_goRPC_ HTTP/1.0\n");
        stream.write_all(b"HTTP/1.0 404 Not Found\n\n").unwrap();
    });
    let text = PluginOutput::from(catena.try_add(&odd, &pod)).error_text();
    assert!(text.contains("it answers \"HTTP/1.0 404 Not Found\""), "{text}");
    answering.join().unwrap();
}

#[test]
fn what_the_server_refuses_is_an_error_of_add() {
    let node = Node::new();
    node.run(["mkdir", "-p", "/run/cni"]);
    // A bridge without a server.
    node.ip("link add cni1 type bridge\nlink set cni1 up\n");
    let daemon = Daemon::start(&node, REFERENCE, &["-timeout", "200ms", "-resendmax", "1s"]);
    let pod = node.container("pod");
    let before = node.snapshot();
    let add = Catena::new(&node, CATENA).try_add(&list(), &pod);
    let text = PluginOutput::from(add).error_text();
    assert!(text.contains("the DHCP daemon on /run/cni/dhcp.sock: "), "{text}");
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    drop(daemon);
}

#[test]
fn the_references_macvlan_has_a_lease_that_goes_back_by_what_it_lay_on() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    // Its IPAM plugin is Catena's, executed.
    let dirs = [links(&node, CATENA, &["dhcp"]), "/usr/lib/cni".into()];
    let macvlan = json!({ "type": "macvlan", "master": "cni1", "ipam": { "type": "dhcp" } });
    let list = json!({ "cniVersion": "1.0.0", "name": "leased", "plugins": [macvlan] });
    let runtime = Runtime::new(Plugins::new(&node, dirs), list);
    let attachment = Attachment::new(&pod);
    let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    pod.ping("10.7.0.1");
    pod.delete();
    lan.await_released(&address(&result));
    runtime.del(&attachment.without_netns()).unwrap_or_else(|e| panic!("{e}"));
}
