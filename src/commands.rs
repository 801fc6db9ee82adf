//! The tool's commands.

pub mod install;
pub mod verbs;
