use std::time::Duration;

use etherparse::{PacketBuilder, VlanId};
use testnode::{Node, until};

use super::*;

const SERVER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 2]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 3]);

fn frame(to: Mac, vlan: Option<u16>, ports: (u16, u16), what: &[u8]) -> Vec<u8> {
    let frame = PacketBuilder::ethernet2(SERVER.0, to.0);
    let (from, all) = ([10, 7, 0, 1], [255; 4]);
    let packet = match vlan {
        Some(vlan) => frame.single_vlan(VlanId::try_new(vlan).unwrap()).ipv4(from, all, 64),
        None => frame.ipv4(from, all, 64),
    };
    let packet = packet.udp(ports.0, ports.1);
    let mut bytes = vec![0; packet.size(what.len())];
    packet.write_to_slice(&mut bytes, what).unwrap();
    bytes
}

#[test]
fn a_link_gets_what_servers_say_to_it_and_nothing_of_a_vlan() {
    let node = Node::new();
    let (server, pod) = (node.container("server"), node.container("pod"));
    node.ip(&format!(
        "link add eth0 address {SERVER} netns server type veth peer name eth0 address {CLIENT} netns pod\n"
    ));
    server.ip("link set eth0 up\n");
    pod.ip("link set eth0 up\n");
    until("what is sent arrives", Duration::from_secs(10), || {
        let shown = server.json(["ip", "-j", "link", "show", "eth0"]);
        (shown[0]["operstate"] == "UP").then_some(())
    });
    let socket = pod.enter(|| Socket::open("eth0").unwrap());
    assert_eq!(socket.mac(), CLIENT);
    let answers = (67, 68);
    let mut fragment = frame(CLIENT, None, answers, b"more to come");
    fragment[20] |= 0x20;
    let frames = [
        frame(CLIENT, Some(5), answers, b"of a VLAN"),
        frame(OTHER, None, answers, b"to another host"),
        frame(CLIENT, None, (1067, 68), b"of another port"),
        frame(CLIENT, None, (67, 69), b"to another port"),
        frame(EVERYBODY, None, answers, &[b'x'; 1400]),
        fragment,
        frame(CLIENT, None, answers, b"to this host"),
        frame(EVERYBODY, None, answers, b"to all"),
        // No VLAN, but a priority.
        frame(CLIENT, Some(0), answers, b"in a hurry"),
    ];
    server.enter(|| {
        let kind = Type::RAW.cloexec();
        let raw = socket2::Socket::new(Domain::PACKET, kind, None).unwrap();
        let to = address::of(if_nametoindex("eth0").unwrap(), None).unwrap();
        for frame in &frames {
            sendto(raw.as_raw_fd(), frame, &to, MsgFlags::empty()).unwrap();
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let link = Link::new(socket).unwrap();
        let long = link.receive().await.unwrap();
        assert_eq!((long.payload.len(), long.from), (1400, SERVER));
        for expected in [&b"to this host"[..], b"to all", b"in a hurry"] {
            assert_eq!(link.receive().await.unwrap().payload, expected);
        }
    });
}
