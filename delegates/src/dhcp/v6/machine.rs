//! The client's side of the protocol (RFC 8415, 15 and 18.2), without sockets and clocks: it is told what arrives and what
//! time it is, and says what is to be sent and until when to wait. All times are counted from the beginning.

mod retransmission;
#[cfg(test)]
mod tests;

use std::{net::Ipv6Addr, time::Duration};

use dhcproto::v6::{MessageType, Status};

pub use self::retransmission::Retransmission;
use super::{Client, Lease, answer::Answer, message::message};
use crate::dhcp::{
    Extension, Failure, Random, Timing, lease::Times, passed_over::PassedOver, v4::To,
};

type Step = crate::dhcp::Step<Vec<u8>, Lease>;

/// What a server that is to be chosen at once says of itself (RFC 8415, 18.2.1).
const AT_ONCE: u8 = 255;

/// One exchange with servers, or several one after the other.
pub struct Machine<'a> {
    client: &'a Client,
    random: Random<'a>,
    state: State<'a>,
    timing: Timing,
    xid: [u8; 3],
    /// When the message is repeated, if it is.
    retransmission: Option<Retransmission>,
    /// For how long the same was asked for before.
    elapsed: Duration,
    /// When it is given up.
    end: Duration,
    /// When the machine wants to be called, whatever arrives.
    wake: Duration,
    /// Since when this is being asked: messages say for how long, and a lease counts from there.
    asked: Duration,
    /// What the last server refused, if one did.
    refused: Option<String>,
    /// What answers could not be used.
    passed_over: PassedOver,
}

enum State<'a> {
    /// Servers say what they have; the best of it is remembered with the server's preference.
    Soliciting {
        wanted: Option<Ipv6Addr>,
        best: Option<(u8, Box<Lease>)>,
    },
    Requesting {
        offer: Box<Lease>,
        until: Duration,
    },
    Extending {
        lease: &'a Lease,
        to: To,
    },
    Releasing {
        lease: &'a Lease,
        is_taken: bool,
    },
}

impl<'a> Machine<'a> {
    /// For a lease: SOLICIT, ADVERTISE, REQUEST, REPLY.
    pub fn acquire(
        client: &'a Client,
        timing: Timing,
        wanted: Option<Ipv6Addr>,
        random: Random<'a>,
    ) -> Self {
        let state = State::Soliciting { wanted, best: None };
        Self::new(client, state, timing, timing.all, random)
    }

    /// For a lease that was had before: RENEW, REPLY.
    pub fn confirm(
        client: &'a Client,
        lease: &'a Lease,
        timing: Timing,
        random: Random<'a>,
    ) -> Self {
        let end = timing.answer.min(timing.all);
        Self::new(client, State::Extending { lease, to: To::Server }, timing, end, random)
    }

    /// For more time: RENEW or REBIND once, REPLY.
    pub fn extend(client: &'a Client, lease: &'a Lease, extension: Extension) -> Self {
        let Extension { to, xid, elapsed, patience } = extension;
        let (state, timing) = (State::Extending { lease, to }, Timing::default());
        let machine = Self::new(client, state, timing, patience, Box::new(move || xid));
        Self { retransmission: None, elapsed, ..machine }
    }

    /// To give a lease back: RELEASE, REPLY; where another host has taken its address DECLINE, REPLY. It ends with the lease that
    /// is none any more.
    pub fn release(
        client: &'a Client,
        lease: &'a Lease,
        is_taken: bool,
        timing: Timing,
        random: Random<'a>,
    ) -> Self {
        let end = timing.answer.min(timing.all);
        Self::new(client, State::Releasing { lease, is_taken }, timing, end, random)
    }

    fn new(
        client: &'a Client,
        state: State<'a>,
        timing: Timing,
        end: Duration,
        random: Random<'a>,
    ) -> Self {
        let mut machine = Self {
            client,
            random,
            state,
            timing,
            xid: [0; 3],
            retransmission: Some(Retransmission::new(timing.pause)),
            elapsed: Duration::ZERO,
            end,
            wake: Duration::ZERO,
            asked: Duration::ZERO,
            refused: None,
            passed_over: PassedOver::default(),
        };
        machine.begin_exchange(Duration::ZERO);
        machine
    }

    /// The time has come that the last step named; called first at zero.
    pub fn woken(&mut self, now: Duration) -> Step {
        if now >= self.end {
            return Step::Failed(match self.refused.take() {
                Some(why) => Failure::Refused(why),
                None => self.passed_over.failure(),
            });
        }
        match &mut self.state {
            State::Soliciting { best, .. } => {
                if let Some((_, offer)) = best.take() {
                    return self.request(offer, now);
                }
            }
            State::Requesting { until, .. } if now >= *until => self.start_over(now),
            _ => {}
        }
        self.send(now)
    }

    /// A message arrived. One that is for nobody here leaves everything as it is.
    pub fn received(&mut self, payload: &[u8], now: Duration) -> Step {
        let Some(answer) = Answer::read(payload, self.client, self.xid) else {
            return Step::Wait(self.wake);
        };
        match (answer.kind, &self.state) {
            (MessageType::Advertise, State::Soliciting { .. }) => self.advertised(&answer, now),
            (MessageType::Reply, State::Releasing { lease, .. }) => Step::Done((*lease).clone()),
            (MessageType::Reply, State::Requesting { .. } | State::Extending { .. }) => {
                self.replied(&answer, now)
            }
            _ => Step::Wait(self.wake),
        }
    }

    /// What was offered and is being requested.
    pub fn requested(&self) -> Option<&Lease> {
        match &self.state {
            State::Requesting { offer, .. } => Some(offer),
            _ => None,
        }
    }

    /// What servers have is collected until the first message would be repeated; afterwards the first that comes is taken.
    fn advertised(&mut self, answer: &Answer<'_>, now: Duration) -> Step {
        if let Some((status, why)) = answer.status() {
            self.refused = Some(said(status, &why));
            return Step::Wait(self.wake);
        }
        let State::Soliciting { wanted, best } = &mut self.state else {
            return Step::Wait(self.wake);
        };
        let Some(offer) = self.passed_over.usable(answer.lease(*wanted)) else {
            return Step::Wait(self.wake);
        };
        let preference = answer.preference();
        let is_late = self.retransmission.as_ref().is_some_and(|messages| !messages.is_first());
        if preference == AT_ONCE || is_late {
            return self.request(Box::new(offer), now);
        }
        if best.as_ref().is_none_or(|(other, _)| *other < preference) {
            *best = Some((preference, Box::new(offer)));
        }
        Step::Wait(self.wake)
    }

    fn replied(&mut self, answer: &Answer<'_>, now: Duration) -> Step {
        let (wanted, server) = match &self.state {
            State::Requesting { offer, .. } => (offer.address, Some(&offer.server)),
            State::Extending { lease, to: To::Server } => (lease.address, Some(&lease.server)),
            State::Extending { lease, to: To::All } => (lease.address, None),
            _ => return Step::Wait(self.wake),
        };
        if server.is_some_and(|server| server != answer.server) {
            return Step::Wait(self.wake);
        }
        match (answer.status(), &self.state) {
            // It is busy, or does not know: it is to be asked again (RFC 8415, 18.2.10). A lease is not lost by that.
            (Some((Status::UnspecFail, _)), State::Extending { .. }) => {
                return Step::Wait(self.wake);
            }
            (Some((Status::UnspecFail, why)), _) => {
                self.refused = Some(said(Status::UnspecFail, &why));
                return Step::Wait(self.wake);
            }
            (Some((status, why)), State::Extending { .. }) => {
                return Step::Failed(Failure::Refused(said(status, &why)));
            }
            (Some((status, why)), _) => {
                tracing::warn!(
                    "DHCPv6: the server takes back what it has offered: {status:?} {why}"
                );
                self.refused = Some(said(status, &why));
                let pause = self.pause();
                self.start_over(now);
                // Not at once: a server that goes on like this would be asked without end.
                self.wake = self.end.min(now + pause);
                return Step::Wait(self.wake);
            }
            (None, State::Extending { lease, .. }) if answer.ends(lease.address) => {
                return Step::Failed(Failure::Refused(format!("it ends {}", lease.address)));
            }
            (None, _) => {}
        }
        let Some(mut lease) = self.passed_over.usable(answer.lease(Some(wanted))) else {
            return Step::Wait(self.wake);
        };
        let times =
            Times { end: lease.lease_time, renew: lease.renew_after, rebind: lease.rebind_after };
        let passed = now.saturating_sub(self.asked).as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let times = times.after(passed);
        (lease.lease_time, lease.renew_after, lease.rebind_after) =
            (times.end, times.renew, times.rebind);
        lease.preferred_time = lease.preferred_time.map(|time| time.saturating_sub(passed));
        Step::Done(lease)
    }

    fn request(&mut self, offer: Box<Lease>, now: Duration) -> Step {
        self.state = State::Requesting { offer, until: now + self.timing.answer };
        self.retransmission = Some(Retransmission::new(self.timing.pause));
        self.begin_exchange(now);
        self.send(now)
    }

    fn start_over(&mut self, now: Duration) {
        self.state = State::Soliciting { wanted: None, best: None };
        self.begin_exchange(now);
    }

    fn begin_exchange(&mut self, now: Duration) {
        let [_, xid @ ..] = (self.random)().to_be_bytes();
        (self.xid, self.asked) = (xid, now);
    }

    /// How long to wait until the message is repeated: until the end where it is not.
    fn pause(&mut self) -> Duration {
        match &mut self.retransmission {
            Some(retransmission) => retransmission.next((self.random)()),
            None => self.end,
        }
    }

    /// Says what is to be said in this state, and waits for an answer.
    fn send(&mut self, now: Duration) -> Step {
        let wait = self.pause();
        self.wake = self.end.min(now + wait);
        let (kind, server, address) = match &self.state {
            State::Soliciting { wanted, .. } => (MessageType::Solicit, None, *wanted),
            State::Requesting { offer, until } => {
                self.wake = self.wake.min(*until);
                (MessageType::Request, Some(&offer.server), Some(offer.address))
            }
            State::Extending { lease, to: To::Server } => {
                (MessageType::Renew, Some(&lease.server), Some(lease.address))
            }
            State::Extending { lease, to: To::All } => {
                (MessageType::Rebind, None, Some(lease.address))
            }
            State::Releasing { lease, is_taken } => {
                let kind = if *is_taken { MessageType::Decline } else { MessageType::Release };
                (kind, Some(&lease.server), Some(lease.address))
            }
        };
        let elapsed = self.elapsed + now.saturating_sub(self.asked);
        let server = server.map(Vec::as_slice);
        let message = message(self.client, kind, self.xid, elapsed, server, address);
        Step::Send(message, self.wake)
    }
}

fn said(status: Status, why: &str) -> String {
    if why.is_empty() { format!("{status:?}") } else { format!("{status:?}: {why}") }
}
