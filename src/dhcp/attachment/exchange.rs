//! Speaking to servers: for each exchange a socket on the container's interface, which is closed after it.

use std::{future::Future, time::Duration};

use delegates::dhcp::{Client, Extension, Failure, Timing};

use super::{Ended, keeping::Keeping};
use crate::dhcp::{
    carrier,
    keeper::blocking,
    lease::Lease,
    place::{self, Opened},
    speaker::Speaker,
};

/// How long an interface that was just set up may take to carry packets. Then servers are asked all the same: what is lost is sent
/// again.
const CARRIER_LIMIT: Duration = Duration::from_millis(2500);

/// Why an exchange came to nothing.
pub enum Fault {
    /// A server says no.
    Refused(String),
    /// All else.
    Other(String),
}

/// Why there is none.
enum NoExchange {
    /// There is no interface any more.
    Gone,
    Fault(Fault),
}

impl From<Failure> for NoExchange {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        Self::Fault(match failure {
            Failure::Refused(_) => Fault::Refused(text),
            Failure::Unusable(_) | Failure::Silence | Failure::Io(_) => Fault::Other(text),
        })
    }
}

impl Keeping<'_> {
    /// A new lease.
    pub(super) async fn acquire(self, timing: Timing) -> Result<Result<Lease, String>, Ended> {
        let exchange = async {
            let requesting = |lease| self.attachment.request(lease);
            let opened = self.open().await?;
            self.await_carrier(&opened).await;
            Ok(self.speaker(opened).await?.acquire(timing, requesting).await?)
        };
        // What was requested by then goes back as the attachment ends, whether the answer was heard or not.
        let acquired = self.or_end(Box::pin(exchange)).await?;
        Ok(self.unless_gone(acquired)?.map_err(|fault| match fault {
            Fault::Refused(why) | Fault::Other(why) => why,
        }))
    }

    /// Whether a lease still holds.
    pub(super) async fn confirm(self, lease: &Lease) -> Result<Result<Lease, Fault>, Ended> {
        let timing = self.attachment.keeper.manner.timing;
        let exchange = async {
            let opened = self.open().await?;
            Ok(self.speaker(opened).await?.confirm(lease, timing).await?)
        };
        self.unless_gone(self.or_end(Box::pin(exchange)).await?)
    }

    /// More time for a lease.
    pub(super) async fn ask_for_more(
        self,
        lease: &Lease,
        extension: Extension,
    ) -> Result<Result<Lease, Fault>, Ended> {
        let exchange = async {
            let opened = self.open().await?;
            let speaker = self.speaker(opened).await?;
            Ok(speaker.extend(lease, extension).await?)
        };
        self.unless_gone(self.or_end(Box::pin(exchange)).await?)
    }

    /// A socket on the interface.
    async fn open(self) -> Result<Opened, NoExchange> {
        let (record, family) = (self.attachment.record().await, self.family);
        let opened = blocking(move || place::open(&record, family)).await;
        let fault = |error: chain::Error| NoExchange::Fault(Fault::Other(error.to_string()));
        opened.map_err(fault)?.ok_or(NoExchange::Gone)
    }

    /// Waits for the interface of an attachment that has just begun. One that has its lease already sends at once, and again.
    async fn await_carrier(self, opened: &Opened) {
        let record = self.attachment.record().await;
        if !opened.carries && !carrier::wait(&record, CARRIER_LIMIT).await {
            let (name, ifname) = (&self.attachment.name, &record.key.ifname);
            tracing::info!("{name}: {ifname} has no carrier; servers are asked all the same");
        }
    }

    /// Who speaks there: under the address that the interface has by now, which a later plugin may have set. Servers know the
    /// attachment by its client identifier.
    async fn speaker(self, opened: Opened) -> Result<Speaker, NoExchange> {
        let client = self.attachment.client(&self.attachment.record().await);
        let client = client.map_err(|why| NoExchange::Fault(Fault::Other(why)))?;
        let client = Client { mac: opened.socket.mac().unwrap_or(client.mac), ..client };
        Ok(Speaker::new(opened.socket, client).await.map_err(Failure::from)?)
    }

    /// An interface that is gone is the end.
    fn unless_gone<T>(self, done: Result<T, NoExchange>) -> Result<Result<T, Fault>, Ended> {
        match done {
            Ok(done) => Ok(Ok(done)),
            Err(NoExchange::Fault(fault)) => Ok(Err(fault)),
            Err(NoExchange::Gone) => {
                tracing::info!("{}: its interface is gone without DEL", self.attachment.name);
                Err(Ended)
            }
        }
    }

    /// Waits for something, unless the end comes first.
    pub(super) async fn or_end<T>(self, wait: impl Future<Output = T>) -> Result<T, Ended> {
        let mut end = self.attachment.end.subscribe();
        tokio::select! {
            biased;
            done = wait => Ok(done),
            _ = end.wait_for(|end| *end) => Err(Ended),
        }
    }
}
