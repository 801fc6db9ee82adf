//! What can go wrong with leases.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use super::owner::Owner;

/// A failure of allocation or release.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The attachment has an address of the set already.
    #[error(
        "{address} has been allocated to {owner} already: duplicate allocation is not allowed; DEL it before another ADD"
    )]
    Duplicate {
        /// The address that it has.
        address: IpAddr,
        /// The attachment.
        owner: Owner,
    },
    /// All addresses of a set are taken.
    #[error(
        "{what} no free address: {leases} leases in {dir}; remove attachments that are gone (DEL, GC), or give the network \
         a larger range"
    )]
    Full {
        /// The set, with the verb ("subnet 10.1.0.0/24 has").
        what: String,
        /// How many leases the directory holds in this set.
        leases: usize,
        /// The directory of the network's leases.
        dir: PathBuf,
    },
    /// An address that was asked for belongs to another attachment.
    #[error("requested address {address} is not available: {} has it; ask for another, or none", holder(.owner))]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it, where that is known.
        owner: Option<Owner>,
    },
    /// An address that was asked for is a gateway.
    #[error("requested address {0} is the gateway of its subnet; ask for another")]
    Gateway(IpAddr),
    /// Addresses that were asked for are in no set, or more than one is in the same.
    #[error(
        "failed to allocate all requested addresses: {}; each must be in a range set of its own, and those are {sets}",
        list(.addresses)
    )]
    NotAllocated {
        /// The addresses left over.
        addresses: Vec<IpAddr>,
        /// The range sets.
        sets: String,
    },
    /// It could not be told which boot this is.
    #[error("{0}")]
    Boot(chain::Error),
    /// A file could not be used.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: what was tried on which file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }
}

impl From<Error> for chain::Error {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                chain::Code::TryAgain
            }
            Error::Io { .. } | Error::Boot(_) => chain::Code::Io,
            // The reference plugin's code for all of them.
            Error::Duplicate { .. }
            | Error::Full { .. }
            | Error::Taken { .. }
            | Error::Gateway(_)
            | Error::NotAllocated { .. } => chain::Code::Internal,
        };
        Self::new(code, error.to_string())
    }
}

fn holder(owner: &Option<Owner>) -> String {
    owner
        .as_ref()
        .map_or_else(|| "a lease without an owner".to_owned(), |o| format!("container {o}"))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
