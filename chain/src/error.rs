//! The error object of the specification, and its codes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Version;

/// The outcome of everything that can end in a CNI error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The error codes that the specification reserves (CNI 1.1.0, section 5 "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1: the plugin does not speak this `cniVersion`.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported; the message names it and its value.
    UnsupportedField,
    /// 3: the container is unknown or does not exist: the runtime need not call DEL.
    UnknownContainer,
    /// 4: a `CNI_*` variable is missing or invalid; the message names it.
    InvalidEnvironment,
    /// 5: input or output failed.
    Io,
    /// 6: something could not be decoded.
    Decode,
    /// 7: the configuration is invalid.
    InvalidConfig,
    /// 8: the network namespace is the caller's own or cannot be used (as the reference plugins use it).
    InvalidNetNs,
    /// 11: a transient condition; the runtime should try again later.
    TryAgain,
    /// 50: STATUS: the plugin cannot serve ADD now.
    NotAvailable,
    /// 51: STATUS: the plugin cannot serve ADD, and containers that exist may have limited connectivity.
    LimitedConnectivity,
    /// 999: any other failure (the reference plugins' "internal").
    Internal,
    /// A code that a foreign plugin returned and the specification does not reserve.
    Other(u32),
}

impl Code {
    /// The code as the number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::InvalidNetNs => 8,
            Self::TryAgain => 11,
            Self::NotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Internal => 999,
            Self::Other(code) => code,
        }
    }

    /// The code for a number on the wire.
    pub fn from_number(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            8 => Self::InvalidNetNs,
            11 => Self::TryAgain,
            50 => Self::NotAvailable,
            51 => Self::LimitedConnectivity,
            999 => Self::Internal,
            other => Self::Other(other),
        }
    }
}

/// A failure as the runtime sees it: the specification's error object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What kind of failure it is.
    pub code: Code,
    /// What failed, with which value, and what to change.
    pub msg: String,
    /// More about it, where one sentence does not suffice (may be empty).
    pub details: String,
}

/// The error object on the wire.
#[derive(Serialize, Deserialize)]
pub(crate) struct Wire {
    #[serde(rename = "cniVersion", default, skip_serializing_if = "String::is_empty")]
    pub cni_version: String,
    pub code: u32,
    #[serde(default)]
    pub msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// An error of this code.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// An invalid configuration (code 7).
    pub fn config(msg: impl Into<String>) -> Self {
        Self::new(Code::InvalidConfig, msg)
    }

    /// A `CNI_*` variable that is missing or invalid (code 4).
    pub fn environment(msg: impl Into<String>) -> Self {
        Self::new(Code::InvalidEnvironment, msg)
    }

    /// A failure of input or output (code 5).
    pub fn io(msg: impl Into<String>) -> Self {
        Self::new(Code::Io, msg)
    }

    /// Any other failure (code 999).
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(Code::Internal, msg)
    }

    /// The same error with more about it.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same error with `context: ` before its message.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.msg = format!("{context}: {}", self.msg);
        self
    }

    /// The same error with a further sentence after its details.
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.details = match self.details.as_str() {
            "" => more.to_string(),
            details => format!("{details}; {more}"),
        };
        self
    }

    /// Several errors as one: the first one's code, all messages. `None` where there are none.
    pub fn join(errors: Vec<Self>) -> Option<Self> {
        let code = errors.first()?.code;
        if errors.len() == 1 {
            return errors.into_iter().next();
        }
        let messages: Vec<_> = errors.iter().map(Self::to_string).collect();
        Some(Self::new(code, messages.join("; ")))
    }

    /// The error object for stdout, as the version asks for.
    pub fn to_json(&self, version: Version) -> serde_json::Value {
        let wire = Wire {
            cni_version: version.to_string(),
            code: self.code.number(),
            msg: self.msg.clone(),
            details: self.details.clone(),
        };
        serde_json::to_value(wire).expect("the error object has only strings and a number")
    }

    /// The error object that a foreign plugin printed; `None` where `stdout` is none.
    pub fn from_json(stdout: &[u8]) -> Option<Self> {
        let wire: Wire = serde_json::from_slice(stdout).ok()?;
        Some(Self { code: Code::from_number(wire.code), msg: wire.msg, details: wire.details })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "; {}", self.details) }
    }
}

impl std::error::Error for Error {}
