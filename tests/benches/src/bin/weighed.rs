//! A plugin's name for the plugin itself, which it executes: adds the name and what the plugin had in memory at most, in kB, to
//! the file `weights` beside that name.
//!
//! Linux counts to a process what the one had that it was started from, so it has to be a small one.

#![allow(missing_docs, reason = "a program")]

use std::{
    env,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};

fn main() -> Result<ExitCode> {
    let own = env::args_os().next().map(PathBuf::from).context("a program without a name")?;
    let (own, name) = own.parent().zip(own.file_name()).context("a name without a folder")?;
    // The plugin is to find all others as usual.
    let dirs = env::var_os("CNI_PATH").unwrap_or_default();
    let dirs: Vec<_> = env::split_paths(&dirs).filter(|dir| dir != own).collect();
    let plugin = dirs.iter().map(|dir| dir.join(name)).find(|plugin| plugin.is_file());
    let plugin = plugin.with_context(|| format!("no other plugin {}", name.display()))?;
    let path = env::join_paths(&dirs)?;
    let status = Command::new(&plugin).env("CNI_PATH", path).status();
    let status = status.with_context(|| format!("run {}", plugin.display()))?;
    note(own, name.as_ref())?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX).into())
}

/// The largest of all processes that have ended: the plugin's and those that it executed.
fn note(dir: &Path, name: &Path) -> Result<()> {
    let kb = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    let weights = dir.join("weights");
    let file = File::options().create(true).append(true).open(&weights);
    let mut file = file.with_context(|| format!("open {}", weights.display()))?;
    writeln!(file, "{} {kb}", name.display())?;
    Ok(())
}
