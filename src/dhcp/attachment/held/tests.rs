use proptest::prelude::*;
use serde_json::json;

use super::*;

const SINCE: Duration = Duration::from_secs(1000);

/// A lease of IPv4 for which chance has always the same.
fn by_chance(random: u32, end: Option<u32>, renew: Option<u32>, rebind: Option<u32>) -> Held {
    let lease = json!({
        "address": "10.7.0.50", "prefix": 24, "server": "10.7.0.1", "server_mac": "02:00:00:00:00:01",
        "lease_time": end, "renew_after": renew, "rebind_after": rebind,
    });
    let lease = Lease::V4(serde_json::from_value(lease).unwrap());
    Held::varied(lease, SINCE, &mut chance(random))
}

/// One whose times are those that the server says.
fn held(end: u32, renew: u32, rebind: u32) -> Held {
    by_chance(0, Some(end), Some(renew), Some(rebind))
}

fn of_v6(end: u32, renew: u32, rebind: u32) -> Held {
    let lease = json!({
        "address": "fd07::50", "server": [0, 1], "preferred_time": end, "lease_time": end,
        "renew_after": renew, "rebind_after": rebind,
    });
    let lease = Lease::V6(serde_json::from_value(lease).unwrap());
    Held::varied(lease, SINCE, &mut chance(0))
}

/// What is to be done, where chance varies no pause.
fn next(held: &mut Held, now: Duration) -> Next {
    held.next_at(now, &mut chance(u32::MAX / 2))
}

fn chance(random: u32) -> Random<'static> {
    Box::new(move || random)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Who is asked when, in seconds of the lease, where nobody answers: each time for as long as the daemon waits for an answer.
fn asked_in_vain(mut held: Held) -> Vec<(To, u64)> {
    let (mut now, mut asked) = (SINCE, Vec::new());
    loop {
        now += match next(&mut held, now) {
            Next::Wait(time) => time,
            Next::Ask(extension) => {
                asked.push((extension.to, (now - SINCE).as_secs_f64().round() as u64));
                extension.patience.min(secs(10))
            }
            Next::Over => return asked,
        };
    }
}

fn of(to: To, times: &[u64]) -> Vec<(To, u64)> {
    times.iter().map(|time| (to, *time)).collect()
}

#[test]
fn its_server_is_asked_from_t1_on_any_from_t2_on_and_then_it_is_over() {
    let mut held = held(3600, 1800, 3150);
    assert_eq!(next(&mut held, secs(1000)), Next::Wait(secs(1800)));
    // A clock that goes back makes no lease older.
    assert_eq!(next(&mut held, secs(0)), Next::Wait(secs(2800)));
    let ask = |held: &mut Held, now| match next(held, secs(now)) {
        Next::Ask(extension) => (extension.to, extension.elapsed),
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(&mut held, 2800), (To::Server, secs(0)));
    assert_eq!(ask(&mut held, 3600), (To::Server, secs(800)));
    assert_eq!(ask(&mut held, 4150), (To::All, secs(0)));
    assert_eq!(ask(&mut held, 4599), (To::All, secs(449)));
    assert_eq!(next(&mut held, secs(4600)), Next::Over);
    assert_eq!(next(&mut held, secs(1_000_000)), Next::Over);
}

#[test]
fn one_for_ever_is_left_alone() {
    let mut held = by_chance(u32::MAX, None, None, None);
    assert!(matches!(next(&mut held, secs(1_000_000)), Next::Wait(time) if time > secs(1 << 40)));
}

#[test]
fn who_does_not_answer_is_asked_again_when_half_of_what_is_left_has_passed_but_a_minute_at_least() {
    let server = of(To::Server, &[1800, 2475, 2812, 2981, 3066, 3126]);
    let all = of(To::All, &[3150, 3375, 3487, 3547]);
    assert_eq!(asked_in_vain(held(3600, 1800, 3150)), [server, all].concat());
    // A day.
    let server = of(To::Server, &[43_200, 59_400, 67_500, 71_550, 73_575, 74_587, 75_094, 75_347]);
    assert_eq!(asked_in_vain(held(86_400, 43_200, 75_600))[..8], server);
}

#[test]
fn of_a_short_lease_no_minute_goes_by() {
    // As short as dnsmasq has them.
    let server = of(To::Server, &[60, 83, 94]);
    let all = of(To::All, &[105, 113, 116]);
    assert_eq!(asked_in_vain(held(120, 60, 105)), [server, all].concat());
    let times = asked_in_vain(held(6, 2, 4));
    assert_eq!(times.iter().filter(|(to, _)| *to == To::Server).count(), 3, "{times:?}");
}

#[test]
fn of_ipv6_pauses_double_from_ten_seconds_on() {
    let server = of(To::Server, &[1800, 1810, 1830, 1870, 1950, 2110, 2430, 3030]);
    let all = of(To::All, &[3150, 3160, 3180, 3220, 3300, 3460]);
    assert_eq!(asked_in_vain(of_v6(3600, 1800, 3150)), [server, all].concat());
    let times = asked_in_vain(of_v6(30, 2, 12));
    assert_eq!(times[..3], of(To::Server, &[2, 5, 10]), "{times:?}");
}

#[test]
fn requests_to_the_same_are_of_one_exchange() {
    let (mut held, mut number) = (held(3600, 1800, 3150), 0);
    let mut random: Random<'_> = Box::new(move || {
        number += 1;
        number
    });
    let mut xid = |now| match held.next_at(secs(now), &mut random) {
        Next::Ask(extension) => extension.xid,
        other => panic!("{other:?}"),
    };
    let first = xid(2800);
    assert_eq!(xid(3600), first);
    assert_ne!(xid(4150), first);
}

#[test]
fn clients_that_began_together_ask_at_different_times() {
    let renewed =
        |random| match next(&mut by_chance(random, Some(3600), Some(1800), Some(3150)), SINCE) {
            Next::Wait(time) => time,
            other => panic!("{other:?}"),
        };
    assert_eq!(renewed(0), secs(1800));
    assert_eq!(renewed(u32::MAX), secs(1620));
    // By the kernel's random numbers: of so many no two are the same, but by a chance that nobody has.
    let all: std::collections::BTreeSet<_> =
        (0..200).map(|_| Held::new(held(3600, 1800, 3150).lease, SINCE).renew).collect();
    assert!(all.len() > 190, "{}", all.len());
}

proptest! {
    /// Whatever the server says and chance has: T1 before T2 before the end, a tenth early at most and never late, and it comes to
    /// its end with a pause after each request.
    #[test]
    fn times_stay_in_order(random: u32, mut times in proptest::array::uniform3(1u32..31_536_000)) {
        times.sort_unstable();
        let [renew, rebind, end] = times;
        let mut held = by_chance(random, Some(end), Some(renew), Some(rebind));
        let moment = |time: u32| SINCE + secs(time.into());
        prop_assert!(held.renew <= held.rebind && held.rebind <= held.end);
        prop_assert!(renew == rebind || held.renew < held.rebind);
        prop_assert!(held.renew <= moment(renew) && held.rebind <= moment(rebind));
        prop_assert!(held.renew >= SINCE + secs(renew.into()).mul_f64(0.899_999));
        let (mut now, mut steps) = (SINCE, 0);
        while now < held.end {
            let pause = match held.next_at(now, &mut chance(random)) {
                Next::Wait(pause) => pause,
                Next::Ask(extension) => extension.patience,
                Next::Over => Duration::ZERO,
            };
            prop_assert!(!pause.is_zero(), "{now:?}");
            (now, steps) = (now + pause, steps + 1);
        }
        prop_assert!(steps < 1000 && next(&mut held, now) == Next::Over);
    }
}
