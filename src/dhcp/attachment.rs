//! One attachment's lease, from its beginning to its end.
//!
//! Between exchanges with servers nothing but a timer is kept. What has begun to change the node, a record or the container's
//! interface, is always finished: only waits are broken off.

mod exchange;
mod held;

use std::{sync::Arc, time::Duration};

use chain::CniResult;
use delegates::dhcp::{self, Lease};
use tokio::{sync::watch, time::sleep};

use self::{
    exchange::Fault,
    held::{Held, Next},
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
        let held = Held::new(lease, Duration::from_secs(self.record.since));
        self.standing.send_replace(Standing::Has(Arc::new(self.result(&held.lease))));
        if !self.record.namespace_lives(&self.keeper.boot) {
            return Err(Ended);
        }
        self.or_end(sleep(after)).await?;
        match self.confirm(&held.lease).await? {
            Ok(lease) => {
                tracing::info!("{}: {} is confirmed", self.record.key, lease.address);
                Ok(Some(self.renewed(lease).await))
            }
            Err(Fault::Refused(why)) => {
                self.lose(&why).await;
                Ok(None)
            }
            Err(Fault::Other(why)) => {
                let address = held.lease.address;
                tracing::info!("{}: {address} is not confirmed yet: {why}", self.record.key);
                Ok(Some(held))
            }
        }
    }

    /// Has the lease extended, again and again; returns why it is lost in the end.
    async fn extend(&mut self, mut held: Held) -> Result<String, Ended> {
        let mut failed = false;
        loop {
            let (to, left) = match held.next() {
                Next::Wait(time) => {
                    self.or_end(sleep(time.min(LONGEST))).await?;
                    continue;
                }
                Next::Ask(to, left) => (to, left),
                Next::Over => return Ok("it has expired".to_owned()),
            };
            let patience = self.keeper.manner.timing.answer.min(left);
            match self.ask_for_more(&held.lease, to, patience).await? {
                Ok(lease) => {
                    held = self.renewed(lease).await;
                    failed = false;
                }
                Err(Fault::Refused(why)) => return Ok(why),
                Err(Fault::Other(why)) => {
                    if !std::mem::replace(&mut failed, true) {
                        let address = held.lease.address;
                        tracing::warn!("{}: {address} is not extended yet: {why}", self.record.key);
                    }
                    held.put_off(left.saturating_sub(patience));
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
        let held = Held::new(lease, uptime());
        self.record.since = held.since().as_secs();
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

    fn client(&self) -> Result<dhcp::Client, String> {
        Ask::of(&self.record)?.client(&self.record, self.keeper.manner.broadcast)
    }
}
