//! Which sysctls an administrator lets configurations change.

use std::{fs, io::ErrorKind, path::Path};

use chain::{Error, Result};
use regex_lite::Regex;

use super::conf::NetSysctl;

/// The file of the list, as the reference plugin has it.
const PATH: &str = "/etc/cni/tuning/allowlist.conf";

/// The list: a regular expression a line, of which one has to match somewhere in the key as it is written in the
/// configuration. Without the file all of `net.*` may be changed.
///
/// The expressions are regex-lite's: a fifth of what regex adds to the binary, and its classes (`\w`) are of ASCII, as Go's
/// are.
pub(super) struct Allowlist(Option<Vec<String>>);

impl Allowlist {
    /// Reads the list.
    pub(super) fn read() -> Result<Self> {
        Self::at(Path::new(PATH))
    }

    pub(super) fn at(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
                Ok(Self(Some(lines.map(str::to_owned).collect())))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self(None)),
            Err(error) => Err(Error::io(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Refuses sysctls that no line matches.
    pub(super) fn check(&self, sysctls: &[NetSysctl]) -> Result<()> {
        let Some(lines) = &self.0 else { return Ok(()) };
        for sysctl in sysctls {
            if !matches(lines, &sysctl.written)? {
                return Err(Error::config(format!(
                    "sysctl {} is not allowed: {PATH} has {}; leave it out, or add a line that matches it",
                    sysctl.written,
                    if lines.is_empty() { "no line".to_owned() } else { lines.join(" ") }
                )));
            }
        }
        Ok(())
    }
}

fn matches(lines: &[String], key: &str) -> Result<bool> {
    for line in lines {
        let regex = Regex::new(line).map_err(|error| {
            Error::config(format!(
                "{PATH}: {line:?} is not a regular expression ({error}): correct it, or remove it"
            ))
        })?;
        if regex.is_match(key) {
            return Ok(true);
        }
    }
    Ok(false)
}
