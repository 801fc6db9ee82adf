//! The client's side of the protocol (RFC 2131, figure 5), without sockets and clocks: it is told what arrives and what time
//! it is, and says what is to be sent and until when to wait. All times are counted from the beginning.

#[cfg(test)]
mod tests;

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::v4::MessageType;

use super::{Outgoing, answer::Answer, message::Exchange};
use crate::{
    dhcp::{
        Client, Extension, Failure, Lease, Random, Timing, backoff::Backoff, lease::Times,
        passed_over::PassedOver,
    },
    net::Mac,
};

type Step = crate::dhcp::Step<Outgoing, Lease>;

/// One exchange with servers.
pub struct Machine<'a> {
    client: &'a Client,
    random: Random<'a>,
    state: State<'a>,
    xid: u32,
    timing: Timing,
    backoff: Backoff,
    /// When the exchange is given up.
    end: Duration,
    /// When the machine wants to be called, whatever arrives.
    wake: Duration,
    /// Since when what is asked for now is being asked for: a lease counts from there.
    asked: Duration,
    /// For how long the client has been trying, in seconds, as messages say it; a REQUEST repeats what the DISCOVER said.
    secs: u16,
    /// What the last server refused, if one did.
    refused: Option<String>,
    /// What answers could not be used.
    passed_over: PassedOver,
}

/// The states of RFC 2131 in which something is being asked.
enum State<'a> {
    Selecting { wanted: Option<Ipv4Addr> },
    Requesting { offer: Box<Lease>, until: Duration },
    Rebooting { lease: &'a Lease },
    Extending { lease: &'a Lease, extension: Extension },
}

impl<'a> Machine<'a> {
    /// For a lease: DISCOVER, OFFER, REQUEST, ACK.
    pub fn acquire(
        client: &'a Client,
        timing: Timing,
        wanted: Option<Ipv4Addr>,
        random: Random<'a>,
    ) -> Self {
        Self::new(client, State::Selecting { wanted }, timing, timing.all, random)
    }

    /// For a lease that was had before: REQUEST, ACK.
    pub fn confirm(
        client: &'a Client,
        lease: &'a Lease,
        timing: Timing,
        random: Random<'a>,
    ) -> Self {
        let end = timing.answer.min(timing.all);
        Self::new(client, State::Rebooting { lease }, timing, end, random)
    }

    /// For more time: REQUEST once, ACK.
    pub fn extend(client: &'a Client, lease: &'a Lease, extension: Extension) -> Self {
        let Extension { xid, patience, .. } = extension;
        let state = State::Extending { lease, extension };
        Self::new(client, state, Timing::default(), patience, Box::new(move || xid))
    }

    fn new(
        client: &'a Client,
        state: State<'a>,
        timing: Timing,
        end: Duration,
        mut random: Random<'a>,
    ) -> Self {
        Self {
            client,
            state,
            xid: random(),
            random,
            timing,
            backoff: Backoff::new(&timing),
            end,
            wake: Duration::ZERO,
            asked: Duration::ZERO,
            secs: 0,
            refused: None,
            passed_over: PassedOver::default(),
        }
    }

    /// The time has come that the last step named; called first at zero.
    pub fn woken(&mut self, now: Duration) -> Step {
        if now >= self.end {
            return Step::Failed(match self.refused.take() {
                Some(why) => Failure::Refused(why),
                None => self.passed_over.failure(),
            });
        }
        if let State::Requesting { until, .. } = self.state
            && now >= until
        {
            self.start_over();
        }
        let (wait, trying) = match self.state {
            State::Extending { extension, .. } => (self.end - now, extension.elapsed + now),
            _ => (self.backoff.next((self.random)()), now),
        };
        if !matches!(self.state, State::Requesting { .. }) {
            self.secs = u16::try_from(trying.as_secs()).unwrap_or(u16::MAX);
        }
        self.send(now, wait)
    }

    /// A server's message arrived in a frame from `from`. One that is for nobody here leaves everything as it is.
    pub fn received(&mut self, payload: &[u8], from: Mac, now: Duration) -> Step {
        let Some(answer) = Answer::read(payload, self.client, self.xid) else {
            return Step::Wait(self.wake);
        };
        match answer.kind {
            MessageType::Offer => self.offered(&answer, from, now),
            MessageType::Ack => self.confirmed(&answer, from, now),
            MessageType::Nak => self.refused(&answer, now),
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

    /// The first offer of a lease that can be used is taken.
    fn offered(&mut self, answer: &Answer, from: Mac, now: Duration) -> Step {
        if !matches!(self.state, State::Selecting { .. }) {
            return Step::Wait(self.wake);
        }
        let Some(offer) = self.passed_over.usable(answer.lease(from, None)) else {
            return Step::Wait(self.wake);
        };
        let until = now + self.timing.answer;
        self.state = State::Requesting { offer: Box::new(offer), until };
        self.asked = now;
        self.backoff = Backoff::new(&self.timing);
        let wait = self.backoff.next((self.random)());
        self.send(now, wait)
    }

    fn confirmed(&mut self, answer: &Answer, from: Mac, now: Duration) -> Step {
        let known = match &self.state {
            State::Selecting { .. } => return Step::Wait(self.wake),
            State::Requesting { offer, .. } => offer.server,
            State::Rebooting { lease } | State::Extending { lease, .. } => lease.server,
        };
        let Some(mut lease) = self.passed_over.usable(answer.lease(from, Some(known))) else {
            return Step::Wait(self.wake);
        };
        let times =
            Times { end: lease.lease_time, renew: lease.renew_after, rebind: lease.rebind_after };
        let passed = now.saturating_sub(self.asked).as_secs();
        let times = times.after(u32::try_from(passed).unwrap_or(u32::MAX));
        (lease.lease_time, lease.renew_after, lease.rebind_after) =
            (times.end, times.renew, times.rebind);
        Step::Done(lease)
    }

    fn refused(&mut self, answer: &Answer, now: Duration) -> Step {
        let why = match answer.server {
            Some(server) => format!("{server}: {}", answer.refusal()),
            None => answer.refusal(),
        };
        match &self.state {
            State::Selecting { .. } => Step::Wait(self.wake),
            // Another server has not been asked.
            State::Requesting { offer, .. }
                if answer.server.is_some_and(|server| server != offer.server) =>
            {
                Step::Wait(self.wake)
            }
            State::Requesting { .. } => {
                tracing::warn!("DHCP: the server takes back what it has offered: {why}");
                self.refused = Some(why);
                self.start_over();
                // Not at once: a server that goes on like this would be asked without end.
                self.wake = self.end.min(now + self.backoff.next((self.random)()));
                Step::Wait(self.wake)
            }
            State::Rebooting { .. } | State::Extending { .. } => {
                Step::Failed(Failure::Refused(why))
            }
        }
    }

    fn start_over(&mut self) {
        self.state = State::Selecting { wanted: None };
        self.xid = (self.random)();
    }

    /// Says what is to be said in this state, and waits for an answer.
    fn send(&mut self, now: Duration, wait: Duration) -> Step {
        let exchange = Exchange { client: self.client, xid: self.xid, secs: self.secs };
        self.wake = self.end.min(now + wait);
        let message = match &self.state {
            State::Selecting { wanted } => exchange.discover(*wanted),
            State::Requesting { offer, until } => {
                self.wake = self.wake.min(*until);
                exchange.request(offer)
            }
            State::Rebooting { lease } => exchange.reboot(lease),
            State::Extending { lease, extension } => exchange.extend(lease, extension.to),
        };
        Step::Send(message, self.wake)
    }
}
