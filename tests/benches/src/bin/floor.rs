//! The kernel alone: makes what the full chain makes, and takes it away, with as few requests as there can be and nothing of CNI
//! around it. It is what an ADD and a DEL could cost at least, with the start of one process.

#![allow(missing_docs, clippy::print_stderr, reason = "a program")]
#![cfg_attr(all(not(test), target_env = "gnu"), no_main)]

// What it takes to start a process is the same.
#[cfg(all(not(test), target_env = "gnu"))]
#[path = "../../../../src/start.rs"]
mod start;

use std::{
    env,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd as _,
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use delegates::net::tc::{Tbf, ingress_message, redirect_message, tbf_message};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nftables::{
        DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementList,
        SetElementMessage, Verdict, VerdictAttribute,
    },
    none::ControlMessage,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoKind,
        InfoPortData, InfoPortKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    },
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
};
use nix::sched::{CloneFlags, setns};

/// The bridge, which is there before.
const BRIDGE: &str = "floor0";
const TABLE: &str = "floor";
/// The container's interface has this index there.
const INSIDE: u32 = 7;
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// 100 Mbit/s, as in the full chain.
const RATE: Tbf = Tbf {
    rate_bytes: 12_500_000,
    burst_bytes: 1_250_000,
    queue_bytes: 312_500,
    packet_bytes: None,
};
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Subsystem number of nf_tables in a batch's header (linux/netfilter/nfnetlink.h).
const NF_TABLES: u16 = 10;

#[cfg(any(test, not(target_env = "gnu")))]
fn main() -> ExitCode {
    run()
}

fn run() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:?}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["nothing"] => Ok(()),
        ["add", netns, number] => add(netns, number.parse()?),
        ["del", number] => del(number.parse()?),
        ["add-veth", netns, number] => add_veth(netns, number.parse()?),
        ["del-veth", number] => del_devices(&Numbers::of(number.parse()?)),
        _ => bail!(
            "usage: floor nothing | add NETNS NUMBER | del NUMBER | add-veth NETNS NUMBER | del-veth NUMBER"
        ),
    }
}

/// What one container has, all of it told apart by its number.
struct Numbers {
    veth: u32,
    ifb: u32,
    group: u32,
    address: Ipv4Addr,
    port: u16,
}

impl Numbers {
    fn of(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let port = 20_000 + 2 * number;
        let number = u32::from(number);
        Self {
            veth: 100_000 + 2 * number,
            ifb: 100_001 + 2 * number,
            group: 1_000 + number,
            address: Ipv4Addr::new(10, 9, high + 1, low),
            port,
        }
    }
}

fn add(netns: &str, number: u16) -> Result<()> {
    let own = Numbers::of(number);
    let netns = File::open(netns).with_context(|| format!("open {netns}"))?;
    let bridge = nix::net::if_::if_nametoindex(BRIDGE).context("the bridge")?;
    let mut links = Batch::default();
    links.push(new_link(veth(&own, &netns, bridge)), NEW);
    links.push(new_link(link(own.ifb, format!("fi{number}"), own.group, InfoKind::Ifb)), NEW);
    for device in [own.veth, own.ifb] {
        links.push(RouteNetlinkMessage::SetLink(without_ipv6(device)), 0);
        links.push(RouteNetlinkMessage::SetLink(up(device)), 0);
    }
    links.push(new_link(hairpin(own.veth)), 0);
    links.push(RouteNetlinkMessage::NewQueueDiscipline(tbf_message(own.veth, &RATE)), NEW);
    links.push(RouteNetlinkMessage::NewQueueDiscipline(ingress_message(own.veth)), NEW);
    links.push(RouteNetlinkMessage::NewTrafficFilter(redirect_message(own.veth, own.ifb)), NEW);
    links.push(RouteNetlinkMessage::NewQueueDiscipline(tbf_message(own.ifb, &RATE)), NEW);
    links.send(NETLINK_ROUTE).context("the node's end")?;
    rules(&own, |elements| (NfTablesMessage::NewSetElement(elements), NEW))?;
    setns(&netns, CloneFlags::CLONE_NEWNET).context("enter the namespace")?;
    // It would look for routers for ever.
    fs::write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "0").context("accept_ra")?;
    let mut inside = Batch::default();
    inside.push(RouteNetlinkMessage::SetLink(up(INSIDE)), 0);
    inside.push(RouteNetlinkMessage::NewAddress(address(own.address)), NEW);
    inside.push(RouteNetlinkMessage::NewRoute(default_route()), NEW);
    inside.send(NETLINK_ROUTE).context("the container's end")?;
    Ok(())
}

fn del(number: u16) -> Result<()> {
    let own = Numbers::of(number);
    // Closing it waits until what was deleted is freed: together with the devices.
    let _open = rules(&own, |elements| (NfTablesMessage::DeleteSetElement(elements), 0))?;
    del_devices(&own)
}

/// A container's veth, and nothing else.
fn add_veth(netns: &str, number: u16) -> Result<()> {
    let own = Numbers::of(number);
    let netns = File::open(netns).with_context(|| format!("open {netns}"))?;
    let bridge = nix::net::if_::if_nametoindex(BRIDGE).context("the bridge")?;
    let mut links = Batch::default();
    links.push(new_link(veth(&own, &netns, bridge)), NEW);
    links.send(NETLINK_ROUTE).context("the veth")?;
    Ok(())
}

fn del_devices(own: &Numbers) -> Result<()> {
    let mut links = Batch::default();
    let mut group = LinkMessage::default();
    group.attributes.push(LinkAttribute::Group(own.group));
    links.push(RouteNetlinkMessage::DelLink(group), 0);
    links.send(NETLINK_ROUTE).context("the devices")?;
    Ok(())
}

// === links, addresses, routes ===

fn new_link(message: LinkMessage) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewLink(message)
}

fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn link(index: u32, name: String, group: u32, kind: InfoKind) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![
        LinkAttribute::IfName(name),
        LinkAttribute::Group(group),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
    ];
    message
}

fn veth(own: &Numbers, netns: &File, bridge: u32) -> LinkMessage {
    let mut peer = LinkMessage::default();
    // The kernel sets no end up before there are two.
    peer.header.index = INSIDE;
    peer.attributes =
        vec![LinkAttribute::IfName("eth0".to_owned()), LinkAttribute::NetNsFd(netns.as_raw_fd())];
    let mut message = link(own.veth, format!("fv{}", own.veth), own.group, InfoKind::Veth);
    message.attributes.pop();
    message.attributes.push(LinkAttribute::Controller(bridge));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    message
}

fn without_ipv6(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]));
    message
}

/// What portmap asks of a bridge's port.
fn hairpin(port: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = port;
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)])),
    ]));
    message
}

fn address(address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 16;
    message.header.index = INSIDE;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    message
}

fn default_route() -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = 254;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::Inet(GATEWAY)), RouteAttribute::Oif(INSIDE)];
    message
}

// === the ruleset ===

/// One transaction with the container's elements: two ports, the way to itself by them, and its masquerade.
fn rules(
    own: &Numbers,
    change: impl Fn(SetElementMessage) -> (NfTablesMessage, u16),
) -> Result<Socket> {
    let mut batch = Batch::default();
    batch.control(ControlMessage::BatchBegin);
    for (protocol, port, to) in [(6_u32, own.port, 80_u16), (17, own.port + 1, 53)] {
        let key = [protocol.to_le_bytes(), pad(port)].concat();
        let value = [own.address.octets(), pad(to)].concat();
        batch.element(&change, "ports", key, Some(DataAttribute::Value(value)));
    }
    let itself = [own.address.octets(), own.address.octets()].concat();
    batch.element(&change, "hairpin", itself, None);
    let masquerade =
        vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain("hide".to_owned())];
    let address = own.address.octets().to_vec();
    batch.element(&change, "pods", address, Some(DataAttribute::Verdict(masquerade)));
    batch.control(ControlMessage::BatchEnd);
    batch.send(NETLINK_NETFILTER).context("the rules")
}

/// A port in a register of nf_tables.
fn pad(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

// === messages ===

/// Messages that are sent by one call.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// How many of them are answered.
    answers: usize,
}

impl Batch {
    fn push(&mut self, message: RouteNetlinkMessage, flags: u16) {
        self.append(message, flags | NLM_F_ACK);
        self.answers += 1;
    }

    fn control(&mut self, message: ControlMessage) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NF_TABLES);
        self.append(NetfilterMessage::new(header, message), 0);
    }

    fn element(
        &mut self,
        change: impl Fn(SetElementMessage) -> (NfTablesMessage, u16),
        set: &str,
        key: Vec<u8>,
        data: Option<DataAttribute>,
    ) {
        let mut element = vec![SetElementAttribute::Key(DataAttribute::Value(key))];
        element.extend(data.map(SetElementAttribute::Data));
        let (message, flags) = change(SetElementMessage {
            attributes: vec![
                SetElementList::Table(TABLE.to_owned()),
                SetElementList::Set(set.to_owned()),
                SetElementList::Elements(vec![ListAttribute::Element(element)]),
            ],
        });
        let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
        self.append(NetfilterMessage::new(header, message), flags | NLM_F_ACK);
        self.answers += 1;
    }

    fn append<T>(&mut self, payload: T, flags: u16)
    where
        T: NetlinkSerializable + Into<NetlinkPayload<T>>,
    {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload.into());
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut self.bytes[start..]);
    }

    /// Sends all of them, sees that the kernel did each, and returns the socket.
    fn send(self, protocol: isize) -> Result<Socket> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_cap_ack(true)?;
        socket.send(&self.bytes, 0)?;
        let mut answers = self.answers;
        let mut buffer = Vec::with_capacity(16 << 10);
        while answers > 0 {
            buffer.clear();
            socket.recv(&mut buffer, 0)?;
            let mut rest = buffer.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkBuffer::new_checked(rest)?;
                // What stands first in an answer is its code (nlmsgerr of linux/netlink.h).
                let code =
                    answer.payload().first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                if code != 0 {
                    return Err(io::Error::from_raw_os_error(-code).into());
                }
                answers = answers.saturating_sub(1);
                let length = answer.length() as usize;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
        Ok(socket)
    }
}
