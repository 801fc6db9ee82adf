//! The tool's commands.

mod bin_dir;
pub mod install;
pub mod repair;
pub mod try_;
pub mod uninstall;
pub mod verbs;
