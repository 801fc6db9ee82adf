//! `dhcp daemon`: its socket, its flags, and who may talk to it.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;
use testnode::{Attachment, Call, Node, Plugins, Runtime, Shared, assert_same, links, until};

use crate::lan::{Daemon, Lan, address, command, list, list_with, program};
use crate::{CATENA, PATIENCE, SOCKET};

#[test]
fn a_lease_gives_address_and_routes_and_is_given_back() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let (catena, list) = (lan.catena(), list());
    let before = node.snapshot();
    catena.status(&list).success();
    let result = catena.add(&list, &pod);
    let address = address(&result);
    assert!(address.starts_with("10.7.0.5"), "{result}");
    let routes = result["routes"].as_array().unwrap();
    let has = |dst: &str, gw: &str| routes.iter().any(|one| one["dst"] == dst && one["gw"] == gw);
    assert!(has("10.9.0.0/16", "10.7.0.3") && has("0.0.0.0/0", "10.7.0.1"), "{result}");
    pod.ping("10.7.0.1");
    assert!(pod.run(["ip", "route"]).contains("10.9.0.0/16 via 10.7.0.3"));
    catena.check(&list, &pod);
    assert_eq!(lan.server.granted(&address), 1, "CHECK has the lease that is there");
    catena.del(&list, &pod);
    lan.await_released(&address);
    catena.del(&list, &pod);
    assert_same(&before, &node.snapshot(), &Shared::none().catena("leased").device("cni1"));
    assert_eq!(fs::read_dir("/var/lib/catena/dhcp/run-cni-dhcp.sock").unwrap().count(), 0);
}

#[test]
fn the_references_plugins_have_a_lease_of_catenas_daemon() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let mut list = list();
    list["cniVersion"] = json!("1.0.0");
    let runtime = Runtime::new(Plugins::debian(&node), list);
    let attachment = Attachment::new(&pod);
    let result = runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    let address = address(&result);
    assert_eq!(result["cniVersion"], "1.0.0", "{result}");
    assert!(pod.run(["ip", "route"]).contains("10.9.0.0/16 via 10.7.0.3"), "{result}");
    pod.ping("10.7.0.1");
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    lan.await_released(&address);
    // An error comes over as well.
    let mut wrong = list_with(json!({ "request": [{ "option": "no-such-option" }] }));
    wrong["cniVersion"] = json!("1.0.0");
    let runtime = Runtime::new(Plugins::debian(&node), wrong);
    let text = runtime.add(&attachment).unwrap_err().to_string();
    assert!(text.contains("no-such-option"), "{text}");
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let node = Node::new();
    node.run(["mkdir", "-p", "/run/cni"]);
    drop(UnixListener::bind(SOCKET).unwrap());
    let daemon = Daemon::catenas(&node, &["-pidfile=/run/dhcp.pid", "--timeout", "1m2.5s"]);
    assert_eq!(fs::read_to_string("/run/dhcp.pid").unwrap().trim(), daemon.pid().to_string());
    let refused = |flags: &[&str]| {
        let program = program(&node);
        command(&node, program, flags).output().failure().stderr
    };
    let text = refused(&["-pidfile=/run/dhcp.pid"]);
    assert!(text.contains("another DHCP daemon answers on /run/cni/dhcp.sock"), "{text}");
    assert_eq!(fs::read_to_string("/run/dhcp.pid").unwrap().trim(), daemon.pid().to_string());
    // One of another program, that does no more than listen.
    let other = node.fresh_path("other.sock");
    let listener = UnixListener::bind(&other).unwrap();
    let text = refused(&["-socketpath", other.to_str().unwrap()]);
    assert!(text.contains("another DHCP daemon answers on"), "{text}");
    drop(listener);
    fs::remove_file(&other).unwrap();
    fs::write(&other, "").unwrap();
    let text = refused(&["-socketpath", other.to_str().unwrap()]);
    assert!(text.contains("something that is no socket has its name"), "{text}");
    assert!(refused(&["-resendmax", "62"]).contains("like 62s"));
    assert!(refused(&["-pidfile", "dhcp.pid"]).contains("absolute"));
}

#[test]
fn what_servers_cannot_be_asked_or_told_is_an_error_of_the_configuration() {
    let node = Node::new();
    let _daemon = Daemon::catenas(&node, &[]);
    let plugins = Plugins::new(&node, [links(&node, CATENA, &["dhcp"])]);
    let pod = Attachment::new(&node.container("pod"));
    let long = "x".repeat(256);
    for (key, value) in [
        ("request", json!([{ "option": "no-such-option" }])),
        ("request", json!("routers")),
        ("provide", json!([{ "option": "53", "value": "1" }])),
        ("provide", json!([{ "option": "host-name", "value": long }])),
        ("priority", json!("first")),
        ("priority", json!(-1)),
    ] {
        let ipam = json!({ "type": "dhcp", key: value });
        let conf =
            json!({ "cniVersion": "1.1.0", "name": "leased", "type": "bridge", "ipam": ipam });
        for call in [Call::new("STATUS"), Call::of("ADD", &pod)] {
            let out = plugins.call("dhcp", &call, &conf.to_string());
            assert_eq!(out.error_code(), 7, "{out}");
            assert!(out.error_text().contains(key), "{out}");
        }
    }
}

#[test]
fn servers_are_told_what_the_configuration_says_by_its_names() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    let provide = json!([
        { "option": "fqdn.hostname", "value": "web-0.example.org" },
        { "option": "vendor-class-identifier", "value": "of catena" },
    ]);
    let request = json!([{ "option": "pop-server" }, { "option": "ntp-servers" }]);
    lan.catena().add(&list_with(json!({ "provide": provide, "request": request })), &pod);
    let log = lan.server.log();
    for said in [
        "client provides name: web-0.example.org",
        "vendor class: of catena",
        "70:pop3-server",
        "42:ntp-server",
    ] {
        assert!(log.contains(said), "no {said:?} in\n{log}");
    }
}

#[test]
fn a_daemon_that_is_told_to_end_removes_its_socket_and_leaves_its_leases() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(PATIENCE), 0, "{}", daemon.log());
    assert!(!Path::new(SOCKET).exists());
    assert_eq!(lan.server.released(&address), 0);
    let daemon = lan.daemon();
    daemon.await_log("is confirmed");
    lan.catena().del(&list(), &pod);
    lan.await_released(&address);
}

#[test]
fn systemd_hands_its_socket_over() {
    let node = Node::new();
    let lan = Lan::new(&node);
    node.run(["mkdir", "-p", "/run/cni"]);
    let program = program(&node);
    let activated = |sockets: &[&str], log: &Path| {
        let listens = sockets.iter().flat_map(|socket| ["--listen", socket]);
        let run = node.cmd(["systemd-socket-activate"]).args(listens).args([&program]);
        run.args(["daemon"]).spawn(log)
    };
    let mut daemon = activated(&[SOCKET], &node.fresh_path("dhcp.log"));
    until("systemd listens", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    assert!(daemon.log().contains("serving DHCP"), "{}", daemon.log());
    // Its records are those of the socket, whoever listens there.
    daemon.kill();
    fs::remove_file(SOCKET).unwrap();
    let daemon = lan.daemon();
    lan.catena().del(&list(), &pod);
    lan.await_released(&address);
    drop(daemon);
    let other = node.fresh_path("other.sock");
    let mut many = activated(&[SOCKET, other.to_str().unwrap()], &node.fresh_path("many.log"));
    until("systemd listens", PATIENCE, || UnixStream::connect(&other).ok());
    assert_eq!(many.wait(PATIENCE), 1);
    assert!(many.log().contains("takes one socket"), "{}", many.log());
}

#[test]
fn a_daemon_that_sees_the_hosts_files_elsewhere_has_a_prefix_for_them() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let host = node.dir("host");
    node.run(["mkdir", "-p", host.join("run/netns").to_str().unwrap()]);
    let program = program(&node);
    let prefix = format!("-hostprefix={}", host.display());
    let _daemon = command(&node, program, &[&prefix]).spawn(node.fresh_path("dhcp.log"));
    let socket = host.join("run/cni/dhcp.sock");
    until("the DHCP daemon listens", PATIENCE, || UnixStream::connect(&socket).ok());
    let pod = node.container("pod");
    let list = list_with(json!({ "daemonSocketPath": socket }));
    let text = lan.catena().try_add(&list, &pod).failure().stderr;
    let elsewhere = host.join("run/netns/pod");
    assert!(text.contains(&format!("no network namespace at {}", elsewhere.display())), "{text}");
    node.run(["mount", "--rbind", "/run/netns", host.join("run/netns").to_str().unwrap()]);
    lan.catena().add(&list, &pod);
}

#[test]
fn a_socket_that_somebody_removes_is_made_anew_and_the_leases_stay() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = Daemon::catenas(&node, &["-pidfile=/run/dhcp.pid"]);
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    fs::remove_file(SOCKET).unwrap();
    until("the daemon listens anew", PATIENCE, || UnixStream::connect(SOCKET).ok());
    daemon.await_log("/run/cni/dhcp.sock was removed");
    lan.catena().check(&list(), &pod);
    // Whoever listens in its place is let alone, until that is over.
    fs::remove_file(SOCKET).unwrap();
    let listener = UnixListener::bind(SOCKET).unwrap();
    daemon.await_log("another DHCP daemon answers on /run/cni/dhcp.sock");
    assert_eq!(lan.server.released(&address), 0);
    drop(listener);
    until("the daemon listens anew", PATIENCE, || UnixStream::connect(SOCKET).ok());
    lan.catena().del(&list(), &pod);
    lan.await_released(&address);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait(PATIENCE), 0, "{}", daemon.log());
    assert!(!Path::new(SOCKET).exists() && !Path::new("/run/dhcp.pid").exists());
}
