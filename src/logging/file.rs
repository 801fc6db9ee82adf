//! A log file that begins anew when it is full (`logOptions`).
//!
//! Many processes write to it at once, each a short while, and so does the daemon for long. So lines are appended whole, and what is
//! done to the file is found out by each writer for itself: that another one has set it aside, or a tool such as logrotate.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::Rotation;

/// A megabyte, as the library that Multus uses counts them.
const MEGABYTE: u64 = 1 << 20;

/// A file that log lines are appended to.
pub(super) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    /// The size at which it is set aside, in bytes.
    max_size: u64,
    file: File,
}

impl LogFile {
    /// Opens the file, making it and its folder where they are missing.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let max_size = match rotation.max_size {
            0 => 100,
            megabytes => megabytes,
        };
        let max_size = u64::from(max_size) * MEGABYTE;
        Ok(Self { file: append(path)?, path: path.to_owned(), rotation, max_size })
    }

    /// Appends a line, in a file of its own where this one would become too large.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let there = fs::metadata(&self.path).ok();
        let own = self.file.metadata()?;
        if there.is_none_or(|there| (there.dev(), there.ino()) != (own.dev(), own.ino())) {
            self.file = append(&self.path)?;
        }
        let size = self.file.metadata()?.len();
        if size > 0 && size + line.len() as u64 > self.max_size {
            self.rotate()?;
        }
        self.file.write_all(line)
    }

    /// Sets the file aside, unless another process is about to.
    fn rotate(&mut self) -> io::Result<()> {
        let Ok(lock) = Flock::lock(self.file.try_clone()?, FlockArg::LockExclusiveNonblock) else {
            return Ok(());
        };
        // It may have been set aside before it was locked.
        let is_own = fs::metadata(&self.path)?.ino() == lock.metadata()?.ino();
        if is_own {
            self.set_this_aside()?;
        }
        self.file = append(&self.path)?;
        drop(lock);
        if is_own {
            self.clean();
        }
        Ok(())
    }

    /// Gives the file the first name that is free. A link takes no name from another file, as a rename would.
    fn set_this_aside(&self) -> io::Result<()> {
        let mut time = SystemTime::now();
        loop {
            match fs::hard_link(&self.path, self.aside(time)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    time += Duration::from_millis(1);
                }
                linked => return linked.and_then(|()| fs::remove_file(&self.path)),
            }
        }
    }

    /// Compresses what was set aside, and removes what is too old or too many. What fails is tried again next time.
    fn clean(&self) {
        let mut kept = self.set_aside();
        // Newest first: their names are their times.
        kept.sort_by(|a, b| b.cmp(a));
        let oldest = Duration::from_secs(24 * 3600) * self.rotation.max_age;
        let mut seen = 0;
        for file in kept {
            seen += 1;
            let too_many = self.rotation.max_backups > 0 && seen > self.rotation.max_backups;
            let age = fs::metadata(&file).and_then(|meta| meta.modified()).ok();
            let age = age.and_then(|modified| modified.elapsed().ok()).unwrap_or_default();
            if too_many || (self.rotation.max_age > 0 && age > oldest) {
                let _ = fs::remove_file(&file);
            } else if self.rotation.compress && file.extension().is_none_or(|end| end != "gz") {
                let _ = compress(&file);
            }
        }
    }

    /// The path that the file gets when it is set aside at this time: `multus-2026-11-24T21-05-09.123.log` of `multus.log`.
    fn aside(&self, time: SystemTime) -> PathBuf {
        let (stem, suffix) = self.names();
        self.path.with_file_name(format!("{stem}-{}{suffix}", timestamp(time)))
    }

    /// What was set aside, by any process or by Multus.
    fn set_aside(&self) -> Vec<PathBuf> {
        let (stem, suffix) = self.names();
        let Some(entries) = self.path.parent().and_then(|dir| fs::read_dir(dir).ok()) else {
            return Vec::new();
        };
        let is_aside = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.strip_suffix(".gz").unwrap_or(&name);
            let time =
                name.strip_prefix(&format!("{stem}-")).and_then(|name| name.strip_suffix(&suffix));
            time.is_some_and(is_timestamp)
        };
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_aside).collect()
    }

    /// The file's name without its suffix, and the suffix with its dot.
    fn names(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.unwrap_or_default().to_string_lossy().into_owned()
        };
        let suffix = self.path.extension().map(|end| format!(".{}", end.to_string_lossy()));
        (text(self.path.file_stem()), suffix.unwrap_or_default())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.append(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    // A pipe that nobody reads is an error: waiting for a reader would hold the call.
    let flags = OFlag::O_NONBLOCK.bits();
    let open =
        || OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            open()
        }
        opened => opened,
    }
}

/// Replaces a file by its compressed form, under a name that says so only once it is whole.
fn compress(file: &Path) -> io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".gz");
    let compressed = PathBuf::from(&name);
    name.push(".draft");
    let draft = PathBuf::from(name);
    let to = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(draft, compressed)?;
    fs::remove_file(file)
}

/// UTC, to the millisecond, in a form that sorts by time: `2026-11-24T21-05-09.123`.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Years begin in March here, so that the leap day is their last one: 400 years have 146,097 days.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let of_era_year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * of_era_year + of_era_year / 4 - of_era_year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + of_era_year + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}-{:02}-{:02}.{:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

fn is_timestamp(text: &str) -> bool {
    let shape = "dddd-dd-ddTdd-dd-dd.ddd";
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            fixed => byte == fixed,
        })
}

#[cfg(test)]
mod tests;
