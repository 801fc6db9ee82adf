//! What can go wrong between this crate and the kernel.

use std::{io, path::PathBuf};

use nix::errno::Errno;

use crate::{element::Element, owner::Owner, ruleset::Gap};

/// An error of this crate. Nothing was changed in the kernel when one is returned: each commit is one
/// transaction of nf_tables.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another owner holds the element, and the caller did not take it over.
    #[error("{element} is held by \"{holder}\"")]
    Held {
        /// The element that was to be added.
        element: Box<Element>,
        /// Who has it.
        holder: Owner,
    },
    /// The same element was asked for twice in one transaction.
    #[error("{element} is asked for twice in one request: ask for it once")]
    Duplicate {
        /// The second one.
        element: Box<Element>,
    },
    /// The element cannot exist.
    #[error("{element}: {why}")]
    Invalid {
        /// The element.
        element: Box<Element>,
        /// What is wrong with it.
        why: String,
    },
    /// The process lacks CAP_NET_ADMIN in the user namespace that owns the network namespace.
    #[error("nf_tables: not permitted: CAP_NET_ADMIN in this network namespace is needed")]
    NotPermitted,
    /// The kernel has no nf_tables.
    #[error(
        "this kernel has no nf_tables: load the module nf_tables, or build it with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET ({0})"
    )]
    NoNfTables(Errno),
    /// The kernel has no nf_tables for bridges, which MAC spoof checks need.
    #[error(
        "this kernel has no nf_tables for bridges, which a MAC spoof check needs: load the module nf_tables_bridge, or do without the check ({0})"
    )]
    NoBridgeFamily(Errno),
    /// The kernel refused a part of a transaction.
    #[error("the kernel refused {object}: {errno}")]
    Rejected {
        /// Which table, chain, rule or element, in nft's words.
        object: String,
        /// Why.
        errno: Errno,
    },
    /// A chain of another's drops the packets of pods, and the rule that lets them through cannot be put into it.
    #[error(
        "{gap}; the kernel refused to put that rule there ({errno}). A table with the flag \"owner\" can be changed by the \
         program that made it only: have that program add the rule, or keep the table without the flag (firewalld: \
         NftablesTableOwner=no in firewalld.conf)"
    )]
    Forward {
        /// The chain, and what is missing in it.
        gap: Gap,
        /// Why.
        errno: Errno,
    },
    /// A forward chain of another's drops packets before they can bear the bit of the mark that a rule could accept.
    #[error(
        "{why}, and packets of containers come to it (priority {priority}) before Catena can mark them: give the chain \
         a priority above {after}"
    )]
    Unmarked {
        /// What drops there.
        why: String,
        /// Priority of the chain.
        priority: i32,
        /// Priority of the chain that marks.
        after: i32,
    },
    /// Others changed the ruleset faster than this process could follow.
    #[error(
        "the nf_tables ruleset was changed by others {attempts} times in a row while this change was being made"
    )]
    Busy {
        /// How many attempts were made.
        attempts: u32,
    },
    /// The lock file cannot be opened or locked.
    #[error("lock {path}: {source}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The netlink socket failed.
    #[error("nf_tables socket: {0}")]
    Io(#[from] io::Error),
    /// The kernel's answer could not be understood.
    #[error("nf_tables answered what this program does not understand: {0}")]
    Protocol(String),
    /// A template is not in the subset of nft's language that this crate compiles.
    #[error("{file}:{line}: {why}")]
    Template {
        /// Name of the template.
        file: String,
        /// Line in it, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}
