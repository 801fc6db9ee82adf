//! Each program serves busybox's client.

use super::*;

fn a_client_is_served(program: Program) {
    let node = Node::new();
    let mut server = DhcpServer::start(&node, program, Pool::new(Family::V4));
    let client = node.container("client");
    node.ip("link add c0 type veth peer name eth0 netns client\nlink set c0 master cni1 up\n");
    client.ip("link set eth0 up\n");
    let script = node.fresh_path("told");
    node.write(
        &script,
        "#!/bin/sh\n[ $1 != bound ] || ip addr replace $ip/$mask dev eth0\n\
             echo \"$1 $ip $router $dns $domain $mtu $lease $staticroutes\"\n",
    );
    node.run(["chmod".as_ref(), "+x".as_ref(), script.as_os_str()]);
    let lease = || {
        client
            .cmd(["busybox", "udhcpc", "-i", "eth0", "-f", "-O", "staticroutes", "-O", "mtu", "-s"])
            .args([&script])
            .spawn(node.fresh_path("client.log"))
    };
    let udhcpc = lease();
    let bound = until("it is bound", PATIENCE, || {
        let log = udhcpc.log();
        log.lines().find_map(|line| line.strip_prefix("bound ")).map(ToOwned::to_owned)
    });
    let (address, rest) = bound.split_once(' ').expect("an address");
    assert_eq!(
        rest,
        "10.7.0.1 10.7.0.2 example.org 1400 3600 10.9.0.0/16 10.7.0.3 0.0.0.0/0 10.7.0.1"
    );
    assert!(address.starts_with("10.7.0.5"), "{address}");
    assert_eq!(server.granted(address), 1, "{}", server.log());
    node.run(["kill", "-USR2", &udhcpc.pid().to_string()]);
    until("it is given back", PATIENCE, || (server.released(address) == 1).then_some(()));
    drop(udhcpc);
    server.resume();
    let _again = lease();
    until("it is granted again", PATIENCE, || (server.granted(address) == 2).then_some(()));
}

#[test]
fn dnsmasq_serves() {
    a_client_is_served(Program::Dnsmasq);
}

#[test]
fn kea_serves() {
    a_client_is_served(Program::Kea);
}

#[test]
fn dhcpd_serves() {
    a_client_is_served(Program::Isc);
}
