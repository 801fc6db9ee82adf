//! The directory that runtimes look for plugins in, as `catena install` and `catena uninstall` change it.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use chain::{Error, Result, lock};

use crate::wiring;

/// The name under which the binary itself is installed; the plugins' names are links to it.
pub const BINARY: &str = "catena";

/// Where files that had a plugin's name before are kept.
const ASIDE: &str = ".before-catena";

/// By this a file is known to be Catena, of whatever version: it is in every one, where it is looked for.
const MARK: &str = "catena: this file is the CNI plugins and the tool of that name";

/// The directory, locked until dropped: of two who change it at the same time one waits.
///
/// Every name in it changes by one rename: at no time is one missing or half written, and whoever is killed has at
/// most left a draft, which the next one removes.
pub struct BinDir {
    path: PathBuf,
    _lock: File,
}

/// What has a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    /// Nothing.
    Nobody,
    /// Catena: its binary, or a link to that.
    Catena,
    /// Another file.
    Other,
}

/// For `map_err`: what was tried on which path.
pub fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| {
        let way_out = match error.kind() {
            ErrorKind::ReadOnlyFilesystem => {
                "; make it writable, or name another directory with --bin-dir (and to the runtime)"
            }
            _ => "",
        };
        Error::io(format!("{what} {}: {error}{way_out}", path.display()))
    }
}

impl BinDir {
    /// Locks a directory that is there.
    pub fn lock(path: &Path) -> Result<Self> {
        let dir = File::open(path).map_err(failed("open", path))?;
        lock::exclusive(&dir, path, wiring::dirs()?.lock_wait)
            .map_err(|error| lock::failed(path, &error))?;
        Ok(Self { path: path.to_owned(), _lock: dir })
    }

    /// The path of a name.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where what had a name before is kept.
    pub fn aside(&self, name: &str) -> PathBuf {
        self.path.join(ASIDE).join(name)
    }

    /// What has a name now.
    pub fn holder(&self, name: &str) -> Result<Holder> {
        let path = self.path(name);
        let Ok(file) = path.symlink_metadata() else { return Ok(Holder::Nobody) };
        let is_ours = match name {
            BINARY => file.is_file() && is_catena(&path).map_err(failed("read", &path))?,
            _ => fs::read_link(&path).is_ok_and(|target| target == Path::new(BINARY)),
        };
        Ok(if is_ours { Holder::Catena } else { Holder::Other })
    }

    /// The names that are links to the binary, sorted: those of this version, and of any other.
    pub fn links(&self) -> Result<Vec<String>> {
        let mut links = names(&self.path)?;
        links.retain(|name| {
            name != BINARY && self.holder(name).is_ok_and(|holder| holder == Holder::Catena)
        });
        Ok(links)
    }

    /// The names of what is kept aside, sorted.
    pub fn kept(&self) -> Result<Vec<String>> {
        names(&self.path.join(ASIDE))
    }

    /// Refuses names that are directories: they cannot be kept aside as files are.
    pub fn require_files(&self, names: &[&str]) -> Result<()> {
        let is_dir = |name: &&&str| self.path(name).symlink_metadata().is_ok_and(|at| at.is_dir());
        match names.iter().find(is_dir) {
            None => Ok(()),
            Some(name) => Err(Error::io(format!(
                "{} is a directory, and a plugin's name: move it away, and install again",
                self.path(name).display()
            ))),
        }
    }

    /// Copies an executable, so that it is wholly on the disk before it gets its name.
    pub fn copy(&self, from: &Path, name: &str) -> Result<()> {
        let (draft, path) = (self.draft(name), self.path(name));
        self.keep(name)?;
        let copied = || {
            fs::copy(from, &draft)?;
            let file = File::options().write(true).open(&draft)?;
            file.set_permissions(fs::Permissions::from_mode(0o755))?;
            file.sync_all()?;
            // Nobody can execute a file that is open for writing.
            drop(file);
            fs::rename(&draft, &path)
        };
        copied().inspect_err(|_| _ = fs::remove_file(&draft)).map_err(failed("install", &path))
    }

    /// Gives a name to a link to the binary.
    pub fn link(&self, name: &str) -> Result<()> {
        if self.holder(name)? == Holder::Catena {
            return Ok(());
        }
        let (draft, path) = (self.draft(name), self.path(name));
        self.keep(name)?;
        // Relative, so that the directory may be a container's mount of another path.
        let linked = || symlink(BINARY, &draft).and_then(|()| fs::rename(&draft, &path));
        linked().inspect_err(|_| _ = fs::remove_file(&draft)).map_err(failed("link", &path))
    }

    /// Keeps what has a name aside, where it is not Catena's. It is what [`Self::put_back`] puts back, so a later one
    /// takes the place of an earlier.
    fn keep(&self, name: &str) -> Result<()> {
        if self.holder(name)? != Holder::Other || self.is_kept(name) {
            return Ok(());
        }
        let (path, aside) = (self.path(name), self.aside(name));
        let draft = self.path.join(ASIDE).join(draft_name(name));
        let kept = || {
            fs::create_dir_all(self.path.join(ASIDE))?;
            // A hard link: the name stays where it is until it is taken over.
            fs::hard_link(&path, &draft)?;
            fs::rename(&draft, &aside)
        };
        kept().map_err(failed("keep aside", &path))?;
        tracing::info!("{} is kept as {}", path.display(), aside.display());
        Ok(())
    }

    /// Whether what has a name is the very file that is kept aside: whoever kept it was killed before taking the name.
    pub fn is_kept(&self, name: &str) -> bool {
        let file =
            |path: PathBuf| path.symlink_metadata().ok().map(|file| (file.dev(), file.ino()));
        let kept = file(self.aside(name));
        kept.is_some() && kept == file(self.path(name))
    }

    /// Puts back what had a name before.
    pub fn put_back(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::rename(self.aside(name), &path).map_err(failed("put back", &path))
    }

    /// Forgets what is kept aside under a name.
    pub fn forget(&self, name: &str) -> Result<()> {
        let aside = self.aside(name);
        fs::remove_file(&aside).map_err(failed("remove", &aside))
    }

    /// Removes a name.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// Removes the drafts of those who were killed, and what is kept aside if that is nothing; then all of it is on
    /// the disk.
    pub fn tidy(&self) -> Result<()> {
        let aside = self.path.join(ASIDE);
        for dir in [&self.path, &aside] {
            for draft in hidden(dir)?.into_iter().filter(|name| is_draft(name)) {
                let draft = dir.join(draft);
                fs::remove_file(&draft).map_err(failed("remove", &draft))?;
            }
        }
        match fs::remove_dir(&aside) {
            Err(error)
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
            {
                Err(failed("remove", &aside)(error))
            }
            _ => File::open(&self.path)
                .and_then(|dir| dir.sync_all())
                .map_err(failed("sync", &self.path)),
        }
    }

    fn draft(&self, name: &str) -> PathBuf {
        self.path.join(draft_name(name))
    }
}

/// There is one at a time who makes drafts, so a name's draft has one name.
fn draft_name(name: &str) -> String {
    format!(".{name}.catena-draft")
}

fn is_draft(name: &str) -> bool {
    name.ends_with(".catena-draft")
}

/// Whether a file is Catena's binary.
fn is_catena(path: &Path) -> io::Result<bool> {
    let file = fs::read(path)?;
    Ok(memchr::memmem::find(&file, MARK.as_bytes()).is_some())
}

/// The names in a directory that are nobody's drafts, sorted; none where it is not there.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = list(dir)?;
    names.retain(|name| !name.starts_with('.'));
    Ok(names)
}

fn hidden(dir: &Path) -> Result<Vec<String>> {
    let mut names = list(dir)?;
    names.retain(|name| name.starts_with('.'));
    Ok(names)
}

fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed("list", dir))?,
    };
    let mut names: Vec<_> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}
