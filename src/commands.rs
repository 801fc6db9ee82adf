//! The tool's commands.

pub mod install;
pub mod try_;
pub mod verbs;
