//! Attachments that the Go plugins made (Debian's package, 1.1.1) are CHECKed and DELeted by Catena under the same names.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::print_stdout, reason = "figures for docs/reliability.md")]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use testnode::conf::host_local;
use testnode::{
    Attachment, Container, HttpServer, Neighbour, Node, Plugins, Runtime, Shared, Snapshot,
    UdpClient, UdpServer, assert_same, await_same, http_get, links,
};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const SUBNETS: [&str; 2] = ["10.1.0.0/24", "fd00:1::/64"];
/// Everything that the reference plugins of that release can do to a node.
const CHAINED: [&str; 4] = ["portmap", "bandwidth", "firewall", "tuning"];

fn conflist(version: &str, plugins: &[Value]) -> Value {
    json!({ "cniVersion": version, "name": "web", "plugins": plugins })
}

fn interface(kind: &str) -> Value {
    let mut conf = json!({ "type": kind, "ipMasq": true, "ipam": host_local(&SUBNETS) });
    if kind == "bridge" {
        conf["bridge"] = json!("cni0");
        conf["isGateway"] = json!(true);
        conf["macspoofchk"] = json!(true);
    }
    conf
}

fn chained(kind: &str) -> Value {
    match kind {
        "portmap" => {
            json!({ "type": kind, "capabilities": { "portMappings": true }, "snat": true })
        }
        "bandwidth" => json!({ "type": kind, "capabilities": { "bandwidth": true } }),
        "firewall" => json!({ "type": kind, "backend": "iptables" }),
        _ => {
            json!({ "type": kind, "mtu": 1400, "sysctl": { "net.ipv4.conf.IFNAME.arp_filter": "1" } })
        }
    }
}

fn chain(kind: &str, others: &[&str]) -> Vec<Value> {
    [interface(kind)].into_iter().chain(others.iter().map(|kind| chained(kind))).collect()
}

/// A node with a way out that has no route back to containers, and both implementations of one network's plugins.
struct Switch<'n> {
    node: &'n Node,
    uplink: Rc<Neighbour>,
    go: Runtime<'n>,
    catena: Runtime<'n>,
}

impl<'n> Switch<'n> {
    fn new(node: &'n Node, plugins: &[Value]) -> Self {
        let uplink = node.uplink("uplink", "192.0.2.254/24", "2001:db8::254/64");
        Self::on(node, Rc::new(uplink), plugins)
    }

    /// The same with another chain.
    fn with(&self, plugins: &[Value]) -> Self {
        Self::on(self.node, Rc::clone(&self.uplink), plugins)
    }

    fn on(node: &'n Node, uplink: Rc<Neighbour>, plugins: &[Value]) -> Self {
        let ours = ["bridge", "ptp", "portmap", "bandwidth", "firewall", "tuning", "host-local"];
        let ours = Plugins::new(node, [links(node, CATENA, &ours)]);
        Self {
            node,
            uplink,
            go: Runtime::new(Plugins::debian(node), conflist("1.0.0", plugins)),
            catena: Runtime::new(ours, conflist("1.1.0", plugins)),
        }
    }

    /// The node as the Go plugins leave it when an attachment of theirs came and went: with chains for all containers.
    fn before(&self) -> Snapshot {
        let first = self.node.container("first");
        let attachment = attachment(&first, 7000);
        self.go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        self.go.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
        self.node.snapshot()
    }

    /// ADD by the Go plugins; the result is the runtime's, which goes on with Catena.
    #[track_caller]
    fn add(&self, attachment: &Attachment) -> Value {
        let result = self.go.add(attachment).unwrap_or_else(|e| panic!("{e}"));
        self.catena.take_over(attachment, result.clone());
        result
    }

    #[track_caller]
    fn check(&self, attachment: &Attachment) {
        self.catena.check(attachment).unwrap_or_else(|e| panic!("{e}"));
    }

    /// What CHECK finds, of all plugins.
    fn findings(&self, attachment: &Attachment) -> String {
        let failures = self.catena.check_each(attachment);
        failures.iter().map(|failure| failure.output.error_text()).collect::<Vec<_>>().join("\n")
    }

    #[track_caller]
    fn del(&self, attachment: &Attachment) {
        self.catena.del(attachment).unwrap_or_else(|e| panic!("{e}"));
    }

    /// Ports of the node lead to the container, and what it sends out comes from the node's address.
    #[track_caller]
    fn assert_serves(&self, container: &Container, port: u16, text: &str) {
        for to in [self.uplink.node_v4(), self.uplink.node_v6()] {
            let get = http_get(&self.uplink, &format!("http://{}/", SocketAddr::new(to, port)));
            assert_eq!(get.unwrap_or_else(|e| panic!("{to}: {e}")).text, text, "{to}");
            let client = match to {
                IpAddr::V4(_) => UdpClient::v4(&self.uplink, 0),
                IpAddr::V6(_) => UdpClient::v6(&self.uplink, 0),
            };
            assert_eq!(client.answer((to, port + 1)).text, text, "{to}");
        }
        container.ping("192.0.2.254");
        container.ping("2001:db8::254");
    }
}

/// Two ports of TCP and one of UDP, the first ones also by an address, and both directions shaped.
fn attachment(container: &Container, port: u16) -> Attachment {
    let ports = json!([
        { "hostPort": port, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": port + 1, "containerPort": 53, "protocol": "udp" },
        { "hostPort": port + 2, "containerPort": 81, "protocol": "tcp", "hostIP": "127.0.0.1" },
    ]);
    let rates = json!({
        "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
        "egressRate": 100_000_000, "egressBurst": 10_000_000
    });
    Attachment::new(container).capability("portMappings", ports).capability("bandwidth", rates)
}

fn servers(container: &Container) -> (HttpServer, UdpServer) {
    let name = container.name();
    (HttpServer::start(container, 80, name), UdpServer::start(container, 53, name))
}

/// What both implementations keep of a network, and a control that the reference sets for the whole node.
fn shared() -> Shared {
    Shared::none().catena("web").device("cni0").sysctl("ipv4.conf.all.route_localnet")
}

/// The chained plugins one by one, and all: how many attachments were switched.
fn switch_each(kind: &str) {
    let node = Node::new();
    let all = Switch::new(&node, &chain(kind, &CHAINED));
    let before = all.before();
    let chains = CHAINED.iter().map(std::slice::from_ref).chain([&[][..], &CHAINED]);
    for (switched, others) in chains.enumerate() {
        let switch = all.with(&chain(kind, others));
        let c1 = node.container("c1");
        let inside = Snapshot::of(&c1);
        let attachment = attachment(&c1, 8080);
        switch.add(&attachment);
        switch.check(&attachment);
        if others.contains(&"portmap") {
            let _servers = servers(&c1);
            switch.assert_serves(&c1, 8080, "c1");
        } else {
            c1.ping("192.0.2.254");
            c1.ping("2001:db8::254");
        }
        // Twice, as runtimes do.
        for _ in 0..2 {
            switch.del(&attachment);
            assert_same(&before, &node.snapshot(), &shared());
            assert_same(&inside, &Snapshot::of(&c1), &Shared::none().forwarding());
        }
        c1.delete();
        println!("{kind}: {} attachments switched", switched + 1);
    }
}

#[test]
fn what_bridge_and_the_plugins_after_it_made_is_checked_serves_and_is_deleted_with_nothing_left() {
    switch_each("bridge");
}

#[test]
fn what_ptp_and_the_plugins_after_it_made_is_checked_serves_and_is_deleted_with_nothing_left() {
    switch_each("ptp");
}

#[test]
fn del_of_one_leaves_the_others_as_they_are() {
    for kind in ["bridge", "ptp"] {
        let node = Node::new();
        let switch = Switch::new(&node, &chain(kind, &CHAINED));
        let before = switch.before();
        let containers: Vec<_> = (1..=3).map(|n| node.container(&format!("c{n}"))).collect();
        let attachments: Vec<_> = containers
            .iter()
            .zip([8080, 8180, 8280])
            .map(|(c, port)| attachment(c, port))
            .collect();
        let _servers: Vec<_> = containers.iter().map(servers).collect();
        for attachment in &attachments {
            switch.add(attachment);
        }
        let mut left: Vec<usize> = vec![0, 1, 2];
        for gone in [1, 0, 2] {
            switch.del(&attachments[gone]);
            left.retain(|n| *n != gone);
            for n in &left {
                switch.check(&attachments[*n]);
                switch.assert_serves(
                    &containers[*n],
                    8080 + 100 * *n as u16,
                    containers[*n].name(),
                );
            }
        }
        assert_same(&before, &node.snapshot(), &shared());
    }
}

#[test]
fn del_needs_neither_the_namespace_nor_the_result() {
    for kind in ["bridge", "ptp"] {
        for (with_netns, with_result) in [(false, true), (true, false), (false, false)] {
            let node = Node::new();
            let switch = Switch::new(&node, &chain(kind, &CHAINED));
            let before = switch.before();
            let c1 = node.container("c1");
            let attachment = attachment(&c1, 8080);
            let result = switch.go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
            if with_result {
                switch.catena.take_over(&attachment, result);
            }
            if !with_netns {
                c1.delete();
            }
            switch.del(&attachment);
            await_same(&before, &node, &shared());
        }
    }
}

#[test]
fn a_late_del_leaves_the_rules_of_the_container_that_has_the_address_now() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["firewall"]));
    let before = switch.before();
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let (late, living) = (attachment(&c1, 8080), attachment(&c2, 8180));
    let from_the_first =
        || drop(node.run(["sh", "-c", "rm /var/lib/cni/networks/*/last_reserved_ip.*"]));
    from_the_first();
    let result = switch.add(&late);
    switch.go.del(&late).unwrap_or_else(|e| panic!("{e}"));
    from_the_first();
    let again = switch.add(&living);
    assert_eq!(result["ips"][0]["address"], again["ips"][0]["address"]);
    let rules = || {
        let listing = node.run(["iptables", "-S", "CNI-FORWARD"]);
        listing + &node.run(["ip6tables", "-S", "CNI-FORWARD"])
    };
    let with_one = rules();
    c1.delete();
    switch.del(&late);
    assert_eq!(rules(), with_one);
    switch.check(&living);
    switch.del(&living);
    assert_same(&before, &node.snapshot(), &shared());
}

/// The reference takes its two rules, word for word.
#[test]
fn del_leaves_what_an_administrator_says_of_a_containers_address() {
    let tools = [("iptables", "10.1.0.2"), ("ip6tables", "fd00:1::2")];
    for old in [false, true] {
        let node = Node::new();
        let bin = node.dir("iptables");
        if old {
            old_iptables(&bin);
        }
        let go = Runtime::new(
            Plugins::debian(&node).search_path(&bin),
            conflist("1.0.0", &chain("bridge", &["firewall"])),
        );
        let switch = Switch::new(&node, &chain("bridge", &["firewall"]));
        let rules = || {
            tools.map(|(tool, _)| {
                let tool = if old { format!("{tool}-legacy") } else { tool.to_owned() };
                node.run([&*tool, "-S", "CNI-FORWARD"])
            })
        };
        let c1 = node.container("c1");
        let attachment = attachment(&c1, 8080);
        let result = go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
        let theirs = rules();
        for (tool, address) in tools {
            let tool = if old { format!("{tool}-legacy") } else { tool.to_owned() };
            for rule in [
                format!("-s {address} -p tcp --dport 22 -j ACCEPT"),
                format!("-s {address} -m comment --comment mine -j ACCEPT"),
                format!("-d {address} -j ACCEPT"),
                format!("-d {address} -m conntrack --ctstate ESTABLISHED -j ACCEPT"),
                format!("-d {address} -i lan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            ] {
                let words = [&*tool, "-A", "CNI-FORWARD"].into_iter().chain(rule.split(' '));
                node.run(words);
            }
        }
        let both = rules();
        switch.catena.take_over(&attachment, result);
        switch.del(&attachment);
        for ((both, theirs), left) in both.iter().zip(&theirs).zip(rules()) {
            let of_container =
                |line: &&str| line.contains("10.1.0.2") || line.contains("fd00:1::2");
            let gone: Vec<_> = theirs.lines().filter(of_container).collect();
            assert_eq!(gone.len(), 2, "{theirs}");
            let expected: Vec<_> = both.lines().filter(|line| !gone.contains(line)).collect();
            assert_eq!(left.lines().collect::<Vec<_>>(), expected);
        }
    }
}

/// The reference's chain for masquerading is of the container, and not of one interface.
#[test]
fn del_of_one_interface_leaves_another_of_the_same_container_masqueraded() {
    let node = Node::new();
    let switch = Switch::new(&node, &[interface("ptp")]);
    let before = switch.before();
    let c1 = node.container("c1");
    let first = Attachment::new(&c1);
    let mut beside = interface("ptp");
    beside["ipam"] = json!({ "type": "host-local", "subnet": "10.2.0.0/24" });
    let second = first.clone().ifname("eth1");
    switch.add(&first);
    let beside = switch.with(&[beside]);
    beside.add(&second);
    beside.del(&second);
    switch.check(&first);
    c1.ping("192.0.2.254");
    c1.ping("2001:db8::254");
    switch.del(&first);
    assert_same(&before, &node.snapshot(), &shared());
}

#[test]
fn check_names_each_rule_of_the_go_plugins_that_is_missing() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["portmap", "firewall"]));
    let c1 = node.container("c1");
    let attachment = attachment(&c1, 8080);
    switch.add(&attachment);
    switch.check(&attachment);
    let rules = node.run(["iptables-save"]) + &node.run(["ip6tables-save"]);
    let chain = |prefix: &str| {
        let line = rules.lines().find(|line| line.starts_with(&format!(":{prefix}")));
        line.unwrap()[1..].split(' ').next().unwrap().to_owned()
    };
    let dnat = chain("CNI-DN-");
    let masquerade = dnat.replace("DN-", "");
    let masquerade = chain(&masquerade[..masquerade.len() - 1]);
    for (tool, table, rule, finding) in [
        (
            "iptables",
            "nat",
            "-D POSTROUTING 2".to_owned(),
            format!("no rule in chain ip nat POSTROUTING leads 10.1.0.2 to chain {masquerade}"),
        ),
        (
            "ip6tables",
            "nat",
            format!("-F {masquerade}"),
            format!("no rule in chain ip6 nat {masquerade} masquerades what fd00:1::2 sends"),
        ),
        (
            "iptables",
            "nat",
            format!("-F {dnat}"),
            format!("no rule in chain ip nat {dnat} leads port 8081 to 10.1.0.2:53"),
        ),
        (
            "ip6tables",
            "nat",
            "-F CNI-HOSTPORT-DNAT".to_owned(),
            format!("no rule in chain ip6 nat CNI-HOSTPORT-DNAT leads to chain {dnat}"),
        ),
        (
            "iptables",
            "filter",
            "-D CNI-FORWARD -s 10.1.0.2 -j ACCEPT".to_owned(),
            "no rule in chain ip filter CNI-FORWARD accepts what goes from 10.1.0.2".to_owned(),
        ),
    ] {
        node.run([tool, "-t", table].into_iter().chain(rule.split(' ')));
        let found = switch.findings(&attachment);
        assert!(found.contains(&finding), "{finding}:\n{found}");
    }
    let before = switch.findings(&attachment);
    assert!(!before.contains("cni-br-iface"), "{before}");
    node.run(["nft", "flush", "chain", "bridge", "nat", "PREROUTING"]);
    let found = switch.findings(&attachment);
    assert!(
        found.contains(
            "no rule in chain bridge nat PREROUTING leads to chain cni-br-iface-id-c1-eth0"
        ),
        "{found}"
    );

    // Nothing at all is left of them.
    node.run(["nft", "flush", "ruleset"]);
    let found = switch.findings(&attachment);
    for finding in [
        "nothing masquerades what",
        "nothing checks the hardware address of",
        "host port 0.0.0.0:8080/tcp",
    ] {
        assert!(found.contains(finding), "{finding}:\n{found}");
    }
    switch.del(&attachment);
}

#[test]
fn gc_takes_away_what_the_go_plugins_made_for_containers_that_are_not_valid() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["portmap"]));
    let (c1, c2) = (node.container("c1"), node.container("c2"));
    let _servers = servers(&c1);
    let valid = attachment(&c1, 8080);
    let stale = attachment(&c2, 8180);
    let other = Runtime::new(
        Plugins::debian(&node),
        json!({
            "cniVersion": "1.0.0", "name": "other",
            "plugins": [{ "type": "ptp", "ipMasq": true, "ipam": host_local(&["10.2.0.0/24"]) }]
        }),
    );
    // Of another network, and so nobody's business here.
    other.add(&Attachment::new(&node.container("c3"))).unwrap_or_else(|e| panic!("{e}"));
    switch.add(&valid);
    let before = node.snapshot();
    switch.add(&stale);
    c2.delete();
    switch.catena.gc(std::slice::from_ref(&valid)).unwrap_or_else(|e| panic!("{e}"));
    // Which port of a bridge is gone, its spoof check's chains do not say; nobody can come by it.
    await_same(
        &before,
        &node,
        &shared().whole_table("bridge nat").file("/var/lib/catena/leases/*"),
    );
    switch.check(&valid);
    switch.assert_serves(&c1, 8080, "c1");
}

/// Releases from 1.6 on make rules of nft where they are told to, or where there is no iptables.
#[test]
fn rules_of_the_go_plugins_for_nft_are_checked_and_deleted() {
    let node = Node::new();
    let mut ptp = interface("ptp");
    ptp["ipMasq"] = json!(false);
    // Debian's release makes the rest.
    let go = Runtime::new(Plugins::debian(&node), conflist("1.0.0", &[ptp]));
    let switch = Switch::new(&node, &[interface("ptp"), chained("portmap")]);
    let c1 = node.container("c1");
    let attachment = attachment(&c1, 8080);
    let _servers = servers(&c1);
    let id = &attachment.container_id;
    let tables = format!(
        r#"
        table inet cni_plugins_masquerade {{
            chain masq_checks {{
                ip saddr 10.9.0.2 ip daddr != 10.9.0.0/24 masquerade comment "{OTHER_NETWORK}-{INSTANCE}, net: other, if: eth0, id: {id}"
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat
                ip daddr 224.0.0.0/4 return
                ip6 daddr ff00::/8 return
                goto masq_checks
            }}
        }}
        "#
    );
    let hostports = |family: &str, other: &str| {
        format!(
            r#"
        table {family} cni_hostport {{
            chain hostports {{ udp dport 53 dnat to {other} comment "{id}"; tcp dport 1 dnat to {other} comment "other"; }}
            chain hostip_hostports {{ }}
            chain hostports_all {{ jump hostip_hostports; jump hostports; }}
            chain prerouting {{ type nat hook prerouting priority dstnat; fib daddr type local jump hostports_all; }}
            chain output {{ type nat hook output priority -100; fib daddr type local jump hostports_all; }}
            chain masquerading {{ type nat hook postrouting priority srcnat; }}
        }}
        "#
        )
    };
    nft(&node, &(tables + &hostports("ip", "10.9.0.2:53") + &hostports("ip6", "[fd00:9::2]:53")));
    // Forwarding stays on, and addresses go round.
    go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    go.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    node.run(["sh", "-c", "rm /var/lib/cni/networks/web/last_reserved_ip.*"]);
    let before = node.snapshot();
    let result = go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    switch.catena.take_over(&attachment, result);
    let mut rules = String::new();
    for (family, ip, net, target) in [
        ("ip", "10.1.0.2", "10.1.0.0/24", "10.1.0.2"),
        ("ip6", "fd00:1::2", "fd00:1::/64", "[fd00:1::2]"),
    ] {
        rules += &format!(
            r#"
            add rule inet cni_plugins_masquerade masq_checks {family} saddr {ip} {family} daddr != {net} masquerade comment "{NETWORK}-{INSTANCE}, net: web, if: eth0, id: {id}"
            add rule {family} cni_hostport hostports tcp dport 8080 dnat to {target}:80 comment "{id}"
            add rule {family} cni_hostport hostports udp dport 8081 dnat to {target}:53 comment "{id}"
            add rule {family} cni_hostport masquerading {family} saddr {ip} {family} daddr {ip} masquerade comment "{id}"
            "#
        );
    }
    rules += &format!(
        r#"
        add rule ip cni_hostport hostports ip daddr 127.0.0.1 tcp dport 8082 dnat to 10.1.0.2:81 comment "{id}"
        add rule ip cni_hostport masquerading ip saddr 127.0.0.1 ip daddr 10.1.0.2 masquerade comment "{id}"
        "#
    );
    nft(&node, &rules);
    let host = node.json(["ip", "-j", "route", "get", "10.1.0.2"])[0]["dev"].clone();
    node.set_sysctl(&format!("ipv4/conf/{}/route_localnet", host.as_str().unwrap()), "1");
    switch.check(&attachment);
    switch.assert_serves(&c1, 8080, "c1");

    // The ports that the container has on another network have the same comment.
    let whole = node.run(["nft", "list", "ruleset"]);
    node.run(["nft", "flush", "chain", "inet", "cni_plugins_masquerade", "masq_checks"]);
    node.run(["nft", "flush", "chain", "ip", "cni_hostport", "hostports"]);
    let found = switch.findings(&attachment);
    for finding in ["nothing masquerades", "leads port 8080 to 10.1.0.2:80"] {
        assert!(found.contains(finding), "{finding}:\n{found}");
    }
    nft(&node, &format!("flush ruleset\n{whole}"));
    switch.check(&attachment);
    switch.del(&attachment);
    assert_same(&before, &node.snapshot(), &shared());
}

/// The digests of the network `web`, of the network `other`, and of `eth0:id-c1`, as the reference makes them: the first
/// 16 digits of SHA-512.
const NETWORK: &str = "cbead8fe640f4d4a";
const OTHER_NETWORK: &str = "e25ac3845f8cbe12";
const INSTANCE: &str = "eb04bdc629049db6";

fn nft(node: &Node, text: &str) {
    node.cmd(["nft", "-f", "-"]).stdin(text).output().success();
}

/// Names the tools of old iptables as the reference calls them.
fn old_iptables(bin: &Path) {
    for tool in ["iptables", "ip6tables"] {
        for end in ["", "-save", "-restore"] {
            let old = format!("/usr/sbin/{tool}-legacy{end}");
            std::os::unix::fs::symlink(old, bin.join(format!("{tool}{end}"))).unwrap();
        }
    }
}

/// Where iptables is the one from before nf_tables, netlink shows nothing of its rules.
#[test]
fn rules_of_old_iptables_are_checked_and_deleted() {
    let node = Node::new();
    let bin = node.dir("old-iptables");
    old_iptables(&bin);
    let switch = Switch::new(&node, &chain("bridge", &["portmap", "firewall"]));
    let old = Runtime::new(
        Plugins::debian(&node).search_path(&bin),
        conflist("1.0.0", &chain("bridge", &["portmap", "firewall"])),
    );
    let save = || {
        ["iptables-legacy-save", "ip6tables-legacy-save"].map(|tool| {
            let text = node.run([tool]);
            text.lines()
                .filter(|line| line.starts_with("-A ") || line.starts_with(":CNI"))
                .map(|line| line.split(" [").next().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
    };
    let first = node.container("first");
    let other = attachment(&first, 7000);
    old.add(&other).unwrap_or_else(|e| panic!("{e}"));
    let before = save();
    let c1 = node.container("c1");
    let _servers = servers(&c1);
    let attachment = attachment(&c1, 8080);
    let result = old.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_ne!(before, save(), "the rules are in the old tables");
    switch.catena.take_over(&attachment, result);
    switch.check(&attachment);
    switch.assert_serves(&c1, 8080, "c1");
    node.run(["iptables-legacy", "-D", "CNI-FORWARD", "-s", "10.1.0.3", "-j", "ACCEPT"]);
    let found = switch.findings(&attachment);
    assert!(
        found.contains("chain ip filter CNI-FORWARD accepts what goes from 10.1.0.3"),
        "{found}"
    );
    switch.del(&attachment);
    assert_eq!(before, save());
}

/// Catena's DEL of its own attachments looks at nobody else's rules.
#[test]
fn del_of_catenas_own_leaves_rules_under_the_references_names() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &["portmap", "firewall"]));
    let c1 = node.container("c1");
    let attachment = attachment(&c1, 8080);
    switch.add(&attachment);
    let rules = || {
        (
            node.run(["iptables", "-t", "nat", "-S"]),
            node.run(["iptables", "-S", "CNI-FORWARD"]),
            node.run(["nft", "list", "table", "bridge", "nat"]),
        )
    };
    let before = rules();
    c1.run(["ip", "link", "del", "eth0"]);
    node.run(["sh", "-c", "rm /var/lib/cni/networks/web/*.*.*.* /var/lib/cni/networks/web/fd*"]);
    switch.catena.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    switch.check(&attachment);
    switch.del(&attachment);
    assert_eq!(before.0, rules().0);
    assert_eq!(before.2, rules().2);
}

/// The way back: what the Go plugins cannot know of stays until Catena's GC, and is in nobody's way.
#[test]
fn what_catena_made_and_the_go_plugins_deleted_is_collected() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &CHAINED));
    let before = switch.before();
    let c1 = node.container("c1");
    let inside = Snapshot::of(&c1);
    let attachment = attachment(&c1, 8080);
    let mut result = switch.catena.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    // The release knows no newer version, and this one adds nothing to a result.
    result["cniVersion"] = json!("1.0.0");
    switch.go.take_over(&attachment, result);
    // It finds no chain of its own, after it has deleted the interface; a runtime calls DEL again then.
    let first = switch.go.del(&attachment).unwrap_err().to_string();
    assert!(first.contains("CNI-2c6f9be3e934eef8de961a98"), "{first}");
    switch.go.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none().forwarding());
    let left = before.without(&shared()).diff(&node.snapshot().without(&shared()));
    let expected = [
        "inet catena element hostports4 ",
        "inet catena element egress4 ",
        "inet catena element forwarded4 ",
        "bridge catena element macspoofchk ",
        "link ifb",
        "files /var/lib/catena/attachments/web/",
    ];
    for expected in expected {
        assert!(left.contains(expected), "{expected}:\n{left}");
    }
    switch.catena.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
    // firewall's one rule in each of others' chains is for all containers, and goes with uninstall.
    let shared = shared().whole_table("ip filter").whole_table("ip6 filter");
    assert_same(&before, &node.snapshot(), &shared);
}
