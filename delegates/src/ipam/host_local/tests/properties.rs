//! What holds over any course of events.

use std::{collections::HashMap, time::Instant};

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Add(u8),
    Ask(u8, u8),
    Del(u8),
    Reboot,
    Gc(Vec<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..24u8).prop_map(Event::Add),
        2 => (0..24u8, 0..40u8).prop_map(|(id, host)| Event::Ask(id, host)),
        4 => (0..24u8).prop_map(Event::Del),
        1 => Just(Event::Reboot),
        1 => vec(0..24u8, 0..12).prop_map(Event::Gc),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_given_twice_none_is_a_gateway_and_all_are_in_range(events in vec(event(), 1..80)) {
        let mut disk = Disk::new();
        let ipam = json!({"ranges": [[
            {"subnet": "10.1.0.0/27", "rangeStart": "10.1.0.3", "rangeEnd": "10.1.0.12", "gateway": "10.1.0.7"},
            {"subnet": "10.1.0.32/29"},
        ]]});
        let allowed = |host: u8| matches!(host, 3..=6 | 8..=12 | 34..=38);
        // Who runs now, with which address.
        let mut running: HashMap<u8, String> = HashMap::new();
        for event in events {
            match event {
                Event::Add(id) | Event::Ask(id, _) => {
                    let ask = match event {
                        Event::Ask(_, host) => format!("IP=10.1.0.{host}"),
                        _ => String::new(),
                    };
                    match disk.add_with(&ipam, &format!("c{id}"), &ask) {
                        Ok(addresses) => {
                            let address = addresses[0].split('/').next().unwrap().to_owned();
                            let host = address.rsplit('.').next().unwrap().parse().unwrap();
                            prop_assert!(allowed(host), "{address}");
                            prop_assert!(!running.values().any(|other| *other == address), "{address}");
                            prop_assert!(running.insert(id, address).is_none(), "c{id} had one");
                        }
                        Err(error) if error.msg.contains("duplicate") => {
                            prop_assert!(running.contains_key(&id), "{error}");
                        }
                        Err(error) if error.msg.contains("no free address") => {
                            prop_assert_eq!(running.len(), 14, "{}", error);
                        }
                        Err(error) => prop_assert!(!ask.is_empty(), "{error}"),
                    }
                }
                Event::Del(id) => {
                    disk.del(&format!("c{id}")).unwrap();
                    running.remove(&id);
                }
                Event::Reboot => {
                    disk.reboot();
                    running.clear();
                }
                Event::Gc(valid) => {
                    let names: Vec<_> = valid.iter().map(|id| format!("c{id}")).collect();
                    disk.gc(&names.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
                    running.retain(|id, _| valid.contains(id));
                }
            }
            let leases = disk.leases();
            for (id, address) in &running {
                let owner = leases.get(address).cloned();
                prop_assert_eq!(owner, Some(format!("c{id}\r\neth0")));
            }
            let entries = disk.root.path().join("state").is_dir().then(|| disk.index());
            prop_assert_eq!(entries.unwrap_or_default().len(), leases.len());
        }
    }
}

/// Prints what the budget of an ADD is spent on; the rest of the test is that it works at all.
#[test]
fn a_nearly_full_16_is_served() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/16");
    disk.add(&ipam, "first").unwrap();
    let leases = 58_980;
    for i in 0..leases {
        let address = std::net::Ipv4Addr::from_bits(0x0a01_0003 + i);
        fs::write(disk.lease(&address.to_string()), format!("g{i}\r\neth0")).unwrap();
    }
    let time = |what: &str, work: &dyn Fn() -> Vec<String>| {
        let start = Instant::now();
        let result = work();
        println!("{what}: {:?}", start.elapsed());
        result
    };
    let add = |id: &str| disk.add(&ipam, id).unwrap();
    time("the first ADD after the reference filled 90 % of a /16", &|| add("c1"));
    let after = time("the next ADD, over 58,980 taken addresses in a row", &|| {
        let first = disk.data_dir().join("web/last_reserved_ip.0");
        fs::write(first, "10.1.0.2").unwrap();
        add("c2")
    });
    assert_eq!(after, ["10.1.230.104/16"]);
    time("the one after it", &|| add("c3"));
    time("DEL", &|| {
        disk.del("c3").unwrap();
        Vec::new()
    });
    time("DEL again", &|| {
        disk.del("c3").unwrap();
        Vec::new()
    });
}
