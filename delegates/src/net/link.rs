//! `ip link`: devices.

mod kinds;
mod view;

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoBridgePort,
        InfoPortData, InfoPortKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
        LinkMessage,
    },
    nsid::{NsidAttribute, NsidMessage},
};
use nix::errno::Errno;

use super::{Mac, Net, NetError, Netns, Refusal, Result, Wanted};

pub use kinds::{Bridge, Ifb, NewLink, Veth, VethPeer, VxlanEndpoint, VxlanTunnel};
pub(super) use view::read;
pub use view::{Link, Port};

/// The devices of one namespace.
pub struct Links<'a>(pub(super) &'a Net);

/// What [`Links::set`] changes; everything else stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Up or down.
    pub up: Option<bool>,
    /// Promiscuous or not.
    pub promisc: Option<bool>,
    /// Whether it takes all multicast.
    pub allmulti: Option<bool>,
    /// How many packets its queue holds.
    pub tx_queue_len: Option<u32>,
    /// Its bridge's index; 0 takes it out.
    pub master: Option<u32>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The sysctl `net.ipv4.conf.NAME.arp_notify`, which can be switched on: whether neighbours are told at once of another
    /// hardware address.
    pub arp_notify: bool,
    /// As a bridge's port: whether a frame may leave by the port it came in by.
    pub hairpin: Option<bool>,
    /// As a bridge's port: whether it talks to ports that are not isolated only.
    pub isolated: Option<bool>,
}

impl Links<'_> {
    /// Creates a device in one request, and returns it as it came into being: it becomes a port right after that.
    ///
    /// The error's [`NetError::errno`] is EEXIST where a name is taken, the veth's peer's included.
    pub fn add(&self, link: &impl NewLink) -> Result<Link> {
        let answers = self
            .0
            .request(
                RouteNetlinkMessage::NewLink(link.message()),
                NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO,
            )
            .map_err(|refusal| refusal.on(link.doing()))?;
        match links(&answers).next() {
            Some(made) => Ok(made),
            // Before Linux 6.2 the kernel does not answer with what it made.
            None => self.require(link.name()),
        }
    }

    /// The device of this name; `None` where there is none.
    pub fn get(&self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.one(message).map_err(|refusal| {
            refusal.on(format!("look up interface {name} in {}", self.0.place()))
        })
    }

    /// The device of this index; `None` where there is none.
    pub fn get_index(&self, index: u32) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.one(message).map_err(|refusal| {
            refusal.on(format!("look up interface number {index} in {}", self.0.place()))
        })
    }

    /// The device at the other end of `inside`, a veth of that namespace; `None` where it is not here, or no veth.
    ///
    /// Its index alone does not say: it is the index in whatever namespace the other end is in.
    pub fn other_end(&self, inside: &Link, netns: &Netns) -> Result<Option<Link>> {
        let Some(index) = inside.peer.filter(|index| inside.kind == "veth" && *index != 0) else {
            return Ok(None);
        };
        let Some(link) = self.get_index(index)? else { return Ok(None) };
        // The kernel gives a namespace its number when it first tells of a link to it, so this comes second.
        let leads_back = link.kind == "veth"
            && link.peer == Some(inside.index)
            && link.peer_netns == self.number_of(netns)?;
        Ok(leads_back.then_some(link))
    }

    /// The device here by which `inside`, a device of that namespace, reaches its network: the bridge that its veth is a port of,
    /// or what it lies on (macvlan, ipvlan, vlan); `None` where that is not here.
    pub fn way_out(&self, inside: &Link, netns: &Netns) -> Result<Option<Link>> {
        if let Some(end) = self.other_end(inside, netns)? {
            return end.master.map_or(Ok(None), |master| self.get_index(master));
        }
        // Indices count in the namespace of what it lies on; that of a device which lies on none is 0 or absent.
        let below = inside.peer.filter(|_| inside.kind != "veth" && inside.peer_netns.is_some());
        below.map_or(Ok(None), |below| self.get_index(below))
    }

    /// `ip netns list-id`: the number that this namespace has for another one.
    fn number_of(&self, netns: &Netns) -> Result<Option<i32>> {
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(netns.as_fd().as_raw_fd().cast_unsigned()));
        let answers = self.0.get(RouteNetlinkMessage::GetNsId(message)).map_err(|refusal| {
            refusal.on(format!("look up the number of {}", netns.path().display()))
        })?;
        let attributes = answers.iter().flat_map(|answer| match answer {
            RouteNetlinkMessage::NewNsId(message) => message.attributes.as_slice(),
            _ => &[],
        });
        let mut numbers = attributes.filter_map(|attribute| match attribute {
            NsidAttribute::Id(number) => Some(*number).filter(|number| *number >= 0),
            _ => None,
        });
        Ok(numbers.next())
    }

    /// All devices. A dump: not for the way of every ADD.
    pub fn list(&self) -> Result<Vec<Link>> {
        self.listed(LinkMessage::default())
    }

    /// The ports of the bridge of this index. A dump: not for the way of every ADD.
    pub fn ports(&self, bridge: u32) -> Result<Vec<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Controller(bridge));
        // The kernel may pass over the filter.
        let links = self.listed(message)?;
        Ok(links.into_iter().filter(|link| link.master == Some(bridge)).collect())
    }

    /// The device of this name, which must be there.
    pub fn require(&self, name: &str) -> Result<Link> {
        self.get(name)?.ok_or_else(|| NetError::NoSuchLink {
            name: name.to_owned(),
            place: self.0.place().to_owned(),
        })
    }

    /// Changes the device of this name, in one request (but for what a bridge knows of its port: one more).
    pub fn set(&self, name: &str, change: &Change) -> Result<()> {
        self.0.change(self.setting(name, change))
    }

    /// The same among several changes.
    pub(crate) fn setting(&self, name: &str, change: &Change) -> Vec<Wanted> {
        let wanted = |message| Wanted {
            message,
            flags: 0,
            doing: format!("change interface {name} in {} ({change})", self.0.place()),
            fine: None,
        };
        let message = change.message(name);
        let changes =
            message.header.change_mask != LinkFlags::empty() || message.attributes.len() > 1;
        let own = changes.then(|| wanted(RouteNetlinkMessage::SetLink(message)));
        let port = change.port_message(name).map(|m| wanted(RouteNetlinkMessage::NewLink(m)));
        own.into_iter().chain(port).collect()
    }

    /// Sets a device up that has no IPv6 address of its own, not even the one that the kernel makes for its link: a bridge's port, or what
    /// only queues. There is nothing to be changed where there is no IPv6.
    ///
    /// Each that had one would have routes to it, too, and whenever any device comes up the kernel walks all routes: that would cost a
    /// node with a thousand containers more than all else. (What is left is one for multicast. The sysctl `disable_ipv6` takes that
    /// as well, but who writes it while others have the kernel's lock spins until they have not.)
    pub fn set_up_without_ipv6(&self, name: &str, change: &Change) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let spec = AfSpecUnspec::Inet6(vec![none]);
        message.attributes.push(LinkAttribute::AfSpecUnspec(vec![spec]));
        let mut changes = vec![Wanted {
            message: RouteNetlinkMessage::SetLink(message),
            flags: 0,
            doing: format!("keep IPv6 addresses from interface {name}"),
            fine: Some(Errno::EAFNOSUPPORT),
        }];
        changes.extend(self.setting(name, &Change { up: Some(true), ..change.clone() }));
        self.0.change(changes)
    }

    /// Deletes the device of this name; false where there is none.
    pub fn del(&self, name: &str) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.del_message(message, || format!("delete interface {name} in {}", self.0.place()))
    }

    /// Deletes the devices of these names at the cost of one: the kernel waits for a grace period (about 25 ms) per
    /// request, not per device. Those that are not there are no error.
    ///
    /// All get one device group, a fresh random number from the upper half of 32 bits, and that group is deleted:
    /// nobody else's device is in it.
    pub fn del_together<S: AsRef<str>>(&self, names: &[S]) -> Result<()> {
        if let [name] = names {
            self.del(name.as_ref())?;
            return Ok(());
        }
        let group = 0x8000_0000 | random_u32()?;
        let mut any = false;
        for name in names {
            any |= self.join_group(name.as_ref(), group)?;
        }
        if any {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::Group(group));
            self.del_message(message, || format!("delete the device group {group}"))?;
        }
        Ok(())
    }

    /// Puts a device into a group; false where there is none of this name.
    fn join_group(&self, name: &str, group: u32) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::Group(group));
        match self.0.request(RouteNetlinkMessage::SetLink(message), 0) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(false),
            Err(refusal) => Err(refusal.on(format!("put interface {name} into a device group"))),
        }
    }

    fn del_message(&self, message: LinkMessage, doing: impl Fn() -> String) -> Result<bool> {
        match self.0.request(RouteNetlinkMessage::DelLink(message), 0) {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(false),
            Err(refusal) => Err(refusal.on(doing())),
        }
    }

    fn listed(&self, mut message: LinkMessage) -> Result<Vec<Link>> {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let answers = self
            .0
            .dump(RouteNetlinkMessage::GetLink(message))
            .map_err(|refusal| refusal.on(format!("list the interfaces in {}", self.0.place())))?;
        Ok(links(&answers).collect())
    }

    fn one(&self, mut message: LinkMessage) -> Result<Option<Link>, Refusal> {
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.0.get(RouteNetlinkMessage::GetLink(message)) {
            Ok(answers) => Ok(links(&answers).next()),
            Err(refusal) if refusal.errno == Errno::ENODEV => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }
}

fn links(answers: &[RouteNetlinkMessage]) -> impl Iterator<Item = Link> + '_ {
    answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
        _ => None,
    })
}

impl Change {
    fn message(&self, name: &str) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        for (value, flag) in [
            (self.up, LinkFlags::Up),
            (self.promisc, LinkFlags::Promisc),
            (self.allmulti, LinkFlags::Allmulti),
        ] {
            if let Some(on) = value {
                message.header.flags.set(flag, on);
                message.header.change_mask |= flag;
            }
        }
        message.attributes.extend(self.master.map(LinkAttribute::Controller));
        message.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(self.tx_queue_len.map(LinkAttribute::TxQueueLen));
        message.attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        if self.arp_notify {
            let mut conf = InetDevConf::default();
            conf.arp_notify = 1;
            let request = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)]);
            message.attributes.push(LinkAttribute::AfSpecUnspec(vec![request]));
        }
        message
    }

    fn port_message(&self, name: &str) -> Option<LinkMessage> {
        let data: Vec<_> = [
            self.hairpin.map(InfoBridgePort::HairpinMode),
            self.isolated.map(InfoBridgePort::Isolated),
        ]
        .into_iter()
        .flatten()
        .collect();
        if data.is_empty() {
            return None;
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(data)),
        ]));
        Some(message)
    }
}

/// As `ip link set` has it.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let switch = |on: bool| if on { "on" } else { "off" };
        let words = [
            self.up.map(|up| if up { "up" } else { "down" }.to_owned()),
            self.promisc.map(|on| format!("promisc {}", switch(on))),
            self.allmulti.map(|on| format!("allmulticast {}", switch(on))),
            self.tx_queue_len.map(|length| format!("txqueuelen {length}")),
            self.master.map(|master| format!("master {master}")),
            self.mtu.map(|mtu| format!("mtu {mtu}")),
            self.mac.map(|mac| format!("address {mac}")),
            self.arp_notify.then(|| "arp_notify on".to_owned()),
            self.hairpin.map(|on| format!("hairpin {}", switch(on))),
            self.isolated.map(|on| format!("isolated {}", switch(on))),
        ];
        f.write_str(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    }
}

fn random_u32() -> Result<u32> {
    getrandom::u32().map_err(|error| NetError::Random(std::io::Error::other(error.to_string())))
}
