//! Which boot this is.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use super::Records;
use crate::{
    Dirs, Error, Result,
    files::{self, Found},
    lock,
};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UUID: &str = "/proc/sys/kernel/random/uuid";

impl Dirs {
    /// The boot that this is: the kernel's id of it, and a random marker that is on tmpfs. The marker is for a node that
    /// is itself a container: it restarts, and loses its network, under the kernel's same boot.
    pub fn boot(&self) -> Result<String> {
        let id = read(Path::new(BOOT_ID))?;
        let id = id.trim();
        let marker = self.run.join("boot");
        let mark = match mark_in(&marker)? {
            Mark::Sound(mark) => mark,
            Mark::Missing => {
                files::create_dirs(&self.run)?;
                self.mark(&marker, &read(Path::new(UUID))?)?;
                read(&marker)?
            }
            Mark::Damaged(_) => self.restore(&marker, id)?,
        };
        Ok(format!("{id}/{}", mark.trim()))
    }

    /// Makes the marker whole or not at all: the first one to link it wins.
    fn mark(&self, marker: &Path, mark: &str) -> Result<()> {
        let draft = self.run.join(format!(".boot.{}", read(Path::new(UUID))?.trim()));
        fs::write(&draft, mark).map_err(|error| at(&draft, &error))?;
        let linked = fs::hard_link(&draft, marker);
        let _ = fs::remove_file(&draft);
        match linked {
            // Somebody has swept the draft away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.mark(marker, mark),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(marker, &error)),
            _ => Ok(()),
        }
    }

    /// Removes drafts of the marker, which processes have left that were killed.
    pub(super) fn sweep_marks(&self) -> Result<()> {
        for name in files::names(&self.run)?.iter().filter(|name| name.starts_with(".boot.")) {
            files::remove_file(&self.run.join(name))?;
        }
        Ok(())
    }

    /// Makes a marker that somebody has damaged anew. With another mark all leases and attachments would count as
    /// another boot's, so it is taken from the record of an attachment that lives.
    fn restore(&self, marker: &Path, id: &str) -> Result<String> {
        let dir = File::open(&self.run).map_err(|error| at(&self.run, &error))?;
        lock::exclusive(&dir, &self.run, self.lock_wait)
            .map_err(|error| lock::failed(&self.run, &error))?;
        match mark_in(marker)? {
            // Somebody else was here first.
            Mark::Sound(mark) => return Ok(mark),
            Mark::Missing => {}
            Mark::Damaged(why) => files::set_aside(marker, &why),
        }
        let mark = match self.mark_of_living(id)? {
            Some(mark) => mark,
            None => read(Path::new(UUID))?,
        };
        self.mark(marker, &mark)?;
        read(marker)
    }

    fn mark_of_living(&self, id: &str) -> Result<Option<String>> {
        let records = Records::open(self);
        for network in records.networks()? {
            let living = records.list(&network)?.into_iter().find_map(|record| {
                let mark = record.boot.strip_prefix(id)?.strip_prefix('/')?;
                record.namespace_lives(&record.boot).then(|| mark.to_owned())
            });
            if living.is_some() {
                return Ok(living);
            }
        }
        Ok(None)
    }
}

/// What the marker's file holds.
enum Mark {
    Missing,
    Sound(String),
    /// This is wrong with it.
    Damaged(String),
}

fn mark_in(marker: &Path) -> Result<Mark> {
    let content = match files::read(marker).map_err(|error| at(marker, &error))? {
        Found::Nothing => return Ok(Mark::Missing),
        Found::NoFile(why) => return Ok(Mark::Damaged(why.to_owned())),
        Found::Content(content) => content,
    };
    let is_uuid = |text: &str| {
        text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
    };
    match String::from_utf8(content) {
        Ok(text) if is_uuid(text.trim()) => Ok(Mark::Sound(text)),
        _ => Ok(Mark::Damaged("it holds no UUID".to_owned())),
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| at(file, &error))
}

fn at(file: &Path, error: &io::Error) -> Error {
    Error::io(format!("{}: {error}", file.display()))
}
