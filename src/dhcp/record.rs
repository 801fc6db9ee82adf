//! Leases on record: a daemon that starts takes them up again, whatever ended the one before.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chain::{
    CniResult, Dirs, NetnsId, Result,
    files::{self, Found, at, short},
};
use delegates::dhcp::{self, Family, v6};
use ipnet::IpNet;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{call::Key, lease::Lease};

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

/// The leases of an attachment: one of each family that it asks for, but where none was got yet, or the last one was lost.
///
/// Their times count from a second of this boot: no clock that is set makes a lease older or younger.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leases {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<dhcp::Lease>,
    #[serde(default)]
    since: u64,
    /// The destinations of its routes that the interface was without when it was first looked at: others have taken them away. `None`
    /// where nobody has looked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without: Option<Vec<IpNet>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease_v6: Option<v6::Lease>,
    #[serde(default)]
    since_v6: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    without_v6: Option<Vec<IpNet>>,
    /// What the interface may still have of leases that are no more: it could not be taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<CniResult>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left_v6: Option<CniResult>,
}

impl Leases {
    /// The lease of a family, and from when its times count.
    pub fn of(&self, family: Family) -> Option<(Lease, Duration)> {
        let (lease, since) = match family {
            Family::V4 => (self.lease.clone().map(Lease::V4), self.since),
            Family::V6 => (self.lease_v6.clone().map(Lease::V6), self.since_v6),
        };
        lease.map(|lease| (lease, Duration::from_secs(since)))
    }

    /// A lease that stands for the one of its family from now on.
    pub fn put(&mut self, lease: Lease, since: Duration) {
        let since = since.as_secs();
        match lease {
            Lease::V4(lease) => (self.lease, self.since) = (Some(lease), since),
            Lease::V6(lease) => (self.lease_v6, self.since_v6) = (Some(lease), since),
        }
    }

    /// Which of a family's routes others have taken from the interface, as far as it was looked at.
    pub fn without(&self, family: Family) -> Option<&[IpNet]> {
        match family {
            Family::V4 => self.without.as_deref(),
            Family::V6 => self.without_v6.as_deref(),
        }
    }

    /// It was looked at.
    pub fn set_without(&mut self, family: Family, without: Vec<IpNet>) {
        match family {
            Family::V4 => self.without = Some(without),
            Family::V6 => self.without_v6 = Some(without),
        }
    }

    /// What the interface may still have of a family's leases that are no more.
    pub fn left(&self, family: Family) -> Option<&CniResult> {
        match family {
            Family::V4 => self.left.as_ref(),
            Family::V6 => self.left_v6.as_ref(),
        }
    }

    /// The interface may still have what an earlier lease of a family gave it. From now on it is for this daemon alone to say what it
    /// is to have: an address that goes may take that of the next lease with it.
    pub fn leave(&mut self, family: Family, old: CniResult) {
        let (left, without) = match family {
            Family::V4 => (&mut self.left, &mut self.without),
            Family::V6 => (&mut self.left_v6, &mut self.without_v6),
        };
        let left = left.get_or_insert_default();
        left.ips.extend(old.ips);
        left.routes.extend(old.routes);
        without.get_or_insert_default();
    }

    /// The interface has nothing any more of a family's earlier leases.
    pub fn clear_left(&mut self, family: Family) {
        match family {
            Family::V4 => self.left = None,
            Family::V6 => self.left_v6 = None,
        }
    }

    /// Has no lease begin later than now: one whose time is still to come would end much too late.
    fn begin_by(&mut self, now: Duration) {
        for since in [&mut self.since, &mut self.since_v6] {
            *since = now.as_secs().min(*since);
        }
    }

    /// That of a family is no more.
    pub fn take(&mut self, family: Family) -> Option<Lease> {
        match family {
            Family::V4 => self.lease.take().map(Lease::V4),
            Family::V6 => self.lease_v6.take().map(Lease::V6),
        }
    }
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
