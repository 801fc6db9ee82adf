//! Leases on record: a daemon that starts takes them up again, whatever ended the one before.

mod leases;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chain::{
    Dirs, NetnsId, Result,
    files::{self, Found, at, short},
};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::leases::Leases;
use super::call::Key;

/// The form that is written here. Another one is passed over, and stays.
const FORMAT: u32 = 1;
/// Few records are larger than that, in bytes.
const LARGE: usize = 4096;

/// An attachment whose lease is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    format: u32,
    /// Whose the lease is.
    #[serde(flatten)]
    pub key: Key,
    /// The path of the container's namespace, as this daemon sees it.
    pub netns: PathBuf,
    /// The namespace that was there: another one under the same path is another container's.
    pub netns_id: NetnsId,
    /// The boot in which that was.
    pub boot: String,
    /// `CNI_ARGS`, and `ipam` of the configuration: what servers are asked and told.
    pub args: String,
    pub ipam: Map<String, Value>,
    /// The interface's number in its namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// The interface's hardware address.
    pub mac: String,
    /// The host's interface by which the container's reaches its network: where the lease is given back once the namespace is
    /// gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    #[serde(flatten)]
    pub leases: Leases,
    /// Nobody has the leases yet, and some are only requested: a daemon that finds this gives them back, since whoever waited for
    /// the last one is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begins: bool,
    /// The addresses that the interface has of leases that are not known any more, since the record was damaged.
    #[serde(skip)]
    pub before: Vec<IpNet>,
}

/// What was found on record.
#[derive(Debug)]
pub struct Known {
    pub records: Vec<Record>,
    /// Whose records were damaged.
    pub damaged: Vec<Key>,
}

impl Record {
    /// A record of an attachment without a lease yet.
    pub fn new(key: Key, netns: PathBuf, netns_id: NetnsId, boot: String) -> Self {
        Self {
            format: FORMAT,
            key,
            netns,
            netns_id,
            boot,
            args: String::new(),
            ipam: Map::new(),
            ifindex: None,
            mac: String::new(),
            uplink: None,
            leases: Leases::default(),
            before: Vec::new(),
            begins: true,
        }
    }

    /// Whether its namespace is still the one at its path.
    pub fn namespace_lives(&self, boot: &str) -> bool {
        self.boot == boot && NetnsId::of(&self.netns) == Some(self.netns_id)
    }
}

/// The time of this boot, that in which the machine slept included. A lease of an earlier one has no namespace any more.
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// The records of one socket: `<state>/dhcp/<socket>/<network>@<container>@<ifname>.json`. There is one daemon at a socket, and so
/// one writer.
#[derive(Clone, Debug)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    pub fn of(socket: &Path, dirs: &Dirs) -> Self {
        let socket = socket.to_string_lossy().trim_start_matches('/').replace('/', "-");
        Self { dir: dirs.state.join("dhcp").join(short(&socket, 200)) }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let Key { network, container_id, ifname } = key;
        self.dir.join(format!("{}.json", short(&format!("{network}@{container_id}@{ifname}"), 200)))
    }

    /// Writes a record, atomically; and durably, unless it begins: one that nobody has a lease of is for the death of this daemon.
    pub fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record)
            .map_err(|error| chain::Error::internal(format!("the lease's record: {error}")))?;
        let path = self.path(&record.key);
        match record.begins {
            true => files::write_unsynced(&path, &text),
            false => files::write(&path, &text).map(drop),
        }
    }

    /// Sees whether a record could be written: the folder may be read-only, or the disk full.
    pub fn try_writing(&self) -> Result<()> {
        files::create_dirs(&self.dir)?;
        let probe = self.dir.join(".probe");
        let written = fs::write(&probe, [0; LARGE]).map_err(|error| at(&probe, &error));
        // What did not fit is in the way, too.
        written.and(files::remove_file(&probe))
    }

    /// Removes a record; it need not be there.
    pub fn remove(&self, key: &Key) -> Result<()> {
        files::remove_file(&self.path(key))
    }

    /// All records. What cannot be understood is set aside.
    pub fn all(&self) -> Result<Known> {
        let mut names = files::names(&self.dir)?;
        names.retain(|name| !name.starts_with('.') && name.ends_with(".json"));
        names.sort();
        let mut known = Known { records: Vec::new(), damaged: Vec::new() };
        for name in &names {
            match self.read(&self.dir.join(name)) {
                Read::Record(record) => known.records.push(*record),
                Read::Nothing => {}
                // The names of both have none of these characters.
                Read::Damaged => {
                    let mut parts = name.trim_end_matches(".json").splitn(3, '@');
                    let mut next = || parts.next().map(str::to_owned);
                    if let (Some(network), Some(container_id), Some(ifname)) =
                        (next(), next(), next())
                    {
                        known.damaged.push(Key { network, container_id, ifname });
                    }
                }
            }
        }
        Ok(known)
    }

    fn read(&self, path: &Path) -> Read {
        let why = match files::read(path) {
            Ok(Found::Content(text)) => match serde_json::from_slice::<Record>(&text) {
                Ok(record) if record.format != FORMAT => {
                    let (path, format) = (path.display(), record.format);
                    tracing::warn!(
                        "{path} has format {format}: a newer catena wrote it, and keeps that lease"
                    );
                    return Read::Nothing;
                }
                Ok(mut record) if self.path(&record.key) == path => {
                    record.leases.begin_by(uptime());
                    return Read::Record(Box::new(record));
                }
                Ok(_) => "it is about another attachment than its name says".to_owned(),
                Err(error) => error.to_string(),
            },
            Ok(Found::Nothing) => return Read::Nothing,
            Ok(Found::NoFile(why)) => why.to_owned(),
            Err(error) => {
                tracing::warn!("passing over a lease: {}", at(path, &error));
                return Read::Nothing;
            }
        };
        files::set_aside(path, &why);
        Read::Damaged
    }
}

/// What a file has.
enum Read {
    Record(Box<Record>),
    /// Nothing for this version.
    Nothing,
    /// Something that cannot be understood.
    Damaged,
}
