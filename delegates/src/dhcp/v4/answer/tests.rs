use dhcproto::v4::{DhcpOption as O, Message, MessageType, UnknownOption};
use serde_json::json;

use super::{
    super::{
        fake::{ADDRESS, SERVER, SERVER_MAC, answer, client, read},
        message::Exchange,
    },
    *,
};

/// An ACK, and the number of what it answers.
fn ack(change: impl FnOnce(&mut Message)) -> (Vec<u8>, u32) {
    let discover = Exchange { client: &client(), xid: 7, secs: 0 }.discover(None);
    (answer(&discover, MessageType::Ack, change), read(&discover).xid())
}

fn lease_of((payload, xid): &(Vec<u8>, u32)) -> Result<Lease, String> {
    Answer::read(payload, &client(), *xid).expect("it is for us").lease(SERVER_MAC, None)
}

fn lease(change: impl FnOnce(&mut Message)) -> Lease {
    lease_of(&ack(change)).unwrap()
}

/// With options as bytes, before all others.
fn with_options(options: &[u8]) -> Lease {
    let (mut payload, xid) = ack(|_| ());
    payload.splice(HEAD..HEAD, options.iter().copied());
    lease_of(&(payload, xid)).unwrap()
}

fn told(code: u8, value: &[u8]) -> O {
    O::Unknown(UnknownOption::new(code.into(), value.to_vec()))
}

fn json_of<T: serde::Serialize>(value: T) -> serde_json::Value {
    serde_json::to_value(value).unwrap()
}

#[test]
fn options_also_stand_in_the_fields_for_names() {
    let (mut payload, xid) = ack(|ack| {
        ack.opts_mut().insert(O::OptionOverload(3));
    });
    // The second field says in vain that there is a third one; it is read because the first says so.
    payload[FILE_AT..FILE_AT + 7].copy_from_slice(&[26, 2, 5, 120, 52, 1, 0]);
    payload[SNAME_AT..SNAME_AT + 11]
        .copy_from_slice(&[15, 9, b'a', b'.', b'e', b'x', b'a', b'm', b'p', b'l', b'e']);
    let full = (payload, xid);
    let lease = lease_of(&full).unwrap();
    assert_eq!((lease.mtu, lease.domain.as_deref()), (Some(1400), Some("a.example")));
    // Without the word of option 52 they are names.
    let (mut plain, _) = ack(|_| ());
    plain[SNAME_AT..HEAD - 4].copy_from_slice(&full.0[SNAME_AT..HEAD - 4]);
    let lease = lease_of(&(plain, xid)).unwrap();
    assert_eq!((lease.mtu, lease.domain), (None, None));
}

const SNAME_AT: usize = 44;
const FILE_AT: usize = 108;

#[test]
fn the_pieces_of_a_long_option_are_put_together_wherever_they_stand() {
    let routes: Vec<u8> = (0..60u8).flat_map(|i| [16, 10, i, 10, 7, 0, 3]).collect();
    let (first, second) = routes.split_at(255);
    let second_length = u8::try_from(second.len()).unwrap();
    let pieces =
        [&[121, 255], first, &[15, 3], b"a.b", &[0, 0, 121, second_length], second].concat();
    let lease = with_options(&pieces);
    assert_eq!(lease.classless_routes.len(), 60);
    assert_eq!(lease.classless_routes[59].0.to_string(), "10.59.0.0/16");
    assert_eq!(lease.domain.as_deref(), Some("a.b"));
}

#[test]
fn an_option_that_makes_no_sense_is_not_there_and_the_others_are() {
    // A host's name that is no UTF-8, a router and a half, an MTU of one byte, an empty one.
    let lease = with_options(&[12, 2, 0xff, 0xfe, 6, 6, 10, 7, 0, 1, 10, 7, 26, 1, 5, 15, 0]);
    assert_eq!((lease.dns, lease.mtu, lease.domain), (Vec::new(), None, None));
    assert_eq!((lease.address, lease.server, lease.routers), (ADDRESS, SERVER, vec![SERVER]));
    // What claims to be longer than the message ends it.
    let (mut payload, xid) = ack(|_| ());
    payload.truncate(payload.len() - 1);
    payload.extend([6, 200, 10, 7, 0, 1]);
    assert_eq!(lease_of(&(payload, xid)).unwrap().dns, Vec::<Ipv4Addr>::new());
    // A repeated one is the first.
    let repeated = with_options(&[54, 4, 10, 7, 0, 9, 1, 4, 255, 255, 0, 0]);
    assert_eq!((repeated.server, repeated.prefix), ([10, 7, 0, 9].into(), 16));
}

#[test]
fn routes_are_to_where_they_can_be() {
    let lease = lease(|ack| {
        let pair = |to: [u8; 4], router: [u8; 4]| (to.into(), router.into());
        let pairs = vec![
            pair([10, 0, 0, 0], [10, 7, 0, 3]),
            pair([172, 16, 0, 0], [10, 7, 0, 3]),
            pair([192, 168, 9, 0], [10, 7, 0, 3]),
            pair([192, 168, 9, 7], [10, 7, 0, 3]),
            pair([0, 0, 0, 0], [10, 7, 0, 3]),
            pair([10, 0, 0, 0], [0, 0, 0, 0]),
            pair([10, 0, 0, 0], [224, 0, 0, 1]),
        ];
        ack.opts_mut().insert(O::StaticRoutingTable(pairs));
        ack.opts_mut().insert(O::Router(vec![[0; 4].into(), [127, 0, 0, 1].into(), SERVER]));
        let classless =
            [24, 10, 8, 0, 0, 0, 0, 0, 0, 10, 7, 0, 1, 32, 10, 9, 0, 1, 255, 255, 255, 255];
        ack.opts_mut().insert(told(121, &classless));
    });
    let by = |dst: &str| json!([dst, "10.7.0.3"]);
    let nets = ["10.0.0.0/8", "172.16.0.0/16", "192.168.9.0/24", "192.168.9.7/32"];
    assert_eq!(json_of(lease.static_routes), json!(nets.map(by)));
    assert_eq!(lease.routers, [SERVER]);
    let classless = json!([["10.8.0.0/24", "0.0.0.0"], ["0.0.0.0/0", "10.7.0.1"]]);
    assert_eq!(json_of(lease.classless_routes), classless);
    // A prefix of more than 32 bits or half a route spoils the list.
    assert_eq!(with_options(&[121, 6, 8, 10, 10, 7, 0, 1]).classless_routes.len(), 1);
    for odd in [24, 33, 255] {
        assert_eq!(with_options(&[121, 7, 8, 10, 10, 7, 0, 1, odd]).classless_routes.len(), 0);
    }
}

#[test]
fn domains_are_names_that_resolv_conf_can_hold() {
    let names = |domain: &str, search: &[u8]| {
        let lease = lease(|ack| {
            ack.opts_mut().insert(O::DomainName(domain.to_owned()));
            if !search.is_empty() {
                ack.opts_mut().insert(told(119, search));
            }
        });
        (lease.domain.unwrap_or_default(), lease.search.join(" "))
    };
    let both = |domain: &str, search: &str| (domain.to_owned(), search.to_owned());
    assert_eq!(names("a.example\0", b""), both("a.example", ""));
    assert_eq!(names("a.example b.example", b""), both("a.example", "a.example b.example"));
    assert_eq!(names("a\nnameserver 10.0.0.9", b""), both("a", "a nameserver 10.0.0.9"));
    // The second name is the first one's end (RFC 1035, 4.1.4).
    let search = b"\x01b\x07example\0\x01c\xc0\x02";
    assert_eq!(names("", search), both("", "b.example c.example"));
    // One that points behind the end, and a label with a blank in it.
    for odd in [&b"\x01b\xc0\x0f"[..], b"\x03a b\0"] {
        assert_eq!(names("", odd), both("", ""), "{odd:?}");
    }
}

/// Option 119: a name may go on where another one stands, and two bytes say where.
#[test]
fn names_whose_pointers_loop_have_an_end() {
    let search = |value: &[u8]| {
        let lease = lease(|ack| {
            ack.opts_mut().insert(told(119, value));
        });
        lease.search
    };
    // To itself, with a label before or without, and as often as an option has room for.
    assert_eq!(search(b"\xc0\x00"), [""; 0]);
    assert_eq!(search(b"\x01b\xc0\x00"), [""; 0]);
    assert_eq!(search(&b"\xc0\x00".repeat(127)), [""; 0]);
    // To each other.
    assert_eq!(search(b"\xc0\x02\xc0\x00"), [""; 0]);
    assert_eq!(search(b"\x01a\xc0\x04\x01b\xc0\x00"), [""; 0]);
    // What stands before it is read.
    assert_eq!(search(b"\x01b\x07example\0\x01c\xc0\x0b"), ["b.example"]);
}

#[test]
fn a_subnet_is_that_of_the_class_where_the_server_has_none() {
    let prefix = |address: [u8; 4]| {
        lease(|ack| {
            ack.set_yiaddr(address);
            ack.opts_mut().remove(OptionCode::SubnetMask);
        })
        .prefix
    };
    assert_eq!(
        [prefix([10, 7, 0, 5]), prefix([172, 16, 0, 5]), prefix([192, 168, 0, 5])],
        [8, 16, 24]
    );
}
