//! The logging keys of the meta plugin's configuration.

use std::path::PathBuf;

use serde::Deserialize;

/// The logging keys of the meta plugin's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Settings {
    /// `logToStderr` (default true).
    #[serde(rename = "logToStderr", default)]
    pub to_stderr: Option<bool>,
    /// `logFile`: is written to as well.
    #[serde(rename = "logFile", default)]
    pub file: Option<PathBuf>,
    /// `logLevel`: `panic`, `error`, `verbose` or `debug`.
    #[serde(rename = "logLevel", default)]
    pub level: Option<String>,
    /// `logOptions`: when `logFile` begins anew, and what of it is kept.
    #[serde(rename = "logOptions", default)]
    pub rotation: Option<Rotation>,
}

/// When a log file begins anew, and what is kept of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Rotation {
    /// `maxAge`: older files are removed, in days (default 5; 0: never).
    #[serde(rename = "maxAge", default = "five")]
    pub max_age: u32,
    /// `maxSize`: a file that would become larger is set aside, in megabytes (default 100, also for 0).
    #[serde(rename = "maxSize", default = "hundred")]
    pub max_size: u32,
    /// `maxBackups`: how many files are kept (default 5; 0: all).
    #[serde(rename = "maxBackups", default = "five")]
    pub max_backups: u32,
    /// `compress`: files set aside are compressed (default true).
    #[serde(default = "yes")]
    pub compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_age: five(), max_size: hundred(), max_backups: five(), compress: yes() }
    }
}

fn five() -> u32 {
    5
}

fn hundred() -> u32 {
    100
}

fn yes() -> bool {
    true
}
