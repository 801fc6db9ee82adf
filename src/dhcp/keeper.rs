//! All leases of one socket: which attachments have one, and who waits for one.

mod waiting;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chain::{CniResult, Dirs, Error, NetnsId, Result};
use delegates::dhcp::Timing;
use serde_json::{Map, Value};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

pub use self::waiting::Leased;
use self::waiting::Waiting;
use super::{
    attachment::{Attachment, Begin},
    call::{Asked, Key},
    place, rebuilt,
    record::{Known, Record, Records},
};

/// How often the namespaces are looked at.
const LOOK: Duration = Duration::from_secs(3);
/// How many leases that are taken up again are confirmed in a second.
const CONFIRMED_PER_SECOND: u32 = 25;

/// How servers are spoken to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    pub timing: Timing,
    /// Servers are asked to broadcast their answers.
    pub broadcast: bool,
}

/// How an attachment stands.
#[derive(Clone, Debug)]
pub enum Standing {
    /// Its first lease is being got.
    Begins,
    /// It has one.
    Has(Arc<CniResult>),
    /// It has none any more, and this is why; another one is being got.
    Lost(String),
    /// It got none, and this is why: it is not kept.
    Failed(String),
    /// It is not kept any more.
    Ended,
}

/// Keeps leases.
pub struct Keeper {
    pub manner: Manner,
    pub records: Records,
    pub dirs: Dirs,
    /// This boot.
    pub boot: String,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// The number of the next one.
    next: u64,
    of: HashMap<Key, Entry>,
}

/// An attachment that is kept.
struct Entry {
    number: u64,
    netns: PathBuf,
    netns_id: NetnsId,
    /// What was asked for, and for which interface, as soon as that was looked at.
    args: String,
    ipam: Map<String, Value>,
    ifindex: Arc<OnceLock<u32>>,
    standing: watch::Receiver<Standing>,
    /// Set when it is to end.
    end: watch::Sender<bool>,
    /// How many calls wait for its first lease, or have not handed it over yet.
    waiting: usize,
    /// Whether somebody has the lease: from then on it is kept whoever hangs up.
    delivered: bool,
}

impl Keeper {
    /// Keeps what is on record for a socket, from now on. To be called within a runtime.
    pub async fn start(socket: PathBuf, dirs: Dirs, manner: Manner) -> Result<Arc<Self>> {
        let (dirs, boot, records, known) = blocking(move || {
            let records = Records::of(&socket, &dirs);
            let Known { records: mut known, damaged } = records.all()?;
            known.extend(damaged.iter().filter_map(|key| rebuilt::record(key, &dirs)));
            let boot = dirs.boot()?;
            Ok::<_, Error>((dirs, boot, records, known))
        })
        .await?;
        let keeper = Arc::new(Self { manner, records, dirs, boot, entries: Mutex::default() });
        if !known.is_empty() {
            tracing::info!(leases = known.len(), "leases are taken up again");
        }
        for (at, record) in (1_u32..).zip(known) {
            let begin =
                Begin::TakenUp { after: Duration::from_secs(1) * at / CONFIRMED_PER_SECOND };
            let begins = record.begins;
            let mut entries = keeper.entries();
            let entry = keeper.begin(&mut entries, record, begin);
            entry.delivered = true;
            // An ADD that the last daemon died over: what it got goes back.
            entry.end.send_replace(begins);
        }
        tokio::spawn(keeper.clone().look_after_namespaces());
        Ok(keeper)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin<'e>(
        self: &Arc<Self>,
        entries: &'e mut Entries,
        record: Record,
        begin: Begin,
    ) -> &'e mut Entry {
        let (key, netns, netns_id) = (record.key.clone(), record.netns.clone(), record.netns_id);
        let (args, ipam) = (record.args.clone(), record.ipam.clone());
        let (attachment, standing, end) = Attachment::new(self.clone(), record);
        let ifindex = attachment.ifindex.clone();
        entries.next += 1;
        let number = entries.next;
        let (keeper, own) = (self.clone(), key.clone());
        tokio::spawn(async move {
            let attachment = attachment.live(begin).await;
            let mut entries = keeper.entries();
            if entries.of.get(&own).is_some_and(|entry| entry.number == number) {
                entries.of.remove(&own);
            }
            drop(entries);
            // Only now: who has waited for the end finds its place free.
            drop(attachment);
        });
        let entry = Entry {
            number,
            netns,
            netns_id,
            args,
            ipam,
            ifindex,
            standing,
            end,
            waiting: 0,
            delivered: false,
        };
        entries.of.entry(key).insert_entry(entry).into_mut()
    }

    /// The lease of an attachment: the one that it has, or a new one.
    pub async fn lease(self: &Arc<Self>, asked: Asked) -> Result<Leased, String> {
        let key = asked.key.clone();
        // It waits for no disk. Whoever calls after others waits with them from the first moment on.
        let netns_id = place::namespace(&asked.netns).map_err(|error| error.to_string())?;
        let mut is_known = !asked.is_check;
        loop {
            let (leased, mut standing) = match self.wait_for(&key, netns_id) {
                Found::Waits(waiting, standing) => {
                    if is_known && self.is_another(&asked).await {
                        tracing::info!("{key}: it is added anew, and its lease is another one");
                        self.release(&key).await;
                        continue;
                    }
                    (waiting, standing)
                }
                // Another container's, or one that is about to end.
                Found::Ends(mut standing) => {
                    let _ = standing.wait_for(|_| false).await;
                    continue;
                }
                Found::Nothing => {
                    let netns = asked.netns.clone();
                    let mut record = Record::new(key.clone(), netns, netns_id, self.boot.clone());
                    record.args.clone_from(&asked.args);
                    record.ipam.clone_from(&asked.ipam);
                    let mut entries = self.entries();
                    // Somebody else may have been here meanwhile.
                    if !entries.of.contains_key(&key) {
                        self.begin(&mut entries, record, Begin::New);
                        is_known = false;
                    }
                    continue;
                }
            };
            let known = standing.wait_for(|one| !matches!(one, Standing::Begins)).await;
            let known = known.map_or(Standing::Ended, |one| one.clone());
            return match known {
                Standing::Has(result) => Ok(Leased { result, waiting: leased }),
                Standing::Lost(why) | Standing::Failed(why) => Err(why),
                Standing::Begins | Standing::Ended => {
                    Err(format!("the lease of {key} was given back meanwhile"))
                }
            };
        }
    }

    /// Whether an ADD is not about what the lease is kept for: it has another configuration, or the interface was made anew.
    async fn is_another(&self, asked: &Asked) -> bool {
        let ifindex = {
            let entries = self.entries();
            let Some(entry) = entries.of.get(&asked.key) else { return false };
            if (&entry.args, &entry.ipam) != (&asked.args, &asked.ipam) {
                return true;
            }
            entry.ifindex.get().copied()
        };
        let (Some(ifindex), netns) = (ifindex, asked.netns.clone()) else { return false };
        blocking(move || place::is_gone(&netns, ifindex)).await
    }

    fn wait_for(self: &Arc<Self>, key: &Key, netns_id: NetnsId) -> Found {
        let mut entries = self.entries();
        // One whose task has died is none.
        let is_dead = |entry: &Entry| entry.standing.has_changed().is_err();
        if entries.of.get(key).is_some_and(is_dead) {
            entries.of.remove(key);
        }
        let Some(entry) = entries.of.get_mut(key) else { return Found::Nothing };
        let standing = entry.standing.clone();
        // By whatever path: runtimes have more than one for a namespace.
        if entry.netns_id != netns_id || *entry.end.borrow() {
            entry.end.send_replace(true);
            return Found::Ends(standing);
        }
        entry.waiting += 1;
        let waiting = Waiting {
            keeper: self.clone(),
            key: key.clone(),
            number: entry.number,
            delivered: false,
        };
        Found::Waits(waiting, standing)
    }

    /// Whether leases can be kept; the error says why not.
    pub async fn status(&self) -> Result<(), String> {
        let records = self.records.clone();
        let written = blocking(move || records.try_writing()).await;
        written.map_err(|error| format!("leases cannot be recorded: {error}"))
    }

    /// Ends the keeping of an attachment's lease, which is given back; one that has none is no error.
    pub async fn release(&self, key: &Key) {
        let standing = {
            let entries = self.entries();
            let Some(entry) = entries.of.get(key) else { return };
            entry.end.send_replace(true);
            entry.standing.clone()
        };
        let mut standing = standing;
        // Until its task is gone.
        let _ = standing.wait_for(|_| false).await;
    }

    /// Ends what has no namespace any more: nobody will come for it.
    async fn look_after_namespaces(self: Arc<Self>) {
        loop {
            let known: Vec<_> = {
                let entries = self.entries();
                let all = entries.of.iter();
                all.map(|(key, entry)| {
                    (key.clone(), entry.number, entry.netns.clone(), entry.netns_id)
                })
                .collect()
            };
            let gone = blocking(move || {
                let is_gone = |path: &PathBuf, id| NetnsId::of(path) != Some(id);
                known.into_iter().filter(|(_, _, path, id)| is_gone(path, *id)).collect::<Vec<_>>()
            });
            for (key, number, netns, _) in gone.await {
                let entries = self.entries();
                let entry = entries.of.get(&key).filter(|entry| entry.number == number);
                if entry.is_some_and(|entry| !entry.end.send_replace(true)) {
                    tracing::info!("{key}: its namespace {} is gone without DEL", netns.display());
                }
            }
            sleep(LOOK).await;
        }
    }
}

/// What is known of an attachment when somebody asks for its lease.
enum Found {
    Nothing,
    Ends(watch::Receiver<Standing>),
    Waits(Waiting, watch::Receiver<Standing>),
}

/// Runs what blocks on a thread for that.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends: so does everything that waits in it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}
