mod properties;

use dhcproto::v4::{DhcpOption as O, Flags, Message, MessageType as Kind, OptionCode};

use super::{
    super::{
        To,
        fake::{ADDRESS, SERVER, SERVER_MAC, answer, client, read},
        message,
    },
    *,
};
use crate::dhcp::link::EVERYBODY;

const SECOND: Duration = Duration::from_secs(1);
const UNCHANGED: fn(&mut Message) = |_| {};

/// In the middle, so that no wait is varied; the numbers that are not waits differ.
fn even() -> Box<dyn FnMut() -> u32 + Send> {
    let mut next = u32::MAX / 2;
    Box::new(move || {
        next += 1;
        next
    })
}

fn sent(step: Step) -> (Outgoing, Duration) {
    match step {
        Step::Send(message, until) => (message, until),
        other => panic!("{other:?}"),
    }
}

fn lease(step: Step) -> Lease {
    match step {
        Step::Done(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn waits_on(machine: &mut Machine<'_>, payload: &[u8], now: Duration, until: Duration) {
    match machine.received(payload, SERVER_MAC, now) {
        Step::Wait(wake) => assert_eq!(wake, until),
        other => panic!("{other:?}"),
    }
}

/// The times, in seconds, at which a machine that hears nothing says something, and its end.
fn told_in_vain(machine: &mut Machine<'_>) -> (Vec<u64>, Failure) {
    let (mut times, mut now) = (Vec::new(), Duration::ZERO);
    loop {
        match machine.woken(now) {
            Step::Send(_, until) => {
                times.push(now.as_secs_f64().round() as u64);
                now = until;
            }
            Step::Wait(until) => now = until,
            Step::Failed(failure) => return (times, failure),
            Step::Done(lease) => panic!("{lease:?}"),
        }
    }
}

fn option(message: &Message, code: OptionCode) -> Option<O> {
    message.opts().get(code).cloned()
}

#[test]
fn a_lease_is_had_in_four_messages() {
    let client = client();
    let wanted = Ipv4Addr::new(10, 7, 0, 9);
    let mut machine = Machine::acquire(&client, Timing::default(), Some(wanted), even());
    let (discover, _) = sent(machine.woken(Duration::ZERO));
    assert_eq!((discover.from, discover.to), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    assert_eq!((discover.mac, discover.payload.len()), (EVERYBODY, 300));
    let asked = read(&discover);
    assert_eq!(asked.opts().msg_type(), Some(Kind::Discover));
    assert_eq!((asked.chaddr(), asked.flags()), (&client.mac.0[..], Flags::default()));
    let of = |code| option(&asked, code).unwrap();
    assert_eq!(of(OptionCode::ClientIdentifier), O::ClientIdentifier(client.client_id.clone()));
    assert_eq!(of(OptionCode::RequestedIpAddress), O::RequestedIpAddress(wanted));
    assert_eq!(of(OptionCode::MaxMessageSize), O::MaxMessageSize(1280));
    let list = client.requests.iter().map(|code| OptionCode::from(*code)).collect();
    assert_eq!(of(OptionCode::ParameterRequestList), O::ParameterRequestList(list));

    // Repeated after four seconds, under the same number.
    let (again, until) = sent(machine.woken(SECOND * 4));
    assert_eq!((read(&again).xid(), read(&again).secs()), (asked.xid(), 4));
    let offer = answer(&again, Kind::Offer, UNCHANGED);
    let (request, _) = sent(machine.received(&offer, SERVER_MAC, SECOND * 5));
    let taken = read(&request);
    assert_eq!((taken.xid(), taken.secs(), request.to), (asked.xid(), 4, Ipv4Addr::BROADCAST));
    assert_eq!(
        option(&taken, OptionCode::RequestedIpAddress),
        Some(O::RequestedIpAddress(ADDRESS))
    );
    assert_eq!(option(&taken, OptionCode::ServerIdentifier), Some(O::ServerIdentifier(SERVER)));
    assert!(until > SECOND * 5);

    let ack = answer(&request, Kind::Ack, UNCHANGED);
    let lease = lease(machine.received(&ack, SERVER_MAC, SECOND * 8));
    assert_eq!((lease.address, lease.prefix, lease.server), (ADDRESS, 24, SERVER));
    assert_eq!((lease.server_mac, lease.routers), (SERVER_MAC, vec![SERVER]));
    // It began when it was asked for, three seconds ago.
    let times = (lease.lease_time, lease.renew_after, lease.rebind_after);
    assert_eq!(times, (Some(3597), Some(1797), Some(3147)));
}

#[test]
fn a_message_is_repeated_with_longer_and_longer_waits_and_then_given_up() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (times, failure) = told_in_vain(&mut machine);
    assert_eq!(times, [0, 4, 12, 28, 60, 122, 184]);
    assert!(matches!(failure, Failure::Silence));
}

#[test]
fn what_servers_say_that_is_no_lease_is_why_there_is_none() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (discover, until) = sent(machine.woken(Duration::ZERO));
    let offer = answer(&discover, Kind::Offer, |offer| {
        offer.set_yiaddr(Ipv4Addr::LOCALHOST);
    });
    waits_on(&mut machine, &offer, SECOND, until);
    let failure = told_in_vain(&mut machine).1.to_string();
    assert!(failure.contains("127.0.0.1 is no address for a host"), "{failure}");
}

#[test]
fn an_offer_that_nobody_confirms_is_forgotten() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (discover, _) = sent(machine.woken(Duration::ZERO));
    let (request, until) =
        sent(machine.received(&answer(&discover, Kind::Offer, UNCHANGED), SERVER_MAC, SECOND));
    assert_eq!(until.as_secs(), 5);
    assert_eq!(read(&sent(machine.woken(until)).0), read(&request));
    let (anew, _) = sent(machine.woken(SECOND * 11));
    assert_eq!(read(&anew).opts().msg_type(), Some(Kind::Discover));
    assert_ne!(read(&anew).xid(), read(&discover).xid());
    // What comes late is of another exchange.
    let until = machine.wake;
    waits_on(&mut machine, &answer(&request, Kind::Ack, UNCHANGED), SECOND * 11, until);
}

#[test]
fn a_server_that_takes_back_what_it_offers_is_not_asked_without_end() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (mut now, mut step, mut requests) = (Duration::ZERO, machine.woken(Duration::ZERO), 0);
    let failure = loop {
        step = match step {
            Step::Send(message, _) => match read(&message).opts().msg_type() {
                Some(Kind::Discover) => {
                    machine.received(&answer(&message, Kind::Offer, UNCHANGED), SERVER_MAC, now)
                }
                _ => {
                    requests += 1;
                    let nak = answer(&message, Kind::Nak, |nak| {
                        nak.opts_mut().insert(O::Message("no\x1bt any more".to_owned()));
                    });
                    machine.received(&nak, SERVER_MAC, now)
                }
            },
            Step::Wait(until) => {
                assert!(until > now);
                now = until;
                machine.woken(now)
            }
            Step::Failed(failure) => break failure,
            Step::Done(lease) => panic!("{lease:?}"),
        };
    };
    assert!(requests < 40, "{requests}");
    assert!(matches!(failure, Failure::Refused(why) if why == "10.7.0.1: not any more"));
}

#[test]
fn what_is_said_to_others_or_makes_no_sense_changes_nothing() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (discover, until) = sent(machine.woken(Duration::ZERO));
    let refused: [fn(&mut Message); 10] = [
        |offer| _ = offer.set_xid(offer.xid() ^ 1),
        |offer| _ = offer.set_chaddr(&[2, 0, 0, 0, 0, 3]),
        |offer| _ = offer.set_chaddr(&[2, 0, 0, 0, 0]),
        |offer| _ = offer.set_opcode(dhcproto::v4::Opcode::BootRequest),
        |offer| _ = offer.set_htype(dhcproto::v4::HType::IPsecTunnel),
        |offer| _ = offer.set_yiaddr([0, 0, 0, 0]),
        |offer| _ = offer.set_yiaddr([255, 255, 255, 255]),
        |offer| _ = offer.opts_mut().insert(O::AddressLeaseTime(0)),
        |offer| _ = offer.opts_mut().insert(O::SubnetMask([255, 0, 255, 0].into())),
        |offer| _ = offer.opts_mut().remove(OptionCode::ServerIdentifier),
    ];
    for change in refused {
        waits_on(&mut machine, &answer(&discover, Kind::Offer, change), SECOND, until);
    }
    for kind in [Kind::Ack, Kind::Nak, Kind::Discover] {
        waits_on(&mut machine, &answer(&discover, kind, UNCHANGED), SECOND, until);
    }
    let offer = answer(&discover, Kind::Offer, UNCHANGED);
    let mut without_options = offer.clone();
    without_options[236] = 0;
    let mut long_address = offer.clone();
    long_address[2] = 255;
    let too_long = [&offer[..], &[0; 1280]].concat();
    for odd in [&without_options, &long_address, &too_long] {
        waits_on(&mut machine, odd, SECOND, until);
    }
    let (request, until) = sent(machine.received(&offer, SERVER_MAC, SECOND));
    // Another server's offer, and another server's refusal.
    waits_on(&mut machine, &offer, SECOND, until);
    let other: fn(&mut Message) = |nak| {
        nak.opts_mut().insert(O::ServerIdentifier([10, 7, 0, 2].into()));
    };
    waits_on(&mut machine, &answer(&request, Kind::Nak, other), SECOND, until);
    lease(machine.received(&answer(&request, Kind::Ack, UNCHANGED), SERVER_MAC, SECOND));
}

#[test]
fn a_lease_of_before_is_asked_for_without_naming_its_server() {
    let (client, lease) = (client(), a_lease());
    let mut machine = Machine::confirm(&client, &lease, Timing::default(), even());
    let (reboot, _) = sent(machine.woken(Duration::ZERO));
    let asked = read(&reboot);
    assert_eq!((asked.opts().msg_type(), asked.ciaddr()), (Some(Kind::Request), [0; 4].into()));
    assert_eq!(
        option(&asked, OptionCode::RequestedIpAddress),
        Some(O::RequestedIpAddress(ADDRESS))
    );
    assert_eq!(option(&asked, OptionCode::ServerIdentifier), None);
    assert_eq!(reboot.to, Ipv4Addr::BROADCAST);
    // Any server may refuse it; this one does not say who it is.
    let nak = answer(&reboot, Kind::Nak, |nak| {
        nak.opts_mut().remove(OptionCode::ServerIdentifier);
    });
    match machine.received(&nak, SERVER_MAC, SECOND) {
        Step::Failed(Failure::Refused(why)) => assert_eq!(why, "it does not say why"),
        other => panic!("{other:?}"),
    }
    let mut machine = Machine::confirm(&client, &lease, Timing::default(), even());
    let (times, failure) = told_in_vain(&mut machine);
    assert_eq!(times, [0, 4]);
    assert!(matches!(failure, Failure::Silence));
}

#[test]
fn more_time_is_asked_for_from_the_address_it_is_about() {
    let (client, lease) = (client(), a_lease());
    for (to, destination, mac) in
        [(To::Server, SERVER, SERVER_MAC), (To::All, Ipv4Addr::BROADCAST, EVERYBODY)]
    {
        let mut machine = Machine::extend(&client, &lease, extension(to));
        let (request, _) = sent(machine.woken(Duration::ZERO));
        assert_eq!((request.from, request.to, request.mac), (ADDRESS, destination, mac));
        let asked = read(&request);
        assert_eq!((asked.opts().msg_type(), asked.ciaddr()), (Some(Kind::Request), ADDRESS));
        for absent in [OptionCode::RequestedIpAddress, OptionCode::ServerIdentifier] {
            assert_eq!(option(&asked, absent), None);
        }
        // A server that does not name itself is the one that is known, and one that has nothing but time to say is heard.
        let ack = answer(&request, Kind::Ack, |ack| {
            ack.opts_mut().remove(OptionCode::ServerIdentifier);
            ack.opts_mut().remove(OptionCode::Router);
        });
        let extended = self::lease(machine.received(&ack, SERVER_MAC, SECOND));
        assert_eq!((extended.server, extended.routers.len()), (SERVER, 0));
    }
}

#[test]
fn a_request_for_more_time_is_sent_once_and_says_since_when_it_is_asked_for() {
    let (client, lease) = (client(), a_lease());
    let again = Extension { elapsed: SECOND * 675, ..extension(To::Server) };
    let mut machine = Machine::extend(&client, &lease, again);
    let (request, until) = sent(machine.woken(Duration::ZERO));
    assert_eq!((read(&request).xid(), read(&request).secs(), until), (again.xid, 675, SECOND * 10));
    assert!(matches!(machine.woken(until), Step::Failed(Failure::Silence)));
    let (times, _) = told_in_vain(&mut Machine::extend(&client, &lease, again));
    assert_eq!(times, [0]);
}

#[test]
fn all_messages_say_what_the_configuration_tells_and_release_only_whose_the_lease_is() {
    let mut client = client();
    client.broadcast = true;
    client.provides = vec![(12, b"web-0".to_vec()), (61, b"other".to_vec())];
    let lease = a_lease();
    let discover =
        sent(Machine::acquire(&client, Timing::default(), None, even()).woken(Duration::ZERO)).0;
    let extend = Machine::extend(&client, &lease, extension(To::All)).woken(Duration::ZERO);
    let released = message::release(&client, &lease, 7);
    assert_eq!((released.from, released.to, released.mac), (ADDRESS, SERVER, SERVER_MAC));
    for (message, broadcast) in [(&discover, true), (&sent(extend).0, false), (&released, false)] {
        let message = read(message);
        let other = O::ClientIdentifier(b"other".to_vec());
        assert_eq!(option(&message, OptionCode::ClientIdentifier), Some(other));
        assert_eq!(message.flags().broadcast(), broadcast);
    }
    assert_eq!(
        option(&read(&discover), OptionCode::Hostname),
        Some(O::Hostname("web-0".to_owned()))
    );
    let released = read(&released);
    assert_eq!((released.xid(), released.ciaddr()), (7, ADDRESS));
    let codes: Vec<u8> = released.opts().iter().map(|(code, _)| u8::from(*code)).collect();
    assert_eq!(codes, [53, 54, 61]);
}

/// As the daemon asks.
fn extension(to: To) -> Extension {
    Extension { to, xid: 7, elapsed: Duration::ZERO, patience: SECOND * 10 }
}

fn a_lease() -> Lease {
    Lease {
        address: ADDRESS,
        prefix: 24,
        server: SERVER,
        server_mac: SERVER_MAC,
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
    }
}
