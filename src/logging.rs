//! Logs go to standard error: standard output is the result's alone.

use std::{io::IsTerminal, str::FromStr};

use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The variable that sets what is logged: a level, or `target=level` pairs with commas between (default `warn`).
pub const VARIABLE: &str = "CATENA_LOG";

/// Starts logging; `verbose` asks for the time of each step (level debug) where the variable says nothing.
pub fn init(verbose: bool) {
    let default = if verbose { "debug" } else { "warn" };
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
