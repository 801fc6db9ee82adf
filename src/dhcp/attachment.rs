//! One attachment's leases, one of each family, from their beginning to their end.
//!
//! Between exchanges with servers nothing but timers is kept. What has begun to change the node, a record or the container's
//! interface, is always finished: only waits are broken off.
//!
//! Exchanges, and the keeping of a family's lease, are boxed: else each attachment's task would have room for all that may be waited
//! for, of both families, for as long as it lives.

mod exchange;
mod held;
mod keeping;
mod whole;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use chain::CniResult;
use delegates::dhcp::{self, Family};
use tokio::sync::{Mutex, watch};

pub use self::keeping::Begin;
use self::{held::Held, keeping::Keeping};
use super::{
    ask::Ask,
    farewell,
    keeper::{Keeper, Standing, blocking},
    lease::{Lease, joined},
    place,
    record::{Leases, Record, uptime},
};

/// It is not to be kept any more.
struct Ended;

/// An attachment whose leases are kept.
pub struct Attachment {
    keeper: Arc<Keeper>,
    /// How it is named in the log.
    name: String,
    ask: Result<Ask, String>,
    /// The interface's number, once it was looked at.
    pub ifindex: Arc<OnceLock<u32>>,
    /// Held while the record is written, so that what was written last is the newest.
    state: Arc<Mutex<State>>,
    standing: watch::Sender<Standing>,
    end: watch::Sender<bool>,
}

struct State {
    record: Record,
    /// What servers were asked for last, and may have leased by now.
    requested: Leases,
    /// Why a family has no lease any more.
    lost: BTreeMap<Family, String>,
}

impl State {
    /// The record, with all that servers may have leased.
    fn with_requested(&self) -> Record {
        let mut record = self.record.clone();
        for family in Family::ALL {
            if record.leases.of(family).is_none()
                && let Some((lease, since)) = self.requested.of(family)
            {
                record.leases.put(lease, since);
            }
        }
        record
    }

    fn put(&mut self, lease: Lease, since: Duration) {
        self.requested.take(lease.family());
        self.record.leases.put(lease, since);
    }
}

impl Attachment {
    /// An attachment, what is known of it, and the switch that ends it.
    pub fn new(
        keeper: Arc<Keeper>,
        record: Record,
    ) -> (Self, watch::Receiver<Standing>, watch::Sender<bool>) {
        let (standing, seen) = watch::channel(Standing::Begins);
        let (end, _) = watch::channel(false);
        let (name, ask) = (record.key.to_string(), Ask::of(&record));
        let ifindex = Arc::new(record.ifindex.map_or_else(OnceLock::new, OnceLock::from));
        let state = State { record, requested: Leases::default(), lost: BTreeMap::new() };
        let state = Arc::new(Mutex::new(state));
        (Self { keeper, name, ask, ifindex, state, standing, end: end.clone() }, seen, end)
    }

    /// Keeps the leases until they are to end, and gives them back then. Returns itself: as long as it is there, its place is
    /// taken.
    pub async fn live(self, begin: Begin) -> Self {
        let kept = self.keep(begin).await;
        let record = self.state.lock().await.with_requested();
        Box::pin(farewell::give_back(&record, self.client(&record).ok())).await;
        let records = self.keeper.records.clone();
        if let Err(error) = blocking(move || records.remove(&record.key)).await {
            tracing::warn!("{}: {error}", self.name);
        }
        self.standing.send_replace(match kept {
            Ok(()) => Standing::Ended,
            Err(why) => {
                tracing::warn!("{}: no lease: {why}", self.name);
                Standing::Failed(why)
            }
        });
        self
    }

    /// Returns when it is to end; the error says why it could not begin.
    async fn keep(&self, begin: Begin) -> Result<(), String> {
        if *self.end.borrow() {
            return Ok(());
        }
        let families = self.families()?;
        if matches!(begin, Begin::New) {
            tracing::debug!("{}: a lease is asked for", self.name);
        }
        if self.record().await.mac.is_empty() {
            self.look(families.clone()).await?;
        }
        let keep = async |family| {
            if !families.contains(&family) {
                return Ok(());
            }
            let kept = Box::pin(Keeping { attachment: self, family }.keep(begin)).await;
            // One without the other is not what was asked for.
            self.end.send_replace(true);
            kept.map_err(|why| if families.len() > 1 { format!("{family}: {why}") } else { why })
        };
        let (v4, v6) = tokio::join!(keep(Family::V4), keep(Family::V6));
        v4.and(v6)
    }

    async fn look(&self, families: Vec<Family>) -> Result<(), String> {
        let record = self.record().await;
        let seen = blocking(move || place::look(&record, &families)).await;
        let seen = seen.map_err(|error| error.to_string())?;
        let record = &mut self.state.lock().await.record;
        record.ifindex = Some(*self.ifindex.get_or_init(|| seen.ifindex));
        (record.mac, record.uplink) = (seen.mac, seen.uplink);
        Ok(())
    }

    /// The address of a family is not the container's any more.
    async fn lose(&self, family: Family, why: &str) {
        let Some((lease, _)) = self.record().await.leases.of(family) else { return };
        let why = format!("the lease of {} is lost: {why}", lease.address());
        tracing::warn!("{}: {why}", self.name);
        let old = self.result(&lease);
        // The record says of what the interface may have: should the daemon die here, the next one comes to this again.
        let is_off = self.configure(family, old.clone(), CniResult::default()).await;
        let lost = |state: &mut State| {
            state.record.leases.take(family);
            if !is_off {
                state.record.leases.leave(family, old);
            }
            state.lost.insert(family, why);
        };
        self.now(lost).await;
    }

    /// A lease that was extended: what has changed is changed on the interface.
    async fn renewed(&self, lease: Lease) -> Held {
        let old = self.record().await.leases.of(lease.family());
        let old = old.map(|(lease, _)| self.result(&lease)).unwrap_or_default();
        tracing::debug!("{}: {} is extended", self.name, lease.address());
        self.changed(&old, lease).await
    }

    async fn changed(&self, old: &CniResult, lease: Lease) -> Held {
        let (new, family) = (self.result(&lease), lease.family());
        // Before the new address comes: an older one of its subnet takes it with it.
        self.take_off(family, Some(&lease)).await;
        let mut is_done = true;
        if (&old.ips, &old.routes) != (&new.ips, &new.routes) {
            tracing::info!(
                "{}: the lease is of {} now, and the interface follows",
                self.name,
                lease.address()
            );
            is_done = self.configure(family, old.clone(), new).await;
        }
        self.take(lease, (!is_done).then(|| old.clone())).await
    }

    /// From now on this is the lease of its family, and this is left of the one before.
    async fn take(&self, lease: Lease, left: Option<CniResult>) -> Held {
        let held = Held::new(lease.clone(), uptime());
        let taken = |state: &mut State| {
            let family = lease.family();
            state.lost.remove(&family);
            state.put(lease, held.since());
            if let Some(left) = left {
                state.record.leases.leave(family, left);
            }
        };
        self.now(taken).await;
        held
    }

    /// A server is about to be asked for a lease. The first ones are put on record before: should the daemon die before it has heard the
    /// answer, the next one gives them back.
    async fn request(&self, lease: Lease) {
        let mut state = self.state.clone().lock_owned().await;
        state.requested.put(lease, uptime());
        if !state.record.begins {
            return;
        }
        let (records, record) = (self.keeper.records.clone(), state.with_requested());
        // Whoever waits for this may be broken off. The end waits for it: the record is removed then.
        let written = blocking(move || {
            let written = records.write(&record);
            drop(state);
            written
        });
        if let Err(error) = written.await {
            tracing::debug!("{}: what is requested is not on record: {error}", self.name);
        }
    }

    /// The first lease of a family. One that is not on record would be lost with the daemon: the error says why it is not, and the
    /// lease is given back at the end.
    async fn begin(&self, lease: Lease) -> Result<Held, String> {
        let held = Held::new(lease.clone(), uptime());
        let families = self.families()?;
        let mut state = self.state.lock().await;
        state.put(lease, held.since());
        state.record.begins =
            families.iter().any(|family| state.record.leases.of(*family).is_none());
        self.write(&state).await.map_err(|why| format!("the lease cannot be recorded: {why}"))?;
        self.stand(&state);
        Ok(held)
    }

    /// Changes what is known of the leases, on record as well.
    async fn now(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().await;
        change(&mut state);
        if let Err(error) = self.write(&state).await {
            tracing::warn!("{}: the lease is not on record: {error}", self.name);
        }
        self.stand(&state);
    }

    async fn write(&self, state: &State) -> chain::Result<()> {
        let record = match state.record.begins {
            true => state.with_requested(),
            false => state.record.clone(),
        };
        let records = self.keeper.records.clone();
        blocking(move || records.write(&record)).await
    }

    /// Tells those who wait how it stands; until there is a lease of each family there is nothing to tell.
    fn stand(&self, state: &State) {
        let lease_of = |family: &Family| Some(state.record.leases.of(*family)?.0);
        let leases: Option<Vec<_>> =
            self.families().ok().and_then(|all| all.iter().map(lease_of).collect());
        if let Some(why) = state.lost.values().next() {
            self.standing.send_replace(Standing::Lost(why.clone()));
        } else if let Some(leases) = leases {
            let result = joined(leases.iter().map(|lease| self.result(lease)));
            self.standing.send_replace(Standing::Has(Arc::new(result)));
        }
    }

    async fn record(&self) -> Record {
        self.state.lock().await.record.clone()
    }

    fn families(&self) -> Result<Vec<Family>, String> {
        self.ask.as_ref().map_err(Clone::clone)?.families()
    }

    fn result(&self, lease: &Lease) -> CniResult {
        self.ask.as_ref().map_or_else(|_| lease.result(None), |ask| ask.result(lease))
    }

    fn client(&self, record: &Record) -> Result<dhcp::Client, String> {
        let ask = self.ask.as_ref().map_err(Clone::clone)?;
        ask.client(record, self.keeper.manner.broadcast)
    }
}
