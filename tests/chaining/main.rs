//! Catena beside other CNI software: the networks of docs/chaining.md, as they stand there.
#![allow(clippy::unwrap_used, reason = "test code")]

mod calico;
mod cilium;
mod documented;
mod flannel;
mod secondary;
mod ways;
mod weave;

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
