use proptest::prelude::*;

use super::*;

/// What happens to a machine: time passes, or an answer of some kind comes, damaged in some places.
#[derive(Clone, Debug)]
enum Event {
    Wake,
    Answer { kind: u8, damage: Vec<(usize, u8)>, length: usize },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let damage = prop::collection::vec((0usize..120, any::<u8>()), 0..4);
    let kind = prop::sample::select(vec![2u8, 7, 10]);
    let answer = (kind, damage, 0usize..200).prop_map(|(kind, damage, length)| Event::Answer {
        kind,
        damage,
        length,
    });
    prop::collection::vec(prop_oneof![1 => Just(Event::Wake), 2 => answer], 0..60)
}

proptest! {
    /// It never waits into the past or beyond its end, and what it leases is a lease.
    #[test]
    fn whatever_servers_say_a_machine_comes_to_its_end(events in events(), seed: u32, state in 0u8..3) {
        let (client, old) = (client(), a_lease());
        let mut number = seed;
        let random = Box::new(move || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            number
        });
        let (mut machine, end) = match state {
            0 => (Machine::acquire(&client, Timing::default(), None, random), 208),
            1 => (Machine::release(&client, &old, false, Timing::default(), random), 10),
            _ => (Machine::extend(&client, &old, extension(To::All)), 10),
        };
        let (mut now, mut last) = (Duration::ZERO, None);
        let mut step = machine.woken(now);
        for event in events {
            let until = match step {
                Step::Send(message, until) => {
                    last = Message::decode(&mut Decoder::new(&message)).ok();
                    until
                }
                Step::Wait(until) => until,
                Step::Done(lease) => {
                    prop_assert_ne!(lease.lease_time, Some(0));
                    prop_assert!(lease.renew_after <= lease.rebind_after);
                    return Ok(());
                }
                Step::Failed(_) => return Ok(()),
            };
            prop_assert!(until > now && until <= SECOND * end, "{until:?} at {now:?}");
            step = match (event, &last) {
                (Event::Answer { kind, damage, length }, Some(last)) => {
                    let mut payload = answer(last, Kind::from(kind), SERVER, [usual()]);
                    for (place, value) in damage {
                        if let Some(byte) = payload.get_mut(place) {
                            *byte = value;
                        }
                    }
                    payload.truncate(length);
                    machine.received(&payload, now)
                }
                _ => {
                    now = until;
                    machine.woken(now)
                }
            };
        }
    }
}
