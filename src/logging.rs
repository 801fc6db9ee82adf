//! Logs go to standard error: standard output is the result's alone.

use std::{io::IsTerminal, path::PathBuf, str::FromStr};

use serde::Deserialize;
use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The variable that sets what is logged: a level, or `target=level` pairs with commas between (default `warn`; of the daemon
/// `info`; with `--verbose` `debug`).
pub const VARIABLE: &str = "CATENA_LOG";

/// Starts logging, at the level `default` where the variable says nothing.
pub fn init(default: &str) {
    let asked = std::env::var(VARIABLE).ok();
    let filter = asked.as_deref().and_then(|text| Targets::from_str(text).ok());
    let unusable = asked.is_some() && filter.is_none();
    let filter = filter.unwrap_or_else(|| Targets::from_str(default).expect("a level is a filter"));
    let stderr = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start is no error: the first one's settings stay.
    let _ = tracing_subscriber::registry().with(filter).with(stderr).try_init();
    if unusable {
        tracing::warn!("{VARIABLE} is no log filter; write a level (debug) or target=level pairs");
    }
}

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

fn five() -> u32 {
    5
}

fn hundred() -> u32 {
    100
}

fn yes() -> bool {
    true
}
