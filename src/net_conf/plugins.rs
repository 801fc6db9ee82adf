//! The plugins that a network names: a runtime that is led to it has to find them.

use std::{os::unix::fs::PermissionsExt, path::Path};

use chain::{Code, ConfList, Error, Result};
use serde_json::Value;

/// The types of a network's plugins, those of their `ipam` among them.
pub fn of(list: &ConfList) -> Vec<&str> {
    let own = list.plugins.iter().filter_map(|plugin| plugin.get("type"));
    let ipam = list.plugins.iter().filter_map(|plugin| plugin.get("ipam")?.get("type"));
    own.chain(ipam).filter_map(Value::as_str).collect()
}

/// Refuses a network before all of its plugins are in the runtime's directory for them.
///
/// Errors (11): one is not there, or cannot be executed.
pub fn require(bin_dir: &Path, kinds: &[&str]) -> Result<()> {
    let is_there = |kind: &&&str| {
        let file = bin_dir.join(kind).metadata();
        file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let missing: Vec<_> = kinds.iter().filter(|kind| !is_there(kind)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Code::TryAgain,
        format!(
            "{} has no plugin {}, so no network is written for the runtime: run catena install, or name the runtime's \
             directory with --bin-dir",
            bin_dir.display(),
            missing.join(", ")
        ),
    ))
}
