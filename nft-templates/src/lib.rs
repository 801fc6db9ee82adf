//! The nftables ruleset: its text, its elements, and how they get into the kernel.
//!
//! The ruleset is static and readable: `catena.nft`, `bridge.nft` and `policy.nft` in this crate's directory,
//! in nft's own language ([`TEMPLATES`]). Pods are elements of its sets and maps ([`Element`]), and each carries its
//! [`Owner`] as its comment. A [`Transaction`] adds and removes elements; [`Ruleset::commit`] makes it one
//! transaction of nf_tables, over netlink, and installs the ruleset where it is missing or of another version.
//! Into others' forward chains [`Ruleset::let_through`] puts one static rule (`forward.nft`, `iptables.nft`).
//! No `nft` is run: a small compiler knows the subset of its language that the files use.
//!
//! This crate knows no CNI.

mod cluster;
mod comment;
mod compile;
mod conditions;
mod element;
mod error;
mod language;
mod netlink;
pub mod others;
mod owner;
mod policy;
mod ruleset;
mod set_element;
mod stored;
mod templates;
mod transaction;

pub use self::{
    cluster::Cluster,
    conditions::{Condition, Subject},
    element::{Element, IpFamily, Key, Protocol},
    error::Error,
    owner::Owner,
    policy::{Action, Policy},
    ruleset::{Gap, Held, OtherVersion, Ruleset},
    templates::TEMPLATES,
    transaction::{Committed, Conflict, Missing, Problem, Resolution, Transaction},
};
