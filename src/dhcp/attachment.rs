//! One attachment's lease, from its beginning to its end.
//!
//! Between exchanges with servers nothing but a timer is kept. What has begun to change the node, a record or the container's
//! interface, is always finished: only waits are broken off.

use std::{future::Future, sync::Arc, time::Duration};

use chain::CniResult;
use delegates::dhcp::{self, Client, Failure, Lease, Link, v4};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    ask::Ask,
    farewell,
    keeper::{Keeper, Standing, blocking},
    place,
    record::{Record, uptime},
};

/// The first pause before a lost lease is asked for again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a server is given to answer who has lost a lease: then there is a pause, in which no socket is open.
const AGAIN: Duration = Duration::from_secs(30);
/// The least time between two requests for more time, where the lease leaves as much (RFC 2131, 4.4.5).
const LEAST: Duration = Duration::from_secs(60);
/// The least time between any two.
const SHORTEST: Duration = Duration::from_millis(500);

/// The longest sleep: timers stand still while the machine sleeps, and leases do not.
const LONGEST: Duration = Duration::from_secs(300);

/// How the keeping of a lease begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// With the first lease.
    New,
    /// With what is on record, which a server is to confirm after this time.
    TakenUp {
        /// Not all at once.
        after: Duration,
    },
}

/// It is not to be kept any more.
struct Ended;

/// A lease, since when its times count.
struct Held {
    lease: Lease,
    since: Duration,
}

impl Held {
    /// How long until a time of the lease; `None` where that never comes.
    fn until(&self, time: Option<u32>) -> Option<Duration> {
        let age = uptime().saturating_sub(self.since);
        time.map(|time| Duration::from_secs(time.into()).saturating_sub(age))
    }
}

/// An attachment whose lease is kept.
pub struct Attachment {
    keeper: Arc<Keeper>,
    record: Record,
    standing: watch::Sender<Standing>,
    end: watch::Receiver<bool>,
}

impl Attachment {
    /// An attachment, what is known of it, and the switch that ends it.
    pub fn new(
        keeper: Arc<Keeper>,
        record: Record,
    ) -> (Self, watch::Receiver<Standing>, watch::Sender<bool>) {
        let (standing, seen) = watch::channel(Standing::Begins);
        let (switch, end) = watch::channel(false);
        (Self { keeper, record, standing, end }, seen, switch)
    }

    /// Keeps the lease until it is to end, and gives it back then. Returns itself: as long as it is there, its place is taken.
    pub async fn live(mut self, begin: Begin) -> Self {
        let Err(Ended) = self.keep(begin).await else { return self };
        farewell::give_back(&self.record, self.client().ok()).await;
        let (records, key) = (self.keeper.records.clone(), self.record.key.clone());
        if let Err(error) = blocking(move || records.remove(&key)).await {
            tracing::warn!("{}: {error}", self.record.key);
        }
        self.standing.send_replace(Standing::Ended);
        self
    }

    /// Returns `Ok` where there was no lease in the first place.
    async fn keep(&mut self, begin: Begin) -> Result<(), Ended> {
        let mut held = match begin {
            Begin::New => match self.first().await? {
                Some(held) => Some(held),
                None => return Ok(()),
            },
            Begin::TakenUp { after } => self.take_up(after).await?,
        };
        loop {
            let lost = match held.take() {
                Some(held) => Some(self.extend(held).await?),
                // Lost already when the last daemon ended.
                None => None,
            };
            if let Some(why) = lost {
                self.lose(&why).await;
            }
            held = Some(self.again().await?);
        }
    }

    /// The first lease; `None` where there is none to be had.
    async fn first(&mut self) -> Result<Option<Held>, Ended> {
        tracing::debug!("{}: a lease is asked for", self.record.key);
        let record = self.record.clone();
        let seen = blocking(move || place::look(&record)).await;
        let leased = match seen {
            Ok(seen) => {
                (self.record.mac, self.record.uplink) = (seen.mac, seen.uplink);
                self.acquire(self.keeper.manner.timing).await?
            }
            Err(error) => Err(error.to_string()),
        };
        match leased {
            Ok(lease) => {
                let held = self.take(lease).await;
                tracing::info!(
                    "{}: has {} of {}",
                    self.record.key,
                    held.lease.address,
                    held.lease.server
                );
                Ok(Some(held))
            }
            Err(why) => {
                tracing::warn!("{}: no lease: {why}", self.record.key);
                self.standing.send_replace(Standing::Failed(why));
                Ok(None)
            }
        }
    }

    /// A lease that another daemon got (INIT-REBOOT); `None` where it was lost.
    async fn take_up(&mut self, after: Duration) -> Result<Option<Held>, Ended> {
        let Some(lease) = self.record.lease.clone() else {
            self.standing.send_replace(Standing::Lost("the lease was lost".to_owned()));
            return Ok(None);
        };
        let held = Held { lease, since: Duration::from_secs(self.record.since) };
        self.standing.send_replace(Standing::Has(Arc::new(self.result(&held.lease))));
        if !self.record.namespace_lives(&self.keeper.boot) {
            return Err(Ended);
        }
        self.or_end(sleep(after)).await?;
        let timing = self.keeper.manner.timing;
        let confirmed = self
            .unless_gone(async {
                let (client, link) = self.open().await?;
                v4::confirm(&link, &client, &held.lease, timing).await.map_err(Fault::from)
            })
            .await?;
        match confirmed {
            Ok(lease) => {
                tracing::info!("{}: {} is confirmed", self.record.key, lease.address);
                Ok(Some(self.renewed(lease).await))
            }
            Err(Fault::Refused(why)) => {
                self.lose(&why).await;
                Ok(None)
            }
            Err(Fault::Gone) => Err(Ended),
            Err(Fault::Other(why)) => {
                tracing::info!(
                    "{}: {} is not confirmed yet: {why}",
                    self.record.key,
                    held.lease.address
                );
                Ok(Some(held))
            }
        }
    }

    /// Has the lease extended, again and again; returns why it is lost in the end.
    async fn extend(&mut self, mut held: Held) -> Result<String, Ended> {
        let mut failed = false;
        loop {
            let Some(left) = held.until(held.lease.lease_time) else {
                // For ever.
                self.or_end(std::future::pending::<()>()).await?;
                continue;
            };
            if left.is_zero() {
                return Ok("it has expired".to_owned());
            }
            let renew = held.until(held.lease.renew_after).unwrap_or_default();
            if !renew.is_zero() {
                self.or_end(sleep(renew.min(LONGEST))).await?;
                continue;
            }
            let rebind = held.until(held.lease.rebind_after).unwrap_or_default();
            let (to, phase) = match rebind.is_zero() {
                true => (v4::To::All, left),
                false => (v4::To::Server, rebind),
            };
            let patience = self.keeper.manner.timing.answer.min(phase);
            let extended = self
                .unless_gone(async {
                    let (client, link) = self.open().await?;
                    v4::extend(&link, &client, &held.lease, to, Instant::now() + patience)
                        .await
                        .map_err(Fault::from)
                })
                .await?;
            match extended {
                Ok(lease) => {
                    held = self.renewed(lease).await;
                    failed = false;
                }
                Err(Fault::Refused(why)) => return Ok(why),
                Err(Fault::Gone) => return Err(Ended),
                Err(Fault::Other(why)) => {
                    if !std::mem::replace(&mut failed, true) {
                        let address = held.lease.address;
                        tracing::warn!("{}: {address} is not extended yet: {why}", self.record.key);
                    }
                    let phase = phase.saturating_sub(patience);
                    let pause = (phase / 2).max(LEAST.min(phase)).max(SHORTEST);
                    self.or_end(sleep(pause.min(LONGEST))).await?;
                }
            }
        }
    }

    /// Another lease for one that was lost, however long that takes.
    async fn again(&mut self) -> Result<Held, Ended> {
        let mut timing = self.keeper.manner.timing;
        timing.all = timing.all.min(AGAIN);
        let mut pause = FIRST_PAUSE;
        loop {
            match self.acquire(timing).await? {
                Ok(lease) => {
                    let old = CniResult::default();
                    let held = self.changed(&old, lease).await;
                    let (address, server) = (held.lease.address, held.lease.server);
                    tracing::info!("{}: has {address} of {server} now", self.record.key);
                    return Ok(held);
                }
                Err(why) => {
                    tracing::warn!("{}: still no lease: {why}", self.record.key);
                    self.or_end(sleep(pause.min(timing.pause))).await?;
                    pause = pause.saturating_mul(2).min(timing.pause);
                }
            }
        }
    }

    /// The address is not the container's any more.
    async fn lose(&mut self, why: &str) {
        let Some(lease) = self.record.lease.take() else { return };
        let why = format!("the lease of {} is lost: {why}", lease.address);
        tracing::warn!("{}: {why}", self.record.key);
        self.standing.send_replace(Standing::Lost(why));
        self.configure(self.result(&lease), CniResult::default()).await;
        self.write().await;
    }

    /// A lease that was extended: what has changed is changed on the interface.
    async fn renewed(&mut self, lease: Lease) -> Held {
        let old = self.record.lease.as_ref().map(|lease| self.result(lease)).unwrap_or_default();
        tracing::debug!("{}: {} is extended", self.record.key, lease.address);
        self.changed(&old, lease).await
    }

    async fn changed(&mut self, old: &CniResult, lease: Lease) -> Held {
        let new = self.result(&lease);
        if (&old.ips, &old.routes) != (&new.ips, &new.routes) {
            tracing::info!(
                "{}: the lease is of {} now, and the interface follows",
                self.record.key,
                lease.address
            );
            self.configure(old.clone(), new).await;
        }
        self.take(lease).await
    }

    /// From now on this is the lease.
    async fn take(&mut self, lease: Lease) -> Held {
        let result = self.result(&lease);
        let held = Held { lease, since: uptime() };
        self.record.since = held.since.as_secs();
        self.record.lease = Some(held.lease.clone());
        self.write().await;
        self.standing.send_replace(Standing::Has(Arc::new(result)));
        held
    }

    async fn configure(&self, old: CniResult, new: CniResult) {
        let record = self.record.clone();
        if let Err(error) = blocking(move || place::configure(&record, &old, &new)).await {
            tracing::warn!("{}: the interface does not follow the lease: {error}", self.record.key);
        }
    }

    async fn write(&self) {
        let (records, record) = (self.keeper.records.clone(), self.record.clone());
        if let Err(error) = blocking(move || records.write(&record)).await {
            tracing::warn!("{}: the lease is not on record: {error}", self.record.key);
        }
    }

    fn result(&self, lease: &Lease) -> CniResult {
        dhcp::result(lease, Ask::of(&self.record).ok().and_then(|ask| ask.priority))
    }

    fn client(&self) -> Result<Client, String> {
        Ask::of(&self.record)?.client(&self.record, self.keeper.manner.broadcast)
    }

    async fn acquire(&mut self, timing: dhcp::Timing) -> Result<Result<Lease, String>, Ended> {
        let acquired = self.unless_gone(async {
            let (client, link) = self.open().await?;
            v4::acquire(&link, &client, timing, None).await.map_err(Fault::from)
        });
        Ok(acquired.await?.map_err(|fault| match fault {
            Fault::Refused(why) | Fault::Other(why) => why,
            Fault::Gone => "its interface is gone".to_owned(),
        }))
    }

    /// A socket on the interface, to be closed as soon as it has served.
    async fn open(&self) -> Result<(Client, Link), Fault> {
        let client = self.client().map_err(Fault::Other)?;
        let record = self.record.clone();
        let socket = blocking(move || place::socket(&record)).await;
        let socket = socket.map_err(|error| Fault::Other(error.to_string()))?;
        let socket = socket.ok_or(Fault::Gone)?;
        let link = Link::new(socket).map_err(|error| Fault::Other(error.to_string()))?;
        Ok((client, link))
    }

    /// Speaks to a server, unless the end comes first, or the interface is gone: that is the end as well.
    async fn unless_gone<T>(
        &self,
        exchange: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Result<T, Fault>, Ended> {
        match self.or_end(exchange).await? {
            Err(Fault::Gone) => {
                tracing::info!("{}: its interface is gone without DEL", self.record.key);
                Err(Ended)
            }
            done => Ok(done),
        }
    }

    /// Waits for something, unless the end comes first.
    async fn or_end<T>(&self, wait: impl Future<Output = T>) -> Result<T, Ended> {
        let mut end = self.end.clone();
        tokio::select! {
            biased;
            _ = end.wait_for(|end| *end) => Err(Ended),
            done = wait => Ok(done),
        }
    }
}

/// Why an exchange came to nothing.
enum Fault {
    /// A server says no.
    Refused(String),
    /// There is no interface any more.
    Gone,
    /// All else.
    Other(String),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(_) => Self::Refused(failure.to_string()),
            Failure::Silence | Failure::Io(_) => Self::Other(failure.to_string()),
        }
    }
}
