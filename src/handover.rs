//! A call that the plugin hands over to the node's daemon, as both sides know it.
//!
//! The plugin connects to the daemon's socket, writes one [`Request`] with the container's namespace as a descriptor beside
//! it (`SCM_RIGHTS`), and shuts its side down. The daemon writes a line break each second while it is at it, then one
//! [`Answer`]. Where it does not take the call, or there is no daemon, the plugin does the work itself.
//!
//! **A call is done once.** The daemon works under the lock of the attachment's hand-over, and gives the call up where the
//! plugin has closed the connection by then; it answers before it lets the lock go. A plugin that gets no answer takes that
//! lock, looks for an answer once more, and closes the connection: from then on the daemon has either done it or never will.
//! An ADD that it has done and not answered, killed in between, is undone and done anew.

mod client;

use std::{collections::BTreeMap, fs::File, os::unix::fs::MetadataExt, path::Path};

use chain::{Attachment, CniArgs, Dirs, Environment, Key, Records, Result, record::Lock};
use serde::{Deserialize, Serialize};

pub use self::client::serve;
use crate::plugin::Served;

/// The version of this exchange. One side refuses another's.
pub const PROTOCOL: u32 = 1;

/// The largest request, in bytes: a configuration of the largest size, as a JSON string.
pub const MAX_REQUEST: usize = 40 << 20;

/// The name of the daemon's socket, in [`Dirs::run`].
pub const SOCKET: &str = "catena.sock";

/// One call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The plugin's own version, for the log.
    pub version: String,
    /// The type that the plugin was called as.
    pub kind: String,
    /// The `CNI_*` variables.
    pub env: BTreeMap<String, String>,
    /// The configuration.
    pub stdin: String,
    /// The node that the call is for.
    pub node: NodeId,
}

/// What the daemon makes of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done.
    Served(Served),
    /// Nothing was done, for this reason: the plugin is to do it.
    Refused(String),
}

/// What a plugin and a daemon of one node have in common. A daemon in other namespaces would attach the container to another
/// host, or keep its record where nobody looks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeId {
    /// The network namespace of the process.
    pub network: Option<FileId>,
    /// The folder of the records.
    pub state: Option<FileId>,
}

impl NodeId {
    /// This process's.
    pub fn own(dirs: &Dirs) -> Self {
        Self {
            network: FileId::at(Path::new("/proc/thread-self/ns/net")),
            state: FileId::at(&dirs.state),
        }
    }
}

/// What tells a file from all others, a namespace's too: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId(u64, u64);

impl FileId {
    /// The file's at a path; `None` where there is none.
    pub fn at(path: &Path) -> Option<Self> {
        path.metadata().ok().map(|file| Self(file.dev(), file.ino()))
    }

    /// An open file's.
    pub fn of(file: &File) -> Option<Self> {
        file.metadata().ok().map(|file| Self(file.dev(), file.ino()))
    }
}

/// Takes the lock of an attachment's hand-over; `None` where the call is about none (GC, STATUS: they may run twice).
///
/// Errors (11): another process has it for longer than [`Dirs::lock_wait`].
pub fn lock(environment: &Environment, dirs: &Dirs) -> Result<Option<Lock>> {
    if environment.container_id.is_empty() {
        return Ok(None);
    }
    Records::open(dirs).lock(&key(environment)?).map(Some)
}

/// Removes what a killed daemon has left of that lock.
fn sweep(environment: &Environment, dirs: &Dirs) {
    let free = key(environment).and_then(|key| Records::open(dirs).try_lock(&key));
    if let Ok(Some(lock)) = free {
        lock.remove();
    }
}

fn key(environment: &Environment) -> Result<Key> {
    let attachment = Attachment {
        network: "handover".to_owned(),
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        netns: None,
        args: CniArgs::default(),
    };
    Key::new(&attachment, "handover")
}
