//! A snapshot shows what was left behind, and nothing else.

use testnode::{Node, Shared, assert_same};

const TABLE: &str = "add table inet catena\n\
    add map inet catena ports { type inet_proto . inet_service : ipv4_addr . inet_service; }\n\
    add chain inet catena pre { type nat hook prerouting priority -90; }\n\
    add rule inet catena pre counter dnat ip to meta l4proto . th dport map @ports\n";

#[test]
fn what_is_left_behind_is_shown_by_kind() {
    let node = Node::new();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    node.cmd(["nft", "-f", "-"]).stdin(TABLE).output().success();
    let before = node.snapshot();

    let element = "inet catena ports { tcp . 8080 comment \"web/c1/eth0\" : 10.1.0.2 . 80 }";
    node.run(["nft", "add", "element", element]);
    node.ip("link add left type ifb\n\
        addr add 192.0.2.77/32 dev lo\n\
        route add 203.0.113.0/24 via 192.0.2.2\n\
        route add 2001:db8:7::/64 via 2001:db8::2\n\
        rule add from 192.0.2.77 table 77\n\
        link set outside mtu 1400\n");
    node.run(["tc", "qdisc", "add", "dev", "outside", "ingress"]);
    let filter = "tc filter add dev outside parent ffff: protocol all u32 match u32 0 0 \
        action mirred egress redirect dev left";
    node.run(filter.split_whitespace());
    node.write("/var/lib/cni/networks/web/10.1.0.2", "id\r\neth0");
    node.set_sysctl("ipv4.ip_forward", "1");

    let diff = before.diff(&node.snapshot());
    for part in [
        "+ nft inet catena element ports",
        "web/c1/eth0",
        "+ link left",
        "+ address lo 192.0.2.77/32",
        "+ route outside 203.0.113.0/24 192.0.2.2",
        "+ route outside 2001:db8:7::/64 2001:db8::2",
        "+ rule -4 ",
        "~ link outside.mtu: 1500 -> 1400",
        "+ qdisc outside ingress",
        "+ filter outside ingress",
        "+ files /var/lib/cni/networks/web/10.1.0.2",
        "~ sysctl ipv4.ip_forward: \"0\" -> \"1\"",
    ] {
        assert!(diff.contains(part), "{part} is missing in:\n{diff}");
    }
    // What is shared is not looked at, but elements and leases are.
    let shared = Shared::none().device("outside").table("inet catena").host_local("web");
    let rest = before.without(&shared).diff(&node.snapshot().without(&shared));
    assert!(rest.contains("element ports") && rest.contains("networks/web/10.1.0.2"), "{rest}");
    assert!(!rest.contains("outside") && !rest.contains("directory"), "{rest}");
    drop(outside);
}

#[test]
fn what_changes_by_itself_is_not() {
    let node = Node::new();
    let outside = node.neighbour("outside", "192.0.2.2/24", "2001:db8::2/64");
    node.cmd(["nft", "-f", "-"]).stdin(TABLE).output().success();
    node.ip("link add br0 type bridge\naddr add 10.1.0.1/24 dev br0\nlink set br0 up\n");
    let before = node.snapshot();

    outside.ping("192.0.2.1");
    node.ip("link add port type veth peer name far\n\
        link set far up\nlink set port master br0 up\nlink del port\n");
    node.run(["nft", "add", "element", "inet catena ports { tcp . 1 : 10.1.0.2 . 80 }"]);
    node.run(["nft", "delete", "element", "inet catena ports { tcp . 1 }"]);
    assert_same(&before, &node.snapshot(), &Shared::none());
}

#[test]
#[should_panic(expected = "+ nft inet catena table")]
fn a_table_left_behind_fails_the_test() {
    let node = Node::new();
    let before = node.snapshot();
    node.cmd(["nft", "-f", "-"]).stdin(TABLE).output().success();
    assert_same(&before, &node.snapshot(), &Shared::none());
}
