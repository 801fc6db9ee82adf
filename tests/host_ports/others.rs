//! A port that somebody else's rules publish as well: theirs is the first to translate it, whoever came first.

use std::net::IpAddr;

use testnode::{HttpServer, Neighbour, Netns, Node};

use crate::{Setting, assert_page, node_at, web};

in_each_setting! {
    cve_2019_9946_a_port_that_iptables_publishes_stays_its
    cve_2019_9946_a_port_that_iptables_legacy_publishes_stays_its
    cve_2019_9946_a_port_that_docker_publishes_stays_its
    cve_2019_9946_a_port_that_kube_proxy_publishes_stays_its
}

/// Rules that lead port 8080 of the node to port 80 of another host, as commands of the shell.
struct Theirs {
    load: String,
    unload: String,
}

/// DNAT in a chain of its own, as everybody does it with iptables; `kind` is `nft` or `legacy`.
fn iptables(kind: &str, chain: &str, port: &str, not_for: [&str; 2]) -> Theirs {
    let mut load = String::new();
    let mut unload = String::new();
    let families =
        [("iptables", "198.51.100.2", not_for[0]), ("ip6tables", "[2001:db8:1::2]", not_for[1])];
    for (tool, to, not_for) in families {
        let tool = format!("{tool}-{kind} --wait --table nat");
        load += &format!(
            "{tool} --new {chain}
             {tool} --append {chain} {port} --protocol tcp --dport 8080 --jump DNAT --to-destination {to}:80
             {tool} --append PREROUTING --match addrtype --dst-type LOCAL --jump {chain}
             {tool} --append OUTPUT {not_for} --match addrtype --dst-type LOCAL --jump {chain}\n"
        );
        unload += &format!("{tool} --flush\n{tool} --delete-chain {chain}\n");
    }
    Theirs { load, unload }
}

fn cve_2019_9946_a_port_that_iptables_publishes_stays_its(setting: Setting) {
    stays_theirs(setting, &iptables("nft", "PUBLISHED", "", ["", ""]));
}

fn cve_2019_9946_a_port_that_iptables_legacy_publishes_stays_its(setting: Setting) {
    stays_theirs(setting, &iptables("legacy", "PUBLISHED", "", ["", ""]));
}

/// Docker leaves out what comes from its own bridge, and localhost.
fn cve_2019_9946_a_port_that_docker_publishes_stays_its(setting: Setting) {
    let not_for = ["! --destination 127.0.0.0/8", "! --destination ::1"];
    stays_theirs(setting, &iptables("nft", "DOCKER", "! --in-interface docker0", not_for));
}

/// A NodePort of kube-proxy's nftables mode.
fn cve_2019_9946_a_port_that_kube_proxy_publishes_stays_its(setting: Setting) {
    let (mut load, mut unload) = (String::from("nft -f - <<'END'\n"), String::new());
    for (family, to, localhost) in
        [("ip", "198.51.100.2:80", "127.0.0.0/8"), ("ip6", "[2001:db8:1::2]:80", "::1")]
    {
        load += &format!(
            "table {family} kube-proxy {{
                chain external-web {{
                    meta l4proto tcp dnat to {to}
                }}
                map service-nodeports {{
                    type inet_proto . inet_service : verdict
                    elements = {{ tcp . 8080 : goto external-web }}
                }}
                chain services {{
                    fib daddr type local {family} daddr != {localhost} meta l4proto . th dport vmap @service-nodeports
                }}
                chain nat-prerouting {{
                    type nat hook prerouting priority -100
                    jump services
                }}
                chain nat-output {{
                    type nat hook output priority -100
                    jump services
                }}
            }}\n"
        );
        unload += &format!("nft delete table {family} kube-proxy\n");
    }
    load += "END\n";
    stays_theirs(setting, &Theirs { load, unload });
}

fn run(node: &Node, script: &str) {
    node.cmd(["sh", "-e", "-s"]).stdin(script).output().success();
}

/// In either order of loading; after theirs is loaded anew, and after Catena's table is.
fn stays_theirs(setting: Setting, theirs: &Theirs) {
    for theirs_first in [true, false] {
        let (node, outside) = setting.node();
        let elsewhere = node.neighbour("elsewhere", "198.51.100.2/24", "2001:db8:1::2/64");
        let _elsewhere_server = HttpServer::start(&elsewhere, 80, "elsewhere");
        for family in ["ipv4.ip_forward", "ipv6.conf.all.forwarding"] {
            node.set_sysctl(family, "1");
        }
        if theirs_first {
            run(&node, &theirs.load);
        }
        let network = setting.network(&node, "web", 1);
        let (_pod, _server) = web(&network, "pod");
        if !theirs_first {
            assert_pages(&node, &outside, "pod");
            run(&node, &theirs.load);
        }
        assert_pages(&node, &outside, "elsewhere");

        run(&node, &theirs.unload);
        assert_pages(&node, &outside, "pod");
        run(&node, &theirs.load);
        assert_pages(&node, &outside, "elsewhere");

        node.run(["nft", "delete", "table", "inet", "catena"]);
        let _another = network.pod_with("another", &crate::ports([crate::port("tcp", 9090, 80)]));
        let table = node.run(["nft", "list", "table", "inet", "catena"]);
        assert!(table.contains("8080") && table.contains("9090"), "{table}");
        assert_pages(&node, &outside, "elsewhere");
        run(&node, &theirs.unload);
        assert_pages(&node, &outside, "pod");
    }
}

/// From outside and from the node itself.
#[track_caller]
fn assert_pages(node: &Node, outside: &Neighbour, expected: &str) {
    let from: [&Netns; 2] = [outside, node];
    let addresses: [IpAddr; 2] = node_at(outside);
    for client in from {
        for address in addresses {
            assert_page(client, address, 8080, expected);
        }
    }
}
