//! The life of one lease of an attachment: that of one family.

use std::time::Duration;

use delegates::dhcp::{Extension, Family};
use tokio::time::{Instant, sleep};

use super::{
    Attachment, Ended, State,
    exchange::Fault,
    held::{Held, Next},
};

/// The first pause before a lost lease is asked for again; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a server is given to answer who has lost a lease: then there is a pause, in which no socket is open.
const AGAIN: Duration = Duration::from_secs(30);
/// The longest sleep: timers stand still while the machine sleeps, and leases do not. After it the interface is looked at.
const LONGEST: Duration = Duration::from_secs(300);
/// When the interface is first looked at: by then the chain's other plugins are done with it.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Why a lease is lost whose time is over.
const EXPIRED: &str = "it has expired";

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

/// The lease of one family.
#[derive(Clone, Copy)]
pub struct Keeping<'a> {
    pub attachment: &'a Attachment,
    pub family: Family,
}

impl Keeping<'_> {
    /// Returns when the lease is to end; the error says why there was none in the first place.
    pub async fn keep(self, begin: Begin) -> Result<(), String> {
        match self.go_on(begin).await {
            Ok(why) => Err(why),
            Err(Ended) => Ok(()),
        }
    }

    /// Returns `Ok`, with the reason, where there was no lease in the first place.
    async fn go_on(self, begin: Begin) -> Result<String, Ended> {
        let mut held = match begin {
            Begin::New => match self.first().await? {
                Ok(held) => Some(held),
                Err(why) => return Ok(why),
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
                self.attachment.lose(self.family, &why).await;
            }
            held = Some(self.again().await?);
        }
    }

    /// The first lease; the error says why there is none to be had.
    async fn first(self) -> Result<Result<Held, String>, Ended> {
        let Attachment { keeper, name, .. } = self.attachment;
        Ok(match self.acquire(keeper.manner.timing).await? {
            Ok(lease) => self.attachment.begin(lease).await.inspect(|held| {
                tracing::info!("{name}: has {} of {}", held.lease.address(), held.lease.server());
            }),
            Err(why) => Err(why),
        })
    }

    /// A lease that another daemon got (INIT-REBOOT; of IPv6 RENEW); `None` where it was lost.
    async fn take_up(self, after: Duration) -> Result<Option<Held>, Ended> {
        let Attachment { keeper, name, .. } = self.attachment;
        let record = self.attachment.record().await;
        let Some((lease, since)) = record.leases.of(self.family) else {
            let lost = |state: &mut State| {
                state.lost.insert(self.family, format!("the lease of {} was lost", self.family));
            };
            self.attachment.now(lost).await;
            return Ok(None);
        };
        let mut held = Held::new(lease, since);
        self.attachment.stand(&*self.attachment.state.lock().await);
        if !record.namespace_lives(&keeper.boot) {
            return Err(Ended);
        }
        if held.next() == Next::Over {
            self.attachment.lose(self.family, EXPIRED).await;
            return Ok(None);
        }
        self.or_end(sleep(after)).await?;
        let confirmed = self.confirm(&held.lease).await?;
        let held = match confirmed {
            Ok(lease) => {
                tracing::info!("{name}: {} is confirmed", lease.address());
                self.attachment.renewed(lease).await
            }
            Err(Fault::Refused(why)) => {
                self.attachment.lose(self.family, &why).await;
                return Ok(None);
            }
            Err(Fault::Other(why)) => {
                let address = held.lease.address();
                tracing::info!("{name}: {address} is not confirmed yet: {why}");
                held
            }
        };
        self.attachment.see_to_interface(&held.lease).await;
        Ok(Some(held))
    }

    /// Has the lease extended, again and again; returns why it is lost in the end.
    async fn extend(self, mut held: Held) -> Result<String, Ended> {
        let Attachment { keeper, name, .. } = self.attachment;
        let begun = Instant::now();
        let (mut failed, mut is_behind) = (false, false);
        loop {
            let is_seen = self.attachment.is_seen(self.family).await;
            let may_look = || is_seen || begun.elapsed() >= FIRST_LOOK;
            // What could not be done is tried again: what is to go, and what is to come in its place.
            is_behind |= self.attachment.has_left(self.family).await;
            if is_behind {
                is_behind = !self.attachment.see_to_interface(&held.lease).await;
            }
            let extension = match held.next() {
                Next::Wait(time) => {
                    let pause = if may_look() && !is_behind { LONGEST } else { FIRST_LOOK };
                    self.or_end(sleep(time.min(pause))).await?;
                    if time > pause && !is_behind {
                        self.attachment.see_to_interface(&held.lease).await;
                    }
                    continue;
                }
                Next::Ask(extension) => extension,
                Next::Over => return Ok(EXPIRED.to_owned()),
            };
            let patience = keeper.manner.timing.answer.min(extension.patience);
            match self.ask_for_more(&held.lease, Extension { patience, ..extension }).await? {
                Ok(lease) => {
                    held = self.attachment.renewed(lease).await;
                    failed = false;
                    if may_look() {
                        self.attachment.see_to_interface(&held.lease).await;
                    }
                }
                Err(Fault::Refused(why)) => return Ok(why),
                Err(Fault::Other(why)) => {
                    if !std::mem::replace(&mut failed, true) {
                        let address = held.lease.address();
                        tracing::warn!("{name}: {address} is not extended yet: {why}");
                    }
                }
            }
        }
    }

    /// Another lease for one that was lost, however long that takes.
    async fn again(self) -> Result<Held, Ended> {
        let Attachment { keeper, name, .. } = self.attachment;
        let mut timing = keeper.manner.timing;
        timing.all = timing.all.min(AGAIN);
        let mut pause = FIRST_PAUSE;
        loop {
            self.attachment.take_off(self.family, None).await;
            match self.acquire(timing).await? {
                Ok(lease) => {
                    let before = self.attachment.before(&lease).await;
                    let held = self.attachment.changed(&before, lease).await;
                    let (address, server) = (held.lease.address(), held.lease.server());
                    tracing::info!("{name}: has {address} of {server} now");
                    return Ok(held);
                }
                Err(why) => {
                    tracing::warn!("{name}: still no lease of {}: {why}", self.family);
                    self.or_end(sleep(pause.min(timing.pause))).await?;
                    pause = pause.saturating_mul(2).min(timing.pause);
                }
            }
        }
    }
}
