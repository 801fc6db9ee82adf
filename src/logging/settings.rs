//! The logging keys of the meta plugin's configuration.

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The logging keys of the meta plugin's configuration. One with a value that is none counts as absent: how it logs keeps no
/// pod from its networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `logToStderr` (default true).
    pub to_stderr: Option<bool>,
    /// `logFile`: is written to as well.
    pub file: Option<PathBuf>,
    /// `logLevel`: `panic`, `error`, `verbose` or `debug`.
    pub level: Option<String>,
    /// `logOptions`: when `logFile` begins anew, and what of it is kept.
    pub rotation: Rotation,
    /// What is wrong with these keys, each in a sentence.
    pub wrong: Vec<String>,
}

/// When a log file begins anew, and what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// `maxAge`: older files are removed, in days (default 5; 0: never).
    pub max_age: u32,
    /// `maxSize`: a file that would become larger is set aside, in megabytes (default 100, also for 0).
    pub max_size: u32,
    /// `maxBackups`: how many files are kept (default 5; 0: all).
    pub max_backups: u32,
    /// `compress`: files set aside are compressed (default true).
    pub compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_age: 5, max_size: 100, max_backups: 5, compress: true }
    }
}

impl Settings {
    /// Reads the keys.
    pub fn of(raw: &Map<String, Value>) -> Self {
        let mut keys = Keys { raw, within: "", wrong: Vec::new() };
        let mut settings = Self {
            to_stderr: keys.take("logToStderr", "true or false"),
            file: keys.take("logFile", "a path"),
            level: keys.take("logLevel", "a level"),
            ..Self::default()
        };
        let options =
            keys.take::<Map<String, Value>>("logOptions", "an object").unwrap_or_default();
        let mut keys = Keys { raw: &options, within: "logOptions.", wrong: keys.wrong };
        let Rotation { max_age, max_size, max_backups, compress } = Rotation::default();
        let number = "a whole number from 0 on";
        settings.rotation = Rotation {
            max_age: keys.take("maxAge", number).unwrap_or(max_age),
            max_size: keys.take("maxSize", number).unwrap_or(max_size),
            max_backups: keys.take("maxBackups", number).unwrap_or(max_backups),
            compress: keys.take("compress", "true or false").unwrap_or(compress),
        };
        Self { wrong: keys.wrong, ..settings }
    }
}

/// An object whose values are taken where they are what they should be.
struct Keys<'a> {
    raw: &'a Map<String, Value>,
    /// What the object is called, with a dot behind it.
    within: &'a str,
    wrong: Vec<String>,
}

impl Keys<'_> {
    /// The value of a key, whose case does not matter; `expected` says what it should be.
    fn take<T: DeserializeOwned>(&mut self, key: &str, expected: &str) -> Option<T> {
        let (_, value) = self.raw.iter().find(|(given, _)| given.eq_ignore_ascii_case(key))?;
        if value.is_null() {
            return None;
        }
        let taken = T::deserialize(value).ok();
        if taken.is_none() {
            let within = self.within;
            self.wrong.push(format!("{within}{key} {value} is not {expected}, and not used"));
        }
        taken
    }
}
