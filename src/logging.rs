//! Logs go to standard error, and to a file where the configuration names one: standard output is the result's alone.

mod file;
mod settings;
pub mod steps;
mod subscriber;

use std::{
    io::{self, Stderr, Write},
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing_subscriber::filter::{LevelFilter, Targets};

pub use self::settings::{Rotation, Settings};
use self::{
    file::LogFile,
    subscriber::{Filter, change},
};

/// The variable that sets what is logged: a level, or `target=level` pairs with commas between (default: the configuration's
/// `logLevel`, else `warn`; of the daemon `info`; with `--verbose` `debug`).
pub const VARIABLE: &str = "CATENA_LOG";

/// Whether the variable says what is logged, so that the configuration does not.
static IS_ASKED: AtomicBool = AtomicBool::new(false);

/// Whether the first configuration that is read sets what this process logs, and where to.
static FOLLOWS_CONFIGURATION: AtomicBool = AtomicBool::new(false);

/// Whether standard error is left alone.
static SILENT: AtomicBool = AtomicBool::new(false);

/// `logFile`.
static FILE: Mutex<Option<LogFile>> = Mutex::new(None);

/// Starts logging, at the level `default` where the variable says nothing.
pub fn init(default: &str) {
    let asked = std::env::var(VARIABLE).ok();
    let filter = asked.as_deref().and_then(|text| Targets::from_str(text).ok());
    let unusable = asked.is_some() && filter.is_none();
    IS_ASKED.store(filter.is_some(), Ordering::Relaxed);
    let log = filter.unwrap_or_else(|| Targets::from_str(default).expect("a level is a filter"));
    subscriber::start(Filter { log, all_steps: false });
    if unusable {
        tracing::warn!("{VARIABLE} is no log filter; write a level (debug) or target=level pairs");
    }
}

/// Starts logging in a process that serves one call as a plugin: its configuration says more ([`follow`]).
pub fn init_plugin() {
    init("warn");
    FOLLOWS_CONFIGURATION.store(true, Ordering::Relaxed);
}

/// Logs as the configuration of a call says, if this process is there for that call alone. In the daemon, which serves many, it
/// does nothing.
pub fn follow(settings: &Settings) {
    if FOLLOWS_CONFIGURATION.swap(false, Ordering::Relaxed) {
        apply(settings);
    }
}

/// Logs as these settings say from here on. A log that cannot be written is no reason to fail.
pub fn apply(settings: &Settings) {
    let file = settings.file.as_ref();
    let file = file.map(|path| LogFile::open(path, settings.rotation)).transpose();
    let (file, failed) = match file {
        Ok(file) => (file, None),
        Err(error) => (None, Some(error)),
    };
    *FILE.lock().unwrap_or_else(PoisonError::into_inner) = file;
    // Where the file cannot be written, somebody is to see at least this.
    let silent = settings.to_stderr == Some(false) && failed.is_none();
    SILENT.store(silent, Ordering::Relaxed);
    let level = settings.level.as_deref().map(level);
    if let (Some(Some(level)), false) = (level, IS_ASKED.load(Ordering::Relaxed)) {
        change(|filter| filter.log = Targets::new().with_default(level));
    }
    if let (Some(error), Some(path)) = (failed, &settings.file) {
        tracing::warn!("logFile {}: {error}; the log goes to standard error", path.display());
    }
    for wrong in &settings.wrong {
        tracing::warn!("{wrong}");
    }
    if let (Some(None), Some(level)) = (level, &settings.level) {
        tracing::warn!("logLevel {level:?} is unknown; use panic, error, verbose or debug");
    }
}

/// Measures all steps from here on, for [`steps::watch`], also where they are not logged.
pub fn measure_steps() {
    change(|filter| filter.all_steps = true);
}

/// Multus's levels, of which `panic` has only what cannot go on, and those that are usual elsewhere.
fn level(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "panic" | "error" => Some(LevelFilter::ERROR),
        "warn" | "warning" => Some(LevelFilter::WARN),
        "verbose" | "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        _ => None,
    }
}

/// Standard error, unless it is to be left alone.
struct Console(Stderr);

impl Write for Console {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if SILENT.load(Ordering::Relaxed) { Ok(text.len()) } else { self.0.write(text) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// `logFile`, where there is one.
struct File;

impl Write for File {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        match &mut *FILE.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(file) => file.write(text),
            None => Ok(text.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_multus_own_and_the_usual_ones() {
        for (text, expected) in [
            ("panic", Some(LevelFilter::ERROR)),
            ("Error", Some(LevelFilter::ERROR)),
            ("verbose", Some(LevelFilter::INFO)),
            ("debug", Some(LevelFilter::DEBUG)),
            ("loud", None),
        ] {
            assert_eq!(level(text), expected);
        }
    }
}
