//! What a hostile server can do: a packet of any bytes, to a client in each of its states. The fuzz targets look for one that
//! the client cannot take, and `tests/dhcp_corpus.rs` goes through those that were found to lead somewhere.
#![allow(dead_code, reason = "each target uses one of them")]

use std::{net::Ipv4Addr, time::Duration};

use delegates::{
    dhcp::{self, Client, Extension, Lease, Random, Step, Timing, v4, v6},
    net::Mac,
};
use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, Message, MessageType, Opcode},
};

/// By it packets of the corpus are answers to this client.
const RANDOM: u32 = 0x0102_0304;
const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const CLIENT_ID: &[u8] = b"\0c1/net/eth0";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 50);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const SECOND: Duration = Duration::from_secs(1);

fn random() -> Random<'static> {
    Box::new(|| RANDOM)
}

/// More time is asked for of a lease's server, and of all.
fn extensions() -> [Extension; 2] {
    [v4::To::Server, v4::To::All].map(|to| Extension {
        to,
        xid: RANDOM,
        elapsed: Duration::ZERO,
        patience: SECOND * 10,
    })
}

/// A packet of IPv4, or what is in one. Whether a client takes a lease from it.
pub fn v4(data: &[u8]) -> bool {
    to_all_states_of_v4(data) | dhcp::payload(data).is_some_and(to_all_states_of_v4)
}

fn to_all_states_of_v4(payload: &[u8]) -> bool {
    let client = Client {
        mac: MAC,
        client_id: CLIENT_ID.to_vec(),
        requests: vec![1, 3, 121],
        provides: Vec::new(),
        broadcast: false,
    };
    let timing = Timing::default();
    let mut selecting = v4::Machine::acquire(&client, timing, None, random());
    let Step::Send(discover, _) = selecting.woken(Duration::ZERO) else { panic!("no DISCOVER") };
    let mut leased = check_v4(selecting.received(payload, MAC, SECOND));

    let mut requesting = v4::Machine::acquire(&client, timing, None, random());
    requesting.woken(Duration::ZERO);
    let Step::Send(..) = requesting.received(&offer(&discover.payload), MAC, Duration::ZERO) else {
        panic!("no REQUEST")
    };
    leased |= check_v4(requesting.received(payload, MAC, SECOND));

    let lease = Lease {
        address: ADDRESS,
        prefix: 24,
        server: SERVER,
        server_mac: MAC,
        lease_time: Some(3600),
        renew_after: Some(1800),
        rebind_after: Some(3150),
        routers: Vec::new(),
        static_routes: Vec::new(),
        classless_routes: Vec::new(),
        mtu: None,
        dns: Vec::new(),
        domain: None,
        search: Vec::new(),
    };
    let mut rebooting = v4::Machine::confirm(&client, &lease, timing, random());
    rebooting.woken(Duration::ZERO);
    leased |= check_v4(rebooting.received(payload, MAC, SECOND));
    for extension in extensions() {
        let mut extending = v4::Machine::extend(&client, &lease, extension);
        extending.woken(Duration::ZERO);
        leased |= check_v4(extending.received(payload, MAC, SECOND));
    }
    leased
}

fn offer(discover: &[u8]) -> Vec<u8> {
    let mut offer = Message::decode(&mut Decoder::new(discover)).expect("a message");
    offer.set_opcode(Opcode::BootReply).set_yiaddr(ADDRESS);
    offer.opts_mut().clear();
    for option in [
        DhcpOption::MessageType(MessageType::Offer),
        DhcpOption::ServerIdentifier(SERVER),
        DhcpOption::AddressLeaseTime(3600),
    ] {
        offer.opts_mut().insert(option);
    }
    offer.to_vec().expect("an offer can be written")
}

fn check_v4(step: Step<v4::Outgoing, Lease>) -> bool {
    let Some(lease) = outcome(step) else { return false };
    assert!(
        lease.prefix <= 32 && !lease.address.is_unspecified() && !lease.server.is_unspecified()
    );
    in_order([lease.renew_after, lease.rebind_after, lease.lease_time]);
    for name in lease.domain.iter().chain(&lease.search) {
        assert!(name.bytes().all(|b| b.is_ascii_graphic()), "{name:?}");
    }
    let text = serde_json::to_string(&lease).expect("a lease can be kept");
    assert_eq!(serde_json::from_str::<Lease>(&text).expect("and be read again"), lease);
    assert_eq!(dhcp::result(&lease, None).ips.len(), 1);
    true
}

/// A message of DHCPv6. Whether a client takes a lease from it.
pub fn v6(data: &[u8]) -> bool {
    let client = v6::Client::new(CLIENT_ID);
    let timing = Timing::default();
    let mut soliciting = v6::Machine::acquire(&client, timing, None, random());
    soliciting.woken(Duration::ZERO);
    let step = soliciting.received(data, SECOND / 2);
    let requests = matches!(step, Step::Send(..));
    let mut leased = check_v6(step);
    // It requests what was offered at once, or a second later: the same message may be the answer.
    if requests || matches!(soliciting.woken(SECOND), Step::Send(..)) {
        leased |= check_v6(soliciting.received(data, SECOND));
    }
    let lease = v6::Lease {
        address: "fd07::50".parse().expect("an address"),
        server: vec![0, 1, 0, 1, 7, 7],
        preferred_time: Some(3600),
        lease_time: Some(3600),
        renew_after: Some(1800),
        rebind_after: Some(3150),
        dns: Vec::new(),
        search: Vec::new(),
    };
    for extension in extensions() {
        let mut extending = v6::Machine::extend(&client, &lease, extension);
        extending.woken(Duration::ZERO);
        leased |= check_v6(extending.received(data, SECOND));
    }
    let mut releasing = v6::Machine::release(&client, &lease, false, timing, random());
    releasing.woken(Duration::ZERO);
    check_v6(releasing.received(data, SECOND));
    leased
}

fn check_v6(step: Step<Vec<u8>, v6::Lease>) -> bool {
    let Some(lease) = outcome(step) else { return false };
    assert!(!lease.address.is_multicast() && !lease.address.is_unspecified());
    in_order([lease.renew_after, lease.rebind_after, lease.lease_time]);
    assert!(lease.search.iter().all(|name| name.bytes().all(|b| b.is_ascii_graphic())));
    let text = serde_json::to_string(&lease).expect("a lease can be kept");
    assert_eq!(serde_json::from_str::<v6::Lease>(&text).expect("and be read again"), lease);
    assert_eq!(v6::result(&lease).ips.len(), 1);
    true
}

/// The lease, where there is one; what is waited for is to come within the exchange, and not before the packet.
fn outcome<M, L>(step: Step<M, L>) -> Option<L> {
    match step {
        Step::Send(_, until) | Step::Wait(until) => {
            assert!(until >= SECOND / 2 && until <= SECOND * 600, "{until:?}");
            None
        }
        Step::Done(lease) => Some(lease),
        Step::Failed(failure) => {
            assert!(!failure.to_string().chars().any(char::is_control), "{failure:?}");
            None
        }
    }
}

fn in_order([renew, rebind, end]: [Option<u32>; 3]) {
    assert!(renew <= rebind && rebind <= end, "{renew:?} {rebind:?} {end:?}");
    assert!(end.is_none_or(|end| end <= 365 * 24 * 3600));
}
