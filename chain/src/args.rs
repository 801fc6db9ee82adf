//! `CNI_ARGS`.

use crate::{Error, Result};

/// The pairs of `CNI_ARGS` (`K=V;K=V`), in their order. Keys are case-sensitive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs(Vec<(String, String)>);

impl CniArgs {
    /// Reads the variable; an empty one has no pairs.
    pub fn parse(text: &str) -> Result<Self> {
        let mut pairs = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            match (parts.next(), parts.next(), parts.next()) {
                (Some(key), Some(value), None) if !key.is_empty() => {
                    pairs.push((key.to_owned(), value.to_owned()));
                }
                _ => {
                    return Err(Error::environment(format!(
                        "CNI_ARGS has {pair:?}: each pair must read KEY=VALUE, with ';' between pairs"
                    )));
                }
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Sets a key; the value may hold neither `;` nor `=`.
    pub fn set(&mut self, key: &str, value: &str) {
        debug_assert!(!key.is_empty() && !format!("{key}{value}").contains([';', '=']));
        self.remove(key);
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(other, _)| other != key);
    }

    /// Whether unknown keys are to be passed over (`IgnoreUnknown=1` or `true`).
    pub fn ignores_unknown(&self) -> bool {
        matches!(self.get("IgnoreUnknown"), Some("1" | "true"))
    }

    /// Refuses keys that the plugin does not know, unless `IgnoreUnknown` says otherwise, as the reference plugins do.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        if self.ignores_unknown() {
            return Ok(());
        }
        match self.iter().find(|(key, _)| *key != "IgnoreUnknown" && !known.contains(key)) {
            None => Ok(()),
            Some((key, _)) => Err(Error::environment(format!(
                "CNI_ARGS has the unknown key {key:?}; known are {}; IgnoreUnknown=1 passes over others",
                known.join(", ")
            ))),
        }
    }
}

impl std::fmt::Display for CniArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}
