//! `CNI_COMMAND`.

use std::{fmt, str::FromStr};

use crate::{Error, Result, Version};

/// An operation of the specification (section 2, "CNI operations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Attaches a container, or adds to what the chain did before.
    Add,
    /// Undoes ADD.
    Del,
    /// Whether a container is as ADD left it (since 0.4.0).
    Check,
    /// Removes what belongs to no valid attachment (since 1.1.0).
    Gc,
    /// Whether ADD can be served now (since 1.1.0).
    Status,
    /// Which versions of the specification a plugin speaks.
    Version,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// The value of `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The oldest version of the specification that has the verb.
    pub fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }

    /// The variables that the verb cannot do without (section 2, "Parameters").
    pub fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|verb| verb.as_str()).collect();
            Error::environment(format!(
                "CNI_COMMAND {text:?} is unknown; use one of {}",
                known.join(", ")
            ))
        })
    }
}
