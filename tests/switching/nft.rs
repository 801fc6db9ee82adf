//! Rules that the Go plugins make of nft.

use serde_json::json;
use testnode::{Node, Plugins, Runtime, assert_same};

use crate::{Switch, attachment, chained, conflist, interface, servers, shared};

/// The digests of the network `web`, of the network `other`, and of `eth0:id-c1`, as the reference makes them: the first
/// 16 digits of SHA-512.
const NETWORK: &str = "cbead8fe640f4d4a";
const OTHER_NETWORK: &str = "e25ac3845f8cbe12";
const INSTANCE: &str = "eb04bdc629049db6";

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

fn nft(node: &Node, text: &str) {
    node.cmd(["nft", "-f", "-"]).stdin(text).output().success();
}
