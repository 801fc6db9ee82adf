//! `catena install`: the binary and its plugins' names in a directory.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use chain::{Error, Result};
use clap::Args;

use crate::wiring;

/// The name under which the binary itself is installed; the plugins' names are links to it.
const BINARY: &str = "catena";

/// Where files that had a plugin's name before are kept.
const ASIDE: &str = ".before-catena";

/// What to install, and where.
#[derive(Args)]
pub struct InstallArgs {
    /// The directory that runtimes look for plugins in; made where it is missing.
    #[arg(long, default_value = "/opt/cni/bin", value_name = "DIR")]
    pub bin_dir: PathBuf,
}

/// Installs. Every name changes by one rename: at no time is one missing or half written, and a running version goes on
/// running on its own file.
pub fn run(args: &InstallArgs) -> Result<()> {
    let dir = &args.bin_dir;
    let failed = |what: &str, path: &Path, error: io::Error| {
        Error::io(format!("{what} {}: {error}", path.display()))
    };
    fs::create_dir_all(dir).map_err(|error| failed("make", dir, error))?;
    let own =
        std::env::current_exe().map_err(|error| Error::io(format!("find this binary: {error}")))?;

    let new = dir.join(format!(".{BINARY}.{}", std::process::id()));
    let target = dir.join(BINARY);
    copy_durably(&own, &new)
        .and_then(|()| fs::rename(&new, &target))
        .inspect_err(|_| _ = fs::remove_file(&new))
        .map_err(|error| failed("install", &target, error))?;

    for kind in wiring::builtin_kinds().into_iter().filter(|kind| *kind != BINARY) {
        let link = dir.join(kind);
        link_to_binary(dir, kind).map_err(|error| failed("link", &link, error))?;
    }
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed("sync", dir, error))
}

/// Copies an executable so that it is wholly on the disk before it gets its name.
fn copy_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    let file = fs::File::options().write(true).open(to)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    file.sync_all()
}

/// Puts a link of this name over whatever had it; a file or a link of someone else's is kept aside.
fn link_to_binary(dir: &Path, name: &str) -> io::Result<()> {
    let link = dir.join(name);
    if fs::read_link(&link).is_ok_and(|target| target == Path::new(BINARY)) {
        return Ok(());
    }
    if link.symlink_metadata().is_ok() {
        let aside = dir.join(ASIDE);
        fs::create_dir_all(&aside)?;
        // A hard link keeps the name in place until the rename below takes it over.
        match fs::hard_link(&link, aside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => tracing::info!("{} is kept in {}", link.display(), aside.display()),
        }
    }
    let new = dir.join(format!(".{name}.{}", std::process::id()));
    symlink(BINARY, &new)?;
    fs::rename(&new, &link).inspect_err(|_| _ = fs::remove_file(&new))
}
