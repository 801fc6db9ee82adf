//! Resolving against a cluster that is made up in memory ([`fake::Fake`]); files are real.

mod annotation;
mod cluster_network;
mod fake;
mod properties;
mod requests;
