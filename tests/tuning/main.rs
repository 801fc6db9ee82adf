//! tuning changes a container's sysctls and interface, and puts back what was there before.
#![allow(clippy::unwrap_used, reason = "test code")]

mod undone;

use std::fs;

use serde_json::{Value, json};
use testnode::conf::{bridge, conflist};
use testnode::{
    Attachment, Call, Catena, Container, Node, PluginOutput, Plugins, Shared, Snapshot,
    assert_same, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const MAC: &str = "02:11:22:33:44:55";
const BACKUPS: &str = "/run/cni/tuning";
const SOMAXCONN: &str = "core.somaxconn";

/// Every setting there is.
fn all() -> Value {
    json!({
        "type": "tuning",
        "sysctl": {
            "net.core.somaxconn": "500",
            "net/ipv4/ip_local_port_range": "2000 3000",
            "net.ipv4.conf.IFNAME.arp_filter": "1",
        },
        "mac": MAC, "promisc": true, "mtu": 1400, "allmulti": true, "txQLen": 20000,
    })
}

fn chain(tuning: Value) -> Value {
    conflist("web", &[bridge("cni0", &["10.1.0.0/24", "fd00:1::/64"]), tuning])
}

fn shared() -> Shared {
    Shared::none().catena("web").device("cni0")
}

/// A container with an interface that nobody deletes: what tuning alone has to restore.
fn with_interface(node: &Node) -> Container {
    let container = node.container("c1");
    container.ip("link add eth0 type veth peer name other\nlink set lo up\nlink set eth0 up\n");
    container
}

/// A container's listings, and all sysctls that the tests change.
struct Inside {
    listings: Snapshot,
    sysctls: String,
}

impl Inside {
    fn of(container: &Container) -> Self {
        let read = "cd /proc/sys/net && grep -s . core/somaxconn ipv4/ip_local_port_range \
                    ipv4/tcp_syncookies ipv4/conf/eth0/arp_filter || :";
        Self { listings: Snapshot::of(container), sysctls: container.run(["sh", "-c", read]) }
    }

    #[track_caller]
    fn assert_same(&self, container: &Container) {
        let now = Self::of(container);
        assert_same(&self.listings, &now.listings, &Shared::none());
        assert_eq!(self.sysctls, now.sysctls);
    }
}

/// tuning alone, as a runtime runs it.
fn run(plugins: &Plugins<'_>, verb: &str, conf: &Value, container: &Container) -> PluginOutput {
    run_with(plugins, verb, conf, &Attachment::new(container))
}

fn run_with(plugins: &Plugins<'_>, verb: &str, conf: &Value, of: &Attachment) -> PluginOutput {
    let mut conf = conf.clone();
    conf["name"] = json!("web");
    if conf["cniVersion"].is_null() {
        conf["cniVersion"] = json!("1.0.0");
    }
    conf["prevResult"] = json!({
        "cniVersion": conf["cniVersion"],
        "interfaces": [{ "name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": of.netns }],
        "ips": [{ "address": "10.1.0.2/24", "interface": 0 }],
    });
    plugins.call("tuning", &Call::of(verb, of), &conf.to_string())
}

fn ours(node: &Node) -> Plugins<'_> {
    Plugins::new(node, [links(node, CATENA, &["tuning"])])
}

fn eth0(container: &Container) -> Value {
    container.json(["ip", "-j", "-d", "link", "show", "dev", "eth0"])[0].clone()
}

/// Whether all of [`all`] is as asked for.
#[track_caller]
fn assert_tuned(container: &Container) {
    let link = eth0(container);
    assert_eq!((&link["address"], &link["mtu"]), (&json!(MAC), &json!(1400)), "{link}");
    assert_eq!(link["txqlen"], 20000, "{link}");
    let flags = link["flags"].to_string();
    assert!(flags.contains("PROMISC") && flags.contains("ALLMULTI"), "{link}");
    assert_eq!(container.sysctl(SOMAXCONN), "500");
    assert_eq!(container.sysctl("ipv4.ip_local_port_range"), "2000\t3000");
    assert_eq!(container.sysctl("ipv4.conf.eth0.arp_filter"), "1");
}

fn backups() -> Vec<String> {
    let files = fs::read_dir(BACKUPS).into_iter().flatten();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_setting_is_made_checked_and_restored() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let plugins = ours(&node);
    for _ in 0..2 {
        let result = run(&plugins, "ADD", &all(), &c1).result();
        assert_eq!(result["interfaces"][0]["mac"], MAC);
        assert_tuned(&c1);
        assert_eq!(backups(), ["id-c1_eth0.json"]);
        run(&plugins, "CHECK", &all(), &c1).success();
        run(&plugins, "DEL", &all(), &c1).success();
        inside.assert_same(&c1);
        assert_same(&before, &node.snapshot(), &shared());
        run(&plugins, "DEL", &all(), &c1).success();
    }
}

#[test]
fn the_configuration_may_have_changed_until_del() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let plugins = ours(&node);
    let mut conf = all();
    conf["dataDir"] = json!("/run/elsewhere");
    run(&plugins, "ADD", &conf, &c1).result();
    run(&plugins, "DEL", &json!({ "type": "tuning", "mtu": 1300 }), &c1).success();
    inside.assert_same(&c1);
    assert_same(&before, &node.snapshot(), &shared().directory("/run/elsewhere"));
}

#[test]
fn a_chain_leaves_the_containers_sysctls_as_they_were() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let catena = Catena::new(&node, CATENA);
    let list = chain(all());
    let result = catena.add(&list, &c1);
    assert_eq!(result["interfaces"][2]["mac"], MAC);
    assert_eq!(result["interfaces"][2]["mtu"], 1400, "there is an MTU in results of 1.1.0");
    assert_tuned(&c1);
    c1.ping("10.1.0.1");
    catena.check(&list, &c1);
    catena.del(&list, &c1);
    inside.assert_same(&c1);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn the_mtu_that_an_earlier_plugin_gave_may_be_changed() {
    let node = Node::new();
    let c1 = node.container("c1");
    let catena = Catena::new(&node, CATENA);
    let mut list = chain(json!({ "type": "tuning", "mtu": 1400 }));
    list["plugins"][0]["mtu"] = json!(1450);
    catena.add(&list, &c1);
    catena.check(&list, &c1);
    c1.ip("link set eth0 mtu 1450\n");
    let check = PluginOutput::from(catena.try_check(&list, &c1));
    assert!(check.error_text().contains("the MTU of eth0 is 1450, not 1400"), "{check}");
}

#[test]
fn two_tunings_of_one_chain_restore_what_was_before_both() {
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let catena = Catena::new(&node, CATENA);
    let mut list = chain(all());
    let second = json!({ "type": "tuning", "mtu": 1300, "sysctl": {
        "net.core.somaxconn": "600", "net.ipv4.tcp_syncookies": "2" } });
    list["plugins"].as_array_mut().unwrap().push(second);
    catena.add(&list, &c1);
    assert_eq!((eth0(&c1)["mtu"].clone(), c1.sysctl(SOMAXCONN)), (json!(1300), "600".to_owned()));
    catena.del(&list, &c1);
    inside.assert_same(&c1);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn what_the_go_plugin_changed_is_restored() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let (before, inside) = (node.snapshot(), Inside::of(&c1));
    let conf =
        json!({ "type": "tuning", "mac": MAC, "promisc": true, "mtu": 1400, "allmulti": true });
    run(&Plugins::debian(&node), "ADD", &conf, &c1).result();
    assert_eq!(eth0(&c1)["mtu"], 1400);
    run(&ours(&node), "CHECK", &conf, &c1).success();
    run(&ours(&node), "DEL", &conf, &c1).success();
    inside.assert_same(&c1);
    assert_same(&before, &node.snapshot(), &shared());
    // The other one's file stays where the interface is gone before it.
    run(&Plugins::debian(&node), "ADD", &conf, &c1).result();
    c1.ip("link del eth0\n");
    run(&ours(&node), "DEL", &conf, &c1).success();
    assert!(backups().is_empty());
}

#[test]
fn the_go_plugin_restores_what_catena_changed() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let inside = Inside::of(&c1);
    let conf =
        json!({ "type": "tuning", "mac": MAC, "promisc": true, "mtu": 1400, "allmulti": true });
    run(&ours(&node), "ADD", &conf, &c1).result();
    run(&Plugins::debian(&node), "CHECK", &conf, &c1).success();
    run(&Plugins::debian(&node), "DEL", &conf, &c1).success();
    inside.assert_same(&c1);
    assert!(backups().is_empty());
}

#[test]
fn check_names_each_setting_that_was_changed() {
    for (damage, told) in [
        (
            "ip link set eth0 address 02:00:00:00:00:09",
            "hardware address of eth0 is 02:00:00:00:00:09",
        ),
        ("ip link set eth0 promisc off", "promiscuous mode of eth0 is off, not on"),
        ("ip link set eth0 mtu 1401", "MTU of eth0 is 1401, not 1400"),
        ("ip link set eth0 allmulticast off", "all-multicast mode of eth0 is off, not on"),
        ("ip link set eth0 txqueuelen 7", "transmit queue length of eth0 is 7, not 20000"),
        ("sysctl -q -w net.core.somaxconn=8", "sysctl net/core/somaxconn is 8, not 500"),
        (
            "sysctl -q -w net.ipv4.conf.eth0.arp_filter=0",
            "net/ipv4/conf/eth0/arp_filter is 0, not 1",
        ),
        ("ip link del eth0", "there is no interface eth0"),
    ] {
        let node = Node::new();
        let c1 = with_interface(&node);
        let plugins = ours(&node);
        run(&plugins, "ADD", &all(), &c1).result();
        c1.run(["sh", "-c", damage]);
        let text = run(&plugins, "CHECK", &all(), &c1).error_text();
        assert!(text.contains(told), "{damage}: {text}");
    }
    let node = Node::new();
    let c1 = with_interface(&node);
    c1.ip("link set eth0 promisc on\n");
    let conf = json!({ "type": "tuning", "mtu": 1400 });
    run(&ours(&node), "ADD", &conf, &c1).result();
    let text = run(&ours(&node), "CHECK", &conf, &c1).error_text();
    assert!(text.contains("promiscuous mode of eth0 is on, not off"), "{text}");
}

#[test]
fn arguments_come_before_the_configuration() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let plugins = ours(&node);
    let mac = |conf: &Value, args: &str| {
        let attachment = Attachment::new(&c1).args(args);
        let result = run_with(&plugins, "ADD", conf, &attachment).result();
        run_with(&plugins, "DEL", conf, &attachment).success();
        result["interfaces"][0]["mac"].as_str().unwrap().to_owned()
    };
    let mut conf = json!({ "type": "tuning", "mac": "02:00:00:00:00:0a" });
    assert_eq!(mac(&conf, ""), "02:00:00:00:00:0a");
    assert_eq!(mac(&conf, "MAC=02:00:00:00:00:0b"), "02:00:00:00:00:0b");
    conf["runtimeConfig"] = json!({ "mac": "02:00:00:00:00:0c" });
    assert_eq!(mac(&conf, "MAC=02:00:00:00:00:0b"), "02:00:00:00:00:0c");
    conf["args"] = json!({ "cni": { "mac": "02:00:00:00:00:0d" } });
    assert_eq!(mac(&conf, "MAC=02:00:00:00:00:0b"), "02:00:00:00:00:0d");
    let unknown = run_with(&plugins, "ADD", &conf, &Attachment::new(&c1).args("MAX=1"));
    assert_eq!(unknown.error_code(), 4, "{unknown}");

    let all_by_args = json!({ "type": "tuning", "mtu": 1300, "args": { "cni": all() } });
    run(&plugins, "ADD", &all_by_args, &c1).result();
    assert_tuned(&c1);
}

#[test]
fn only_sysctls_of_the_allowlist_are_changed() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let inside = Inside::of(&c1);
    let plugins = ours(&node);
    let list = |text: &str| node.write("/etc/cni/tuning/allowlist.conf", text);
    list("^net\\.core\\.somax.*$\n\n  ip_local_port_range  \n^net.ipv4.conf.IFNAME.arp_[a-z]+$\n");
    run(&plugins, "ADD", &all(), &c1).result();
    assert_tuned(&c1);
    run(&plugins, "DEL", &all(), &c1).success();
    for (allowed, told) in [
        ("^net.core\n^net.ipv4.conf\n", "sysctl net/ipv4/ip_local_port_range is not allowed"),
        (
            "",
            "sysctl net.core.somaxconn is not allowed: /etc/cni/tuning/allowlist.conf has no line",
        ),
        ("^net.(core\n", "\"^net.(core\" is not a regular expression"),
    ] {
        list(allowed);
        let output = run(&plugins, "ADD", &all(), &c1);
        assert!(output.error_text().contains(told), "{output}");
        assert_eq!(output.error_code(), 7);
        inside.assert_same(&c1);
    }
}

/// The reference panics.
#[test]
fn sysctls_may_come_by_arguments_alone() {
    let node = Node::new();
    let c1 = with_interface(&node);
    let sysctl = json!({ "net.core.somaxconn": "500" });
    let conf = json!({ "type": "tuning", "args": { "cni": { "sysctl": sysctl } } });
    run(&ours(&node), "ADD", &conf, &c1).result();
    assert_eq!(c1.sysctl(SOMAXCONN), "500");
}

/// With `macspoofchk` the container sends from its new address, and only from that.
#[test]
fn a_new_hardware_address_is_the_one_that_may_be_sent_from() {
    let macs = |node: &Node| node.run(["nft", "list", "set", "bridge", "catena", "macs"]);
    let mut list = chain(json!({ "type": "tuning", "mac": MAC }));
    list["plugins"][0]["macspoofchk"] = json!(true);
    let node = Node::new();
    let c1 = node.container("c1");
    let (before, catena) = (node.snapshot(), Catena::new(&node, CATENA));
    catena.add(&list, &c1);
    c1.ping("10.1.0.1");
    catena.check(&list, &c1);
    assert_eq!(macs(&node).matches(" comment ").count(), 1, "{}", macs(&node));
    c1.ip("link set eth0 address 02:00:00:00:00:07\n");
    assert!(!c1.pings("10.1.0.1"));
    catena.del(&list, &c1);
    assert_same(&before, &node.snapshot(), &shared());

    // Each plugin by itself.
    let names = ["bridge", "host-local", "tuning"];
    let plugins = Plugins::new(&node, [links(&node, CATENA, &names)]);
    let runtime = testnode::Runtime::new(plugins, list);
    let attachment = Attachment::new(&c1);
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    c1.ping("10.1.0.1");
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&before, &node.snapshot(), &shared());
}
