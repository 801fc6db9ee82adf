//! A record while its ADD runs: what is done is appended to its file.

use std::{fs::File, io::Write, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{Record, Records, State};
use crate::{
    CniResult, Error, Result,
    files::{self, at},
};

/// One line after the first.
#[derive(Default, Serialize, Deserialize)]
struct Progress {
    /// This delegate is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    added: Option<usize>,
    /// With this result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<CniResult>,
    /// This one is begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<usize>,
    /// All are done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    complete: bool,
}

/// A record that an ADD appends to.
#[derive(Debug)]
pub(crate) struct Journal {
    pub record: Record,
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Writes a record for an ADD that is about to begin with the first delegate. It is on the disk on return.
    pub fn begin(records: &Records, mut record: Record) -> Result<Self> {
        if let Some(first) = record.delegates.first_mut() {
            first.state = State::Begun;
        }
        let file = create(records, &record)?;
        let path = records.path(&record.key());
        Ok(Self { record, file, path })
    }

    /// A delegate is done, and the next one is begun.
    pub fn proceed(&mut self, added: usize, result: &CniResult) -> Result<()> {
        self.append(Progress {
            added: Some(added),
            result: Some(result.clone()),
            begun: Some(added + 1),
            complete: false,
        })
    }

    /// The last delegate is done, and the chain with it. It is on the disk on return.
    pub fn finish(&mut self, added: usize, result: &CniResult) -> Result<()> {
        let _step = tracing::debug_span!("write record").entered();
        self.append(Progress {
            added: Some(added),
            result: Some(result.clone()),
            begun: None,
            complete: true,
        })?;
        self.file.sync_data().map_err(|error| at(&self.path, &error))
    }

    fn append(&mut self, progress: Progress) -> Result<()> {
        let line = line(&progress)?;
        self.file.write_all(&line).map_err(|error| at(&self.path, &error))?;
        apply(&mut self.record, progress);
        Ok(())
    }
}

/// Writes a record under its name, replacing an older one as a whole, and syncs it.
pub(super) fn create(records: &Records, record: &Record) -> Result<File> {
    let _step = tracing::debug_span!("write record").entered();
    files::write(&records.path(&record.key()), &line(record)?)
}

/// The form that a record says it has.
pub(super) fn format(text: &[u8]) -> Option<u32> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let first = text.split(|byte| *byte == b'\n').next()?;
    serde_json::from_slice::<Format>(first).ok().map(|form| form.format)
}

/// Reads a record's lines. Whatever is wrong with the first one makes it no record; what comes from a torn one on is passed
/// over (see [`Record::take_begun`]).
pub(super) fn parse(text: &[u8]) -> serde_json::Result<Record> {
    let mut lines = text.split(|byte| *byte == b'\n');
    let mut record: Record = serde_json::from_slice(lines.next().unwrap_or_default())?;
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(progress) => apply(&mut record, progress),
            Err(_) => break,
        }
    }
    Ok(record)
}

fn apply(record: &mut Record, progress: Progress) {
    if let Some(delegate) = progress.added.and_then(|index| record.delegates.get_mut(index)) {
        delegate.result.clone_from(&progress.result);
    }
    for (index, state) in [(progress.added, State::Added), (progress.begun, State::Begun)] {
        if let Some(delegate) = index.and_then(|index| record.delegates.get_mut(index)) {
            delegate.state = state;
        }
    }
    if progress.result.is_some() {
        record.result = progress.result;
    }
    record.complete |= progress.complete;
}

fn line(json: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(json)
        .map_err(|error| Error::internal(format!("a record cannot be written: {error}")))?;
    line.push(b'\n');
    Ok(line)
}
