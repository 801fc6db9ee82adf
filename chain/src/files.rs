//! Files that Catena keeps, as crashes, power cuts and other people may have left them.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    libc,
};

use crate::{Error, Result, record::hex};

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

/// Writes a file under its name, replacing an older one as a whole. It and its name are on the disk on return; folders
/// that are missing are made. The file is returned to be appended to.
pub fn write(path: &Path, content: &[u8]) -> Result<File> {
    let file = prepare(path, content)?;
    publish(path)?;
    Ok(file)
}

/// The same without waiting for the disk: it survives the death of the process, and not that of the machine.
pub fn write_unsynced(path: &Path, content: &[u8]) -> Result<()> {
    write_draft(path, content)?;
    fs::rename(draft(path), path).map_err(|error| at(path, &error))
}

/// The first half of [`write`]: all of the file is on the disk, without its name.
pub fn prepare(path: &Path, content: &[u8]) -> Result<File> {
    let file = write_draft(path, content)?;
    file.sync_all().map_err(|error| at(&draft(path), &error))?;
    Ok(file)
}

fn write_draft(path: &Path, content: &[u8]) -> Result<File> {
    let draft = draft(path);
    let dir = path.parent().expect("a file is in a folder");
    let open = || create(&draft);
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            create_dirs(dir)?;
            open()
        }
        file => file,
    };
    let mut file = file.map_err(|error| at(&draft, &error))?;
    file.write_all(content).map_err(|error| at(&draft, &error))?;
    Ok(file)
}

/// The second half: the file gets its name.
pub fn publish(path: &Path) -> Result<()> {
    fs::rename(draft(path), path).map_err(|error| at(path, &error))?;
    sync_dir(path.parent().expect("a file is in a folder"))
}

/// Where a file is written before it gets its name. There is one writer at a time, so one name suffices, and what a killed
/// process left is written over.
pub fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// What a digest begins with in a file's name. No network's name or container id begins with it.
const HASHED: char = '%';

/// A name, or its digest where it is long: all parts together must fit into the 255 bytes of a file's name.
pub fn short(text: &str, longest: usize) -> String {
    if text.len() <= longest { text.to_owned() } else { format!("{HASHED}{}", hex(text)) }
}

/// Whether a name is the digest of a long one.
pub fn is_shortened(name: &str) -> bool {
    name.starts_with(HASHED)
}

/// The names in a folder; none where there is no such folder. Names that are not text are nobody's records.
pub fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(at(dir, &error)),
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

/// Makes a folder and what is missing above it, durably, for root alone.
pub fn create_dirs(dir: &Path) -> Result<()> {
    let existing = dir.ancestors().find(|dir| dir.symlink_metadata().is_ok());
    if let Some(file) = existing.filter(|dir| !dir.is_dir()) {
        set_aside(file, "it is no directory");
    }
    let existing = dir.ancestors().find(|dir| dir.is_dir());
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| at(dir, &error))?;
    // Each new folder is an entry of the one above it.
    for above in dir.ancestors().skip(1) {
        sync_dir(above)?;
        if Some(above) == existing {
            break;
        }
    }
    Ok(())
}

/// Removes a file; it need not be there.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

/// Has a folder's entries on the disk.
pub fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| at(dir, &error))
}

/// An error of a file, which names it.
pub fn at(path: &Path, error: &io::Error) -> Error {
    Error::io(format!("{}: {error}", path.display()))
}
