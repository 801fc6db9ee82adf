//! A lease and its times: when which server is asked for more.

use std::time::Duration;

use delegates::dhcp::v4::To;

use crate::dhcp::{
    lease::{Lease, Times},
    record::uptime,
};

/// The least time between two requests for more time, where the lease leaves as much (RFC 2131, 4.4.5).
const LEAST: Duration = Duration::from_secs(60);
/// The least time between any two.
const SHORTEST: Duration = Duration::from_millis(500);

/// A lease, since when its times count.
pub struct Held {
    pub lease: Lease,
    since: Duration,
    /// No server is asked before.
    not_before: Duration,
}

/// What is to be done with a lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing for this time.
    Wait(Duration),
    /// To ask for more time; this is left until somebody else is to be asked, or all of it is over.
    Ask(To, Duration),
    /// To take the address off the interface.
    Over,
}

impl Held {
    /// A lease whose times count from this moment of the boot.
    pub fn new(lease: Lease, since: Duration) -> Self {
        Self { lease, since, not_before: Duration::ZERO }
    }

    /// From when its times count.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// What is to be done now.
    pub fn next(&self) -> Next {
        self.next_at(uptime())
    }

    fn next_at(&self, now: Duration) -> Next {
        let until = |time: Option<u32>| {
            let time = time.map(|time| self.since + Duration::from_secs(time.into()));
            time.map_or(Duration::MAX, |time| time.saturating_sub(now))
        };
        let Times { end, renew, rebind } = self.lease.times();
        let (over, renew, rebind) = (until(end), until(renew), until(rebind));
        let put_off = self.not_before.saturating_sub(now);
        if over.is_zero() {
            Next::Over
        } else if !renew.is_zero() {
            Next::Wait(renew)
        } else if !put_off.is_zero() {
            Next::Wait(put_off.min(over))
        } else if !rebind.is_zero() {
            Next::Ask(To::Server, rebind)
        } else {
            Next::Ask(To::All, over)
        }
    }

    /// Nobody has answered, and this is left: half of it goes by before the next attempt, but at least a minute.
    pub fn put_off(&mut self, left: Duration) {
        self.put_off_at(uptime(), left);
    }

    fn put_off_at(&mut self, now: Duration, left: Duration) {
        self.not_before = now + (left / 2).max(LEAST.min(left)).max(SHORTEST);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(end: Option<u32>, renew: Option<u32>, rebind: Option<u32>) -> Held {
        let lease = json!({
            "address": "10.7.0.50", "prefix": 24, "server": "10.7.0.1", "server_mac": "02:00:00:00:00:01",
            "lease_time": end, "renew_after": renew, "rebind_after": rebind,
        });
        Held::new(Lease::V4(serde_json::from_value(lease).unwrap()), secs(1000))
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn its_server_is_asked_from_t1_on_any_from_t2_on_and_then_it_is_over() {
        let held = held(Some(3600), Some(1800), Some(3150));
        assert_eq!(held.next_at(secs(1000)), Next::Wait(secs(1800)));
        // A clock that goes back makes no lease older.
        assert_eq!(held.next_at(secs(0)), Next::Wait(secs(2800)));
        assert_eq!(held.next_at(secs(2800)), Next::Ask(To::Server, secs(1350)));
        assert_eq!(held.next_at(secs(4150)), Next::Ask(To::All, secs(450)));
        assert_eq!(held.next_at(secs(4599)), Next::Ask(To::All, secs(1)));
        assert_eq!(held.next_at(secs(4600)), Next::Over);
        assert_eq!(held.next_at(secs(1_000_000)), Next::Over);
    }

    #[test]
    fn one_for_ever_is_left_alone() {
        assert_eq!(held(None, None, None).next_at(secs(1_000_000)), Next::Wait(Duration::MAX));
    }

    #[test]
    fn who_does_not_answer_is_asked_again_after_half_of_what_is_left() {
        let mut held = held(Some(3600), Some(1800), Some(3150));
        for (now, left, wait) in [(2800, 1350, 675), (3500, 100, 60), (3600, 40, 40)] {
            held.put_off_at(secs(now), secs(left));
            assert_eq!(held.next_at(secs(now)), Next::Wait(secs(wait)));
        }
        // However little is left.
        held.put_off_at(secs(4590), secs(0));
        assert_eq!(held.next_at(secs(4590)), Next::Wait(SHORTEST));
        held.put_off_at(secs(4590), secs(1000));
        assert_eq!(held.next_at(secs(4590)), Next::Wait(secs(10)), "not beyond its end");
    }
}
