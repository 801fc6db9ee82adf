//! The records as files: `<state>/attachments/<network>/<container>@<ifname>:<scope>.json`.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::{Key, Record, journal};
use crate::{
    Code, Dirs, Error, Result,
    files::{self, Found, at, draft, names, remove_file, short},
};

/// The records of a node.
#[derive(Clone, Debug)]
pub struct Records {
    dirs: Dirs,
}

impl Records {
    /// The records in these folders. They need not exist yet.
    pub fn open(dirs: &Dirs) -> Self {
        Self { dirs: dirs.clone() }
    }

    /// The folders.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The file of a record.
    pub fn path(&self, key: &Key) -> PathBuf {
        self.network_dir(&key.network).join(key.file_name())
    }

    /// The record, if there is one. One that cannot be understood (a crash of the file system, an editor) counts as
    /// none: it is set aside under another name, with a warning, so that it never blocks a DEL.
    ///
    /// Errors: where it cannot be read, or (6) was written by a newer Catena.
    pub fn read(&self, key: &Key) -> Result<Option<Record>> {
        tracing::debug_span!("read record").in_scope(|| self.load(&self.path(key)))
    }

    /// Replaces a record, atomically and durably.
    pub fn write(&self, record: &Record) -> Result<()> {
        journal::create(self, record).map(drop)
    }

    /// Removes a record; it need not be there. It is not synced: a record that a power cut brings back is one more DEL.
    pub fn remove(&self, key: &Key) -> Result<()> {
        let _step = tracing::debug_span!("remove record").entered();
        let path = self.path(key);
        remove_file(&draft(&path))?;
        remove_file(&path)
    }

    /// All records of a network, of all scopes, sorted by file name.
    pub fn list(&self, network: &str) -> Result<Vec<Record>> {
        let records = self.matching(network, |_| true)?;
        Ok(records.into_iter().filter(|record| record.network == network).collect())
    }

    /// The records of one attachment in all scopes. Reads the names of all records of the network, but only these files.
    pub fn find(&self, network: &str, container_id: &str, ifname: &str) -> Result<Vec<Record>> {
        let stem = stem(container_id, ifname);
        let same = |name: &str| name.strip_prefix(&stem).is_some_and(|rest| rest.starts_with(':'));
        let records = self.matching(network, same)?;
        let same = |record: &Record| {
            (record.network.as_str(), record.container_id.as_str(), record.ifname.as_str())
                == (network, container_id, ifname)
        };
        Ok(records.into_iter().filter(same).collect())
    }

    /// The records of a container on all networks, in all scopes. Reads the names of all records, but only these files.
    pub fn of_container(&self, container_id: &str) -> Result<Vec<Record>> {
        let begin = format!("{container_id}@");
        let mut records = Vec::new();
        for network in names(&self.attachments_dir())? {
            let dir = self.attachments_dir().join(network);
            let wanted = |name: &&String| name.starts_with(&begin) || files::is_shortened(name);
            let names = names(&dir)?;
            let files = names.iter().filter(|name| is_record(name)).filter(wanted);
            records.extend(files.filter_map(|name| self.tolerant(&dir.join(name))));
        }
        records.retain(|record| record.container_id == container_id);
        Ok(records)
    }

    /// The networks that have records, sorted.
    pub fn networks(&self) -> Result<Vec<String>> {
        let mut networks = Vec::new();
        for name in names(&self.attachments_dir())? {
            let files = names(&self.attachments_dir().join(&name))?;
            if !files.iter().any(|file| is_record(file)) {
                continue;
            }
            if files::is_shortened(&name) {
                // The name is too long for a folder's, and stands in each record.
                let dir = self.attachments_dir().join(&name);
                let mut records = files
                    .iter()
                    .filter(|file| is_record(file))
                    .map(|file| self.tolerant(&dir.join(file)));
                networks.extend(records.find_map(|record| record).map(|record| record.network));
            } else {
                networks.push(name);
            }
        }
        networks.sort();
        Ok(networks)
    }

    fn matching(&self, network: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Record>> {
        let dir = self.network_dir(network);
        let mut files = names(&dir)?;
        files.retain(|name| is_record(name) && wanted(name));
        files.sort();
        Ok(files.iter().filter_map(|file| self.tolerant(&dir.join(file))).collect())
    }

    pub(super) fn attachments_dir(&self) -> PathBuf {
        self.dirs.state.join("attachments")
    }

    pub(super) fn network_dir(&self, network: &str) -> PathBuf {
        self.attachments_dir().join(short(network, 200))
    }

    /// A record for a list: one that cannot be read is not in it.
    fn tolerant(&self, path: &Path) -> Option<Record> {
        self.load(path).unwrap_or_else(|error| {
            tracing::warn!(%error, "passing over a record");
            None
        })
    }

    fn load(&self, path: &Path) -> Result<Option<Record>> {
        let text = match files::read(path).map_err(|error| at(path, &error))? {
            Found::Nothing => return Ok(None),
            Found::Content(text) => text,
            Found::NoFile(why) => {
                files::set_aside(path, why);
                return Ok(None);
            }
        };
        let format = journal::format(&text);
        if let Some(format) = format.filter(|format| *format > Record::FORMAT) {
            return Err(Error::new(
                Code::Decode,
                format!(
                    "{} has format {format}, and this version of catena knows {}: a newer one wrote it; use that one, \
                     or remove the file (DEL then goes by the configuration and the kernel)",
                    path.display(),
                    Record::FORMAT
                ),
            ));
        }
        let why = match journal::parse(&text) {
            Ok(record) if self.path(&record.key()) == path => return Ok(Some(record)),
            Ok(_) => "it is about another attachment than its name says".to_owned(),
            Err(error) => error.to_string(),
        };
        files::set_aside(path, &why);
        Ok(None)
    }

    pub(super) fn locks_dir(&self) -> PathBuf {
        self.dirs.run.join("locks")
    }
}

impl Key {
    /// An interface's name has no ':', so the parts cannot run into each other.
    fn file_name(&self) -> String {
        format!("{}:{}.json", stem(&self.container_id, &self.ifname), short(&self.scope, 80))
    }
}

fn stem(container_id: &str, ifname: &str) -> String {
    short(&format!("{container_id}@{ifname}"), 120)
}

pub(crate) fn hex(text: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
}

/// The name of the record that a draft of this name is for, if it is a draft's.
pub(super) fn record_of_draft(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.strip_suffix(".new").filter(|name| is_record(name))
}

pub(super) fn is_record(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".json")
}
