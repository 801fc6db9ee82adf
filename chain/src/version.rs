//! The versions of the specification.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Code, Error};

/// A version of the CNI specification. Later ones compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 0.1.0: `ip4` and `ip6` in results.
    V0_1_0,
    /// 0.2.0: the same with VERSION.
    V0_2_0,
    /// 0.3.0: `interfaces` and a list of `ips`; plugin chains.
    V0_3_0,
    /// 0.3.1: corrects the example of 0.3.0.
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` for DEL.
    V0_4_0,
    /// 1.0.0: no `version` in `ips`, only lists of plugins.
    V1_0_0,
    /// 1.1.0: GC, STATUS, `mtu`, `socketPath`, `pciID`, more of routes.
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The newest version spoken here.
    pub const LATEST: Self = Self::V1_1_0;

    /// The version as it stands in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// Whether the version has CHECK (and gives DEL the `prevResult`).
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// Whether the version has GC and STATUS.
    pub fn has_gc(self) -> bool {
        self >= Self::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    /// Reads a `cniVersion`; an empty one means 0.1.0, as the specification says.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::V0_1_0);
        }
        Self::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|v| v.as_str()).collect();
            Error::new(
                Code::IncompatibleVersion,
                format!("cniVersion {text:?} is not supported; use one of {}", known.join(", ")),
            )
        })
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}
