//! Files that Catena keeps, as crashes, power cuts and other people may have left them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    libc,
};

/// What has the name of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A file with this content.
    Content(Vec<u8>),
    /// Something else; this says what it is.
    NoFile(&'static str),
}

/// Reads a file. A link or a pipe in its place is not followed or waited for: Catena makes neither.
pub fn read(path: &Path) -> io::Result<Found> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) => {
            return match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT | Errno::ENOTDIR) => Ok(Found::Nothing),
                Some(Errno::ELOOP) => Ok(Found::NoFile("it is a symbolic link")),
                Some(Errno::ENXIO) => Ok(Found::NoFile("it is no regular file")),
                _ => Err(error),
            };
        }
    };
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Ok(Found::NoFile("it is a directory"));
    }
    if !kind.is_file() {
        return Ok(Found::NoFile("it is no regular file"));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(Found::Content(content))
}

/// Opens a new file to be written, over an old one of the name. What is no file there is set aside.
pub fn create(path: &Path) -> io::Result<File> {
    let open = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
    };
    match open() {
        Err(error)
            if matches!(
                error.raw_os_error().map(Errno::from_raw),
                Some(Errno::EISDIR | Errno::ELOOP | Errno::ENXIO)
            ) =>
        {
            set_aside(path, "it is no regular file");
            open()
        }
        file => file,
    }
}

/// Gives what cannot be understood another name, so that it is in nobody's way, and says so: which file, why, and where
/// it is now. Where that fails it stays.
pub fn set_aside(path: &Path, why: &str) {
    let aside = unused_name(path);
    match fs::rename(path, &aside) {
        Ok(()) => report(path, why, &aside),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            "{} cannot be understood ({why}), and not be set aside as {}: {error}",
            path.display(),
            aside.display()
        ),
    }
}

/// Puts a draft in the place of what cannot be understood, which is set aside. Killed at any point, one of the two has
/// the name.
pub fn replace(draft: &Path, path: &Path, why: &str) -> io::Result<()> {
    if path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == 0) {
        tracing::warn!("{} is empty ({why})", path.display());
        return fs::rename(draft, path);
    }
    match renameat2(AT_FDCWD, draft, AT_FDCWD, path, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => {
            let aside = unused_name(path);
            fs::rename(draft, &aside)?;
            report(path, why, &aside);
            Ok(())
        }
        // A file system that cannot exchange names.
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            set_aside(path, why);
            fs::rename(draft, path)
        }
        Err(errno) => Err(errno.into()),
    }
}

fn report(path: &Path, why: &str, aside: &Path) {
    tracing::warn!(
        "{} cannot be understood ({why}); what was there is set aside as {}",
        path.display(),
        aside.display()
    );
}

/// `<path>.corrupt`, or the first `<path>.corrupt.<n>` that nothing has.
fn unused_name(path: &Path) -> PathBuf {
    let name = format!("{}.corrupt", path.display());
    let further = (2..).map(|n| format!("{name}.{n}"));
    let names = std::iter::once(name.clone()).chain(further).map(PathBuf::from);
    names
        .into_iter()
        .find(|name| name.symlink_metadata().is_err())
        .expect("numbers do not come to an end")
}

/// Whether a name is one that [`set_aside`] gives.
pub fn is_aside(name: &str) -> bool {
    let number = |rest: &str| {
        rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok())
    };
    name.rsplit_once(".corrupt").is_some_and(|(_, rest)| number(rest))
}
