//! The rule in the chains of others: where it stands, what stands before it, and what becomes of it.

use std::{
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use testnode::{Container, PluginOutput, Shared, assert_same, until};

use crate::filters::{docker, load};
use crate::{
    Filter, Node, Pod, addresses_of, catena, filtered, firewall, on_a_bridge, outside,
    point_to_point, reach, reach_nothing, told_by_check,
};

const TOOLS: [&str; 2] = ["iptables", "ip6tables"];
const ACCEPT: &str = "meta mark & 0x00001000 == 0x00001000 accept";

#[test]
fn what_the_administrator_drops_is_dropped() {
    for (filter, tools) in
        [(Filter::Docker, TOOLS), (Filter::Legacy, ["iptables-legacy", "ip6tables-legacy"])]
    {
        let (node, _running, outside, _page) = filtered(filter);
        let list = on_a_bridge(1, &[firewall(&json!({}))]);
        let own = on_a_bridge(2, &[firewall(&json!({ "iptablesAdminChainName": "MY-ADMIN" }))]);
        let (pod, other) =
            (Pod::add(&node, &list, "pod", None), Pod::add(&node, &own, "other", None));
        reach("before", &pod.container, addresses_of(&outside), 80, "outside");
        for (chain, source) in [("CNI-ADMIN", "cni1"), ("MY-ADMIN", "cni2")] {
            for tool in tools {
                node.run([
                    tool, "-A", chain, "-i", source, "-p", "tcp", "--dport", "80", "-j", "DROP",
                ]);
            }
        }
        reach_nothing(&[
            ("a pod to a host outside", &pod.container, addresses_of(&outside), 80),
            ("a pod to a host outside", &other.container, addresses_of(&outside), 80),
        ]);
        catena(&node, None).check(&list, &pod.container);
        catena(&node, None).check(&own, &other.container);
    }
}

#[test]
fn many_at_once_put_the_rules_in_once() {
    let (node, _running, _outside, _page) = filtered(Filter::Docker);
    let list = on_a_bridge(1, &[firewall(&json!({}))]);
    let containers: Vec<_> = (0..6).map(|n| node.container(&format!("c{n}"))).collect();
    add_at_once(&node, &list, &containers);
    assert_put_in_once(&node, TOOLS);
}

/// Two processes see that the rules are missing before either puts them in. The chains are there: the tools would refuse to make one
/// a second time, and so tell them apart.
#[test]
fn of_two_that_miss_the_rules_in_old_iptables_one_puts_them_in() {
    let (node, _running, _outside, _page) = filtered(Filter::Legacy);
    let list = on_a_bridge(1, &[firewall(&json!({}))]);
    for (tool, chain) in ["iptables-legacy", "ip6tables-legacy"]
        .into_iter()
        .flat_map(|tool| [(tool, "CNI-FORWARD"), (tool, "CNI-ADMIN")])
    {
        node.run([tool, "-N", chain]);
    }
    let notes = slow_tools(&node);
    add_at_once(&node, &list, &["c1", "c2"].map(|name| node.container(name)));
    assert_put_in_once(&node, ["iptables-legacy", "ip6tables-legacy"]);
    for tool in TOOLS {
        assert!(notes.join(format!("{tool}.restored")).exists(), "{tool} was not waited with");
    }
}

/// Has the tools of old iptables, as Catena finds them, put nothing in before another process has seen what is missing as well,
/// and wants to put it in, too, or waits for the lock to do so. Returns where they note what they did.
fn slow_tools(node: &Node) -> PathBuf {
    let notes = node.dir("old-iptables");
    let bin = "/usr/local/sbin";
    // In this node's own mount namespace.
    node.run(["mount", "-t", "tmpfs", "tmpfs", bin]);
    for tool in TOOLS {
        let note = notes.join(tool).display().to_string();
        let path = "PATH=/usr/sbin:/sbin:/usr/bin:/bin; export PATH";
        // Whoever went on to put them in while another is held up before it looks would wait for that one, and keep it waiting.
        let save = format!(
            "{tool}-legacy-save \"$@\" || exit; : > {note}.saw.$PPID\n\
             until [ $(ls {note}.saw.* | wc -l) -ge 2 ]; do sleep 0.01; done"
        );
        let restore = format!(
            ": > {note}.about.$PPID\n\
             met() {{\n\
               for saw in {note}.saw.*; do\n\
                 other=${{saw##*.}}\n\
                 [ $other = $PPID ] && continue\n\
                 [ -e {note}.about.$other ] && return\n\
                 grep -q -- \"-> FLOCK .* $other \" /proc/locks && return\n\
               done\n\
               return 1\n\
             }}\n\
             turns=0\n\
             until met; do turns=$((turns + 1)); [ $turns -lt 3000 ] || exit 9; sleep 0.01; done\n\
             {tool}-legacy-restore \"$@\" || exit\n\
             : > {note}.restored"
        );
        for (end, body) in [("save", save), ("restore", restore)] {
            let script = format!("#!/bin/sh\n{path}\n{body}\n");
            let file = Path::new(bin).join(format!("{tool}-legacy-{end}"));
            node.write(&file, &script);
            node.run(["chmod", "755", file.to_str().unwrap()]);
        }
    }
    notes
}

fn add_at_once(node: &Node, list: &Value, containers: &[Container]) {
    thread::scope(|scope| {
        for container in containers {
            scope.spawn(|| catena(node, None).add(list, container));
        }
    });
}

fn assert_put_in_once(node: &Node, tools: [&str; 2]) {
    for tool in tools {
        let rules = node.run([tool, "-S"]);
        for rule in ["-A FORWARD -m comment", "-A CNI-FORWARD -m comment", "-A CNI-FORWARD -m mark"]
        {
            assert_eq!(rules.matches(rule).count(), 1, "{rule}: {rules}");
        }
    }
}

#[test]
fn iptables_goes_on_reading_and_writing_its_tables() {
    let (node, _running, outside, _page) = filtered(Filter::Docker);
    let list = on_a_bridge(1, &[firewall(&json!({}))]);
    let pod = Pod::add(&node, &list, "pod", None);
    for tool in TOOLS {
        let rules = node.run([tool, "-S"]);
        assert!(!rules.contains("incompatible"), "{rules}");
        node.run([
            tool,
            "-C",
            "CNI-FORWARD",
            "-m",
            "mark",
            "--mark",
            "0x1000/0x1000",
            "-m",
            "comment",
            "--comment",
            "catena",
            "-j",
            "ACCEPT",
        ]);
        let saved = node.run([&format!("{tool}-save")]);
        let restore = format!("{tool}-restore");
        for options in [&["--noflush"][..], &[]] {
            node.cmd([&[restore.as_str()], options].concat())
                .stdin(saved.as_str())
                .output()
                .success();
            assert_eq!(
                sorted(&node.run([tool, "-S", "FORWARD"])).last(),
                sorted(&rules).iter().rfind(|l| l.contains(" FORWARD "))
            );
        }
    }
    catena(&node, None).check(&list, &pod.container);
    reach("after that", &pod.container, addresses_of(&outside), 80, "outside");
}

fn sorted(rules: &str) -> Vec<&str> {
    let mut lines: Vec<_> = rules.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn where_nobody_filters_nothing_is_put_in() {
    let node = Node::new();
    let list = on_a_bridge(1, &[firewall(&json!({}))]);
    let pod = Pod::add(&node, &list, "pod", None);
    let tables = node.run(["nft", "list", "tables"]);
    assert_eq!(tables, "table inet catena\n");
    catena(&node, None).check(&list, &pod.container);
}

#[test]
fn docker_may_start_after_the_pods() {
    let node = Node::new();
    node.run(["iptables", "-P", "FORWARD", "ACCEPT"]);
    node.run(["ip6tables", "-P", "FORWARD", "ACCEPT"]);
    let (outside, _page) = outside(&node);
    let list = on_a_bridge(1, &[firewall(&json!({}))]);
    let pod = Pod::add(&node, &list, "pod", None);
    docker(&node, TOOLS);
    reach("beside Docker", &pod.container, addresses_of(&outside), 80, "outside");
    catena(&node, None).check(&list, &pod.container);
}

#[test]
fn what_a_reload_took_away_is_named_by_check_and_comes_back_with_the_next_add() {
    let reload = |node: &Node, filter: Filter| match filter {
        Filter::Firewalld => drop(node.run(["firewall-cmd", "--reload"])),
        Filter::Docker => {
            for tool in TOOLS {
                node.run([tool, "-F"]);
                node.run([tool, "-X"]);
            }
            docker(node, TOOLS);
        }
        _ => {
            node.run(["nft", "delete", "table", "inet", "own"]);
            filter.start(node);
        }
    };
    for (filter, told) in [
        (
            Filter::Firewalld,
            &["chain inet firewalld filter_FORWARD ends in a rule that drops or rejects", ACCEPT][..],
        ),
        (
            Filter::Docker,
            &[
                "chain ip filter FORWARD has the policy drop",
                "no rule \"jump CNI-FORWARD\" in chain ip filter FORWARD",
                "in chain ip6 filter CNI-FORWARD",
            ],
        ),
        (
            Filter::FinalReject,
            &[
                "chain inet own rest ends in a rule that drops or rejects",
                "in chain inet own forward",
            ],
        ),
    ] {
        let (node, _running, outside, _page) = filtered(filter);
        let list = on_a_bridge(1, &[firewall(&json!({}))]);
        let pod = Pod::add(&node, &list, "pod", None);
        catena(&node, None).check(&list, &pod.container);
        reload(&node, filter);
        let text = told_by_check(&node, &list, &pod.container);
        for word in told {
            assert!(text.contains(word), "{word} is missing: {text}");
        }
        reach_nothing(&[("after the reload", &pod.container, addresses_of(&outside), 80)]);
        let _next = Pod::add(&node, &list, "next", None);
        catena(&node, None).check(&list, &pod.container);
        reach("after the next ADD", &pod.container, addresses_of(&outside), 80, "outside");
    }
}

#[test]
fn a_table_that_belongs_to_another_process_is_named_and_nothing_is_left() {
    let node = Node::new();
    let before = node.snapshot();
    let table = "add table inet own { flags owner; }\n\
                 add chain inet own forward { type filter hook forward priority 0; policy drop; }";
    // The table lives as long as the process that made it.
    let fifo = node.fresh_path("nft.fifo");
    let script = format!("mkfifo $0; exec 3<>$0; printf '%s\\n' '{table}' >&3; exec nft -i <&3");
    let mut owner =
        node.cmd(["sh", "-c", &script, fifo.to_str().unwrap()]).spawn(node.fresh_path("nft.log"));
    until("the table is there", Duration::from_secs(10), || {
        node.run(["nft", "list", "chains"]).contains("forward").then_some(())
    });
    let list = on_a_bridge(1, &[firewall(&json!({}))]);
    let container = node.container("pod");
    let status = PluginOutput::from(catena(&node, None).status(&list));
    assert_eq!(status.error_code(), 50);
    assert!(status.error_text().contains("chain inet own forward has the policy drop"));
    let add = PluginOutput::from(catena(&node, None).try_add(&list, &container));
    let text = add.error_text();
    for word in ["chain inet own forward has the policy drop", ACCEPT, "NftablesTableOwner=no"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    owner.kill();
    until("the table is gone", Duration::from_secs(10), || {
        (!node.run(["nft", "list", "tables"]).contains("own")).then_some(())
    });
    catena(&node, None).status(&list).success();
    container.delete();
    assert_same(&before, &node.snapshot(), &Shared::none().catena("net1").device("cni1"));
}

#[test]
fn a_chain_that_drops_before_packets_are_marked_is_named() {
    for priority in [-310, -400] {
        let node = Node::new();
        let list = on_a_bridge(1, &[firewall(&json!({}))]);
        let pod = Pod::add(&node, &list, "pod", None);
        load(
            &node,
            &format!(
                "table inet own {{ chain f {{ type filter hook forward priority {priority}; policy drop; }}; }}"
            ),
        );
        let add = PluginOutput::from(catena(&node, None).try_add(&list, &node.container("next")));
        for text in [add.error_text(), told_by_check(&node, &list, &pod.container)] {
            for word in ["chain inet own f has the policy drop", "a priority above -310"] {
                assert!(text.contains(word), "{word} is missing: {text}");
            }
        }
    }
}

#[test]
fn del_leaves_nothing_of_the_pod_nor_of_its_policy() {
    let (node, _running, _outside, _page) = filtered(Filter::Docker);
    for policy in ["open", "same-bridge", "isolated"] {
        let conf = firewall(&json!({ "ingressPolicy": policy }));
        for list in [on_a_bridge(1, std::slice::from_ref(&conf)), point_to_point(2, &[conf])] {
            let network = list["name"].as_str().unwrap();
            let shared = Shared::none().catena(network);
            let shared = if network == "net1" { shared.device("cni1") } else { shared };
            let pod = Pod::add(&node, &list, "first", None);
            catena(&node, None).del(&list, &pod.container);
            pod.container.delete();
            let before = node.snapshot();
            let pod = Pod::add(&node, &list, "pod", None);
            catena(&node, None).check(&list, &pod.container);
            catena(&node, None).del(&list, &pod.container);
            pod.container.delete();
            assert_same(&before, &node.snapshot(), &shared);
            let closed = node.run(["nft", "list", "set", "inet", "catena", "closed_bridges"]);
            assert!(!closed.contains("elements"), "{policy} {network}: {closed}");
        }
    }
}

#[test]
fn after_a_flush_the_next_add_brings_back_pods_and_rules() {
    let (node, _running, outside, _page) = filtered(Filter::PolicyDrop);
    let list = on_a_bridge(1, &[firewall(&json!({ "ingressPolicy": "same-bridge" }))]);
    let pod = Pod::add(&node, &list, "pod", None);
    node.run(["nft", "flush", "ruleset"]);
    Filter::PolicyDrop.start(&node);
    let text = told_by_check(&node, &list, &pod.container);
    for word in ["forwarding of 10.1.0.2", "closed bridge cni1", "in chain ip6 own forward"] {
        assert!(text.contains(word), "{word} is missing: {text}");
    }
    let _next = Pod::add(&node, &list, "next", None);
    catena(&node, None).check(&list, &pod.container);
    reach("after the next ADD", &pod.container, addresses_of(&outside), 80, "outside");
}

#[test]
fn uninstall_takes_the_rules_away_once_no_pod_needs_them() {
    for tools in [TOOLS, ["iptables-legacy", "ip6tables-legacy"]] {
        let node = Node::new();
        docker(&node, tools);
        let (outside, _page) = outside(&node);
        let rules = || tools.map(|tool| node.run([tool, "-S"]));
        let before = rules();
        let bin = node.dir("bin");
        let run = |verb: &[&str]| {
            let words = [verb, &["--bin-dir", bin.to_str().unwrap()]].concat();
            catena(&node, None).cmd(words).output().success()
        };
        run(&["install"]);
        let list = on_a_bridge(1, &[firewall(&json!({}))]);
        let pod = Pod::add(&node, &list, "pod", None);
        run(&["uninstall", "--force"]);
        reach("a pod that lives", &pod.container, addresses_of(&outside), 80, "outside");
        catena(&node, None).del(&list, &pod.container);
        run(&["uninstall"]);
        assert_eq!(rules(), before);
    }
}
