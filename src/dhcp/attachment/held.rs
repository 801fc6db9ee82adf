//! A lease and its times: when which server is asked for more.

#[cfg(test)]
mod tests;

use std::time::Duration;

use delegates::dhcp::{Extension, Family, Random, random, v4::To, v6::Retransmission, vary};

use crate::dhcp::{
    lease::{Lease, Times},
    record::uptime,
};

/// The least time between two requests for more time (RFC 2131, 4.4.5), unless all that there is for them is short.
const LEAST: Duration = Duration::from_secs(60);
/// The share of a time by which it may come earlier.
const EARLIER: f64 = 0.1;

/// A lease, since when its times count.
pub struct Held {
    pub lease: Lease,
    since: Duration,
    /// T1, T2 and the end, in this boot's time.
    ///
    /// T1 and T2 come up to a tenth earlier than the server says, by chance: clients that began together do not go on together, as
    /// RFC 2131 (4.4.5) wants it.
    renew: Duration,
    rebind: Duration,
    end: Duration,
    /// How far one got with asking for more time.
    asking: Option<Asking>,
}

/// Somebody was asked for more time, and has not answered yet.
struct Asking {
    to: To,
    xid: u32,
    /// When the first request was sent, and when the next one will be.
    first: Duration,
    next: Duration,
    /// By which that goes in IPv6.
    retransmission: Retransmission,
}

/// What is to be done with a lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing for this time.
    Wait(Duration),
    /// To ask for more time, now and once. When that has come to nothing it is to be asked what is next.
    Ask(Extension),
    /// To take the address off the interface.
    Over,
}

impl Held {
    /// A lease whose times count from this moment of the boot.
    pub fn new(lease: Lease, since: Duration) -> Self {
        Self::varied(lease, since, &mut random::of_kernel())
    }

    fn varied(lease: Lease, since: Duration, random: &mut Random<'_>) -> Self {
        let Times { end, renew, rebind } = lease.times();
        let seconds = |time: u32| Duration::from_secs(time.into());
        // T2 by a tenth of what is between the two, so that it stays behind T1.
        let mut varied = |time: Option<u32>, from: u32| {
            let by = f64::from(random()) / f64::from(u32::MAX) * EARLIER;
            let earlier = |time: u32| seconds(time.saturating_sub(from)).mul_f64(by);
            time.map_or(Duration::MAX, |time| since + seconds(time) - earlier(time))
        };
        let moments = (varied(renew, 0), varied(rebind, renew.unwrap_or_default()));
        let end = end.map_or(Duration::MAX, |end| since + seconds(end));
        Self { lease, since, renew: moments.0, rebind: moments.1, end, asking: None }
    }

    /// From when its times count.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// What is to be done now.
    pub fn next(&mut self) -> Next {
        self.next_at(uptime(), &mut random::of_kernel())
    }

    fn next_at(&mut self, now: Duration, random: &mut Random<'_>) -> Next {
        if now >= self.end {
            return Next::Over;
        }
        if now < self.renew {
            return Next::Wait(self.renew - now);
        }
        let (to, begin, end) = match now < self.rebind {
            true => (To::Server, self.renew, self.rebind),
            false => (To::All, self.rebind, self.end),
        };
        let asking = self.asking.take().filter(|asking| asking.to == to);
        let mut asking = asking.unwrap_or_else(|| Asking {
            to,
            xid: random(),
            first: now,
            next: now,
            retransmission: Retransmission::of_extension(end - begin),
        });
        let next = if now < asking.next {
            Next::Wait(asking.next - now)
        } else {
            let pause = self.pause(&mut asking, end - now, end - begin, random());
            asking.next = end.min(now + pause);
            Next::Ask(Extension {
                to,
                xid: asking.xid,
                elapsed: now - asking.first,
                patience: asking.next - now,
            })
        };
        self.asking = Some(asking);
        next
    }

    /// How long it takes from a request to the next one, where this of all the time for requests is left.
    fn pause(&self, asking: &mut Asking, left: Duration, all: Duration, random: u32) -> Duration {
        match self.lease.family() {
            Family::V4 => {
                // Of little time no minute is to go by: a request that is lost would cost all of it.
                let least = LEAST.min(all / 4);
                vary(left / 2, least / 8, random).max(least)
            }
            Family::V6 => asking.retransmission.next(random),
        }
    }
}
