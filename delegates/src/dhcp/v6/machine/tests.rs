mod properties;

use dhcproto::{
    Decodable, Decoder, Encodable,
    v6::{
        DhcpOption as O, IAAddr, IANA, Message, MessageType as Kind, OptionCode, StatusCode,
        UnknownOption,
    },
};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SERVER: &[u8] = &[0, 1, 0, 1, 7, 7];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 0x50);

/// As the daemon asks.
fn extension(to: To) -> Extension {
    Extension { to, xid: 7, elapsed: Duration::ZERO, patience: SECOND * 10 }
}

fn client() -> Client {
    Client::new(b"\0c1/net/eth0")
}

/// In the middle, so that hardly a wait is varied; the numbers that are not waits differ.
fn even() -> Random<'static> {
    let mut next = u32::MAX / 2;
    Box::new(move || {
        next += 1;
        next
    })
}

fn sent(step: Step) -> (Message, Duration) {
    match step {
        Step::Send(message, until) => {
            (Message::decode(&mut Decoder::new(&message)).expect("a message"), until)
        }
        other => panic!("{other:?}"),
    }
}

fn lease(step: Step) -> Lease {
    match step {
        Step::Done(lease) => lease,
        other => panic!("{other:?}"),
    }
}

fn waits(step: Step, until: Duration) {
    assert!(matches!(step, Step::Wait(wake) if wake == until), "{step:?}");
}

/// An answer of a server with these options besides.
fn answer(to: &Message, kind: Kind, server: &[u8], more: impl IntoIterator<Item = O>) -> Vec<u8> {
    let mut message = Message::new_with_id(kind, to.xid());
    let id = to.opts().get(OptionCode::ClientId).cloned();
    let all = id.into_iter().chain([O::ServerId(server.to_vec())]).chain(more);
    all.for_each(|option| message.opts_mut().insert(option));
    message.to_vec().expect("an answer can be written")
}

fn status(status: Status) -> O {
    O::StatusCode(StatusCode { status, msg: "so\x1b be it".to_owned() })
}

/// An association with this in it.
fn association(times: [u32; 2], options: impl IntoIterator<Item = O>) -> O {
    let opts = options.into_iter().collect();
    O::IANA(IANA { id: client().iaid, t1: times[0], t2: times[1], opts })
}

fn address(addr: Ipv6Addr, preferred_life: u32, valid_life: u32) -> O {
    O::IAAddr(IAAddr { addr, preferred_life, valid_life, opts: <_>::default() })
}

/// What a server usually has.
fn usual() -> O {
    association([1800, 3150], [address(ADDRESS, 3600, 7200)])
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
            Step::Failed(failure) => return (times, failure),
            other => panic!("{other:?}"),
        }
    }
}

fn a_lease() -> Lease {
    Lease {
        address: ADDRESS,
        server: SERVER.to_vec(),
        preferred_time: Some(3600),
        lease_time: Some(7200),
        renew_after: Some(1800),
        rebind_after: Some(3150),
        dns: Vec::new(),
        search: Vec::new(),
    }
}

#[test]
fn of_what_servers_have_in_the_first_second_the_preferred_is_taken() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), Some(ADDRESS), even());
    let (solicit, until) = sent(machine.woken(Duration::ZERO));
    assert_eq!(solicit.msg_type(), Kind::Solicit);
    assert_eq!(solicit.opts().get(OptionCode::ClientId), Some(&O::ClientId(client.duid.clone())));
    assert_eq!(
        solicit.opts().get(OptionCode::IANA),
        Some(&association([0, 0], [address(ADDRESS, 0, 0)]))
    );
    let advertise = |server, preference| {
        answer(&solicit, Kind::Advertise, server, [usual(), O::Preference(preference)])
    };
    waits(machine.received(&advertise(b"one", 7), SECOND / 2), until);
    waits(machine.received(&advertise(SERVER, 9), SECOND / 2), until);
    waits(machine.received(&advertise(b"three", 9), SECOND / 2), until);
    let (request, until) = sent(machine.woken(until));
    assert_eq!(request.msg_type(), Kind::Request);
    assert_eq!(request.opts().get(OptionCode::ServerId), Some(&O::ServerId(SERVER.to_vec())));
    assert_ne!(request.xid(), solicit.xid());
    // Another server's word does not count.
    waits(machine.received(&answer(&request, Kind::Reply, b"one", [usual()]), SECOND * 2), until);
    let names = UnknownOption::new(OptionCode::DomainSearchList, b"\x01a\x07example\0".to_vec());
    let dns = O::DomainNameServers(vec!["fd07::2".parse().unwrap(), Ipv6Addr::LOCALHOST]);
    let reply = answer(&request, Kind::Reply, SERVER, [usual(), dns, O::Unknown(names)]);
    // It began when it was asked for.
    let lease = lease(machine.received(&reply, SECOND * 4));
    let expected = Lease {
        preferred_time: Some(3597),
        lease_time: Some(7197),
        renew_after: Some(1797),
        rebind_after: Some(3147),
        dns: vec!["fd07::2".parse().unwrap()],
        search: vec!["a.example".to_owned()],
        ..a_lease()
    };
    assert_eq!(lease, expected);
}

#[test]
fn a_server_that_insists_is_taken_at_once_and_so_is_any_that_is_late() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (solicit, until) = sent(machine.woken(Duration::ZERO));
    let insists = answer(&solicit, Kind::Advertise, SERVER, [usual(), O::Preference(255)]);
    assert_eq!(sent(machine.received(&insists, SECOND / 2)).0.msg_type(), Kind::Request);
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    sent(machine.woken(Duration::ZERO));
    let (solicit, _) = sent(machine.woken(until));
    let late = answer(&solicit, Kind::Advertise, SERVER, [usual()]);
    assert_eq!(sent(machine.received(&late, SECOND * 2)).0.msg_type(), Kind::Request);
}

#[test]
fn messages_are_repeated_with_longer_and_longer_waits_and_then_given_up() {
    let (client, lease) = (client(), a_lease());
    let timing = Timing::default();
    let times = |mut machine: Machine<'_>| {
        let (times, failure) = told_in_vain(&mut machine);
        assert!(matches!(failure, Failure::Silence), "{failure:?}");
        times
    };
    let acquire = Machine::acquire(&client, timing, None, even());
    assert_eq!(times(acquire), [0, 1, 3, 7, 15, 31, 63, 125, 187]);
    assert_eq!(times(Machine::confirm(&client, &lease, timing, even())), [0, 1, 3, 7]);
    // When it is asked for again, who keeps the lease says.
    assert_eq!(times(Machine::extend(&client, &lease, extension(To::Server))), [0]);
    assert_eq!(times(Machine::release(&client, &lease, false, timing, even())), [0, 1, 3, 7]);
}

#[test]
fn what_is_said_to_others_or_makes_no_sense_changes_nothing() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (solicit, until) = sent(machine.woken(Duration::ZERO));
    let good = answer(&solicit, Kind::Advertise, SERVER, [usual(), O::Preference(255)]);
    let mut other_number = good.clone();
    other_number[3] ^= 1;
    let mut other_client = solicit.clone();
    other_client.opts_mut().remove(OptionCode::ClientId);
    other_client.opts_mut().insert(O::ClientId(Client::new(b"other").duid));
    let insists = O::Preference(255);
    let to_other = answer(&other_client, Kind::Advertise, SERVER, [usual(), insists.clone()]);
    let long = [&good[..], &[0; 2048]].concat();
    let mut odd =
        vec![Vec::new(), vec![2], solicit.to_vec().unwrap(), other_number, to_other, long];
    let mut other_association = association([0, 0], [address(ADDRESS, 3600, 7200)]);
    if let O::IANA(other) = &mut other_association {
        other.id ^= 1;
    }
    let link_local = "fe80::1".parse().unwrap();
    odd.extend(
        [
            other_association,
            association([0, 0], []),
            association([3150, 1800], [address(ADDRESS, 3600, 7200)]),
            association([0, 0], [address(ADDRESS, 7200, 3600)]),
            association([0, 0], [address(ADDRESS, 0, 0)]),
            association([0, 0], [address(link_local, 3600, 7200)]),
            association([0, 0], [status(Status::NoAddrsAvail)]),
            status(Status::NoAddrsAvail),
        ]
        .map(|option| answer(&solicit, Kind::Advertise, SERVER, [option, insists.clone()])),
    );
    odd.push(answer(&solicit, Kind::Advertise, b"", [usual(), insists.clone()]));
    odd.push(answer(&solicit, Kind::Reply, SERVER, [usual()]));
    for odd in odd {
        waits(machine.received(&odd, SECOND / 2), until);
    }
    // Where nobody had anything, the end tells what was said.
    let (_, failure) = told_in_vain(&mut machine);
    assert!(matches!(failure, Failure::Refused(why) if why == "NoAddrsAvail: so be it"));
    // An option that makes no sense is not there, and the others are.
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (solicit, _) = sent(machine.woken(Duration::ZERO));
    let odd = |code, bytes: &[u8]| O::Unknown(UnknownOption::new(code, bytes.to_vec()));
    let odd = [
        odd(OptionCode::StatusCode, &[0]),
        odd(OptionCode::VendorClass, &[0]),
        odd(OptionCode::DomainNameServers, &[1; 17]),
    ];
    let mut payload =
        answer(&solicit, Kind::Advertise, SERVER, odd.into_iter().chain([usual(), insists]));
    payload.extend([0, 23, 0, 200, 1]);
    assert_eq!(sent(machine.received(&payload, SECOND)).0.msg_type(), Kind::Request);
}

#[test]
fn more_time_is_had_or_refused() {
    let (client, lease) = (client(), a_lease());
    for (to, kind, server) in [(To::Server, Kind::Renew, true), (To::All, Kind::Rebind, false)] {
        let mut machine = Machine::extend(&client, &lease, extension(to));
        let (asked, until) = sent(machine.woken(Duration::ZERO));
        assert_eq!(
            (asked.msg_type(), asked.opts().get(OptionCode::ServerId).is_some()),
            (kind, server)
        );
        assert_eq!(
            asked.opts().get(OptionCode::IANA),
            Some(&association([0, 0], [address(ADDRESS, 0, 0)]))
        );
        // The server does not know yet.
        let busy = answer(&asked, Kind::Reply, SERVER, [status(Status::UnspecFail)]);
        waits(machine.received(&busy, SECOND), until);
        let by_other = answer(&asked, Kind::Reply, b"other", [usual()]);
        match (to, machine.received(&by_other, SECOND)) {
            (To::Server, Step::Wait(_)) => {}
            (To::All, Step::Done(lease)) => assert_eq!(lease.server, b"other"),
            (_, step) => panic!("{step:?}"),
        }
        // The one that is had is preferred to others, and zeros leave the times to the client.
        let other = "fd07::99".parse().unwrap();
        let both = association([0, 0], [address(other, 3600, 7200), address(ADDRESS, 3600, 7200)]);
        let extended =
            self::lease(machine.received(&answer(&asked, Kind::Reply, SERVER, [both]), SECOND / 2));
        let times = (extended.renew_after, extended.rebind_after);
        assert_eq!((extended.address, times), (ADDRESS, (Some(1800), Some(2880))));
        for (refusal, why) in [
            (association([0, 0], [status(Status::NoBinding)]), "NoBinding: so be it"),
            (association([0, 0], [address(ADDRESS, 0, 0)]), "it ends fd07::50"),
        ] {
            let mut machine = Machine::extend(&client, &lease, extension(to));
            let (asked, _) = sent(machine.woken(Duration::ZERO));
            match machine.received(&answer(&asked, Kind::Reply, SERVER, [refusal]), SECOND) {
                Step::Failed(Failure::Refused(said)) => assert_eq!(said, why),
                other => panic!("{other:?}"),
            }
        }
    }
    // Who is busy to the end has refused nothing.
    let mut machine = Machine::extend(&client, &lease, extension(To::Server));
    let (asked, until) = sent(machine.woken(Duration::ZERO));
    let busy = answer(&asked, Kind::Reply, SERVER, [status(Status::UnspecFail)]);
    waits(machine.received(&busy, SECOND), until);
    assert!(matches!(told_in_vain(&mut machine).1, Failure::Silence));
    let for_ever = association([u32::MAX; 2], [address(ADDRESS, u32::MAX, u32::MAX)]);
    let mut machine = Machine::extend(&client, &lease, extension(To::All));
    let (asked, _) = sent(machine.woken(Duration::ZERO));
    let extended =
        self::lease(machine.received(&answer(&asked, Kind::Reply, SERVER, [for_ever]), SECOND));
    let times =
        [extended.preferred_time, extended.lease_time, extended.renew_after, extended.rebind_after];
    assert_eq!(times, [None; 4]);
}

#[test]
fn a_server_that_takes_back_what_it_offers_is_not_asked_without_end() {
    let client = client();
    let mut machine = Machine::acquire(&client, Timing::default(), None, even());
    let (mut now, mut step, mut requests) = (Duration::ZERO, machine.woken(Duration::ZERO), 0);
    let failure = loop {
        step = match step {
            Step::Send(message, _) => {
                let message = Message::decode(&mut Decoder::new(&message)).expect("a message");
                match message.msg_type() {
                    Kind::Solicit => {
                        let offer = [usual(), O::Preference(255)];
                        machine.received(&answer(&message, Kind::Advertise, SERVER, offer), now)
                    }
                    _ => {
                        requests += 1;
                        let no = association([0, 0], [status(Status::NoAddrsAvail)]);
                        machine.received(&answer(&message, Kind::Reply, SERVER, [no]), now)
                    }
                }
            }
            Step::Wait(until) => {
                assert!(until > now);
                now = until;
                machine.woken(now)
            }
            Step::Failed(failure) => break failure,
            Step::Done(lease) => panic!("{lease:?}"),
        };
    };
    assert!(requests < 150, "{requests}");
    assert!(matches!(failure, Failure::Refused(why) if why == "NoAddrsAvail: so be it"));
}

#[test]
fn a_lease_is_given_back_to_its_server() {
    let (client, lease) = (client(), a_lease());
    for (is_taken, kind) in [(false, Kind::Release), (true, Kind::Decline)] {
        let mut machine = Machine::release(&client, &lease, is_taken, Timing::default(), even());
        let (release, _) = sent(machine.woken(Duration::ZERO));
        assert_eq!(release.msg_type(), kind);
        assert_eq!(release.opts().get(OptionCode::ServerId), Some(&O::ServerId(SERVER.to_vec())));
        assert_eq!(
            release.opts().get(OptionCode::IANA),
            Some(&association([0, 0], [address(ADDRESS, 0, 0)]))
        );
        assert_eq!(release.opts().get(OptionCode::ORO), None);
        // Whatever it says of it, it is over.
        let reply = answer(&release, Kind::Reply, SERVER, [status(Status::NoBinding)]);
        self::lease(machine.received(&reply, SECOND));
    }
}
