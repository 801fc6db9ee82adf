//! Who has a lease: the content of a lease file, and the index of owners beside the reference's directory.
//!
//! The reference's directory answers "who has this address", but "which addresses has this attachment" only by
//! reading every file in it. The index answers that with one file per attachment, and adds which boot the lease
//! belongs to. The lease files alone say what is leased: an entry of the index that they do not bear out is void.

use std::{
    fmt, fs,
    io::{self, ErrorKind, Write},
    net::IpAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use chain::files;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Error;

/// An attachment as a lease names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`; empty in leases of host-local before 0.7, which kept the container id alone.
    pub ifname: String,
}

impl Owner {
    /// An owner of these names.
    pub fn new(container_id: impl Into<String>, ifname: impl Into<String>) -> Self {
        Self { container_id: container_id.into(), ifname: ifname.into() }
    }

    /// What the reference plugin writes into a lease file.
    pub fn content(&self) -> String {
        format!("{}\r\n{}", self.container_id, self.ifname)
    }

    /// The owner that a lease file names; `None` where it is empty or damaged, as a crash leaves it. (Whoever wrote it may
    /// have taken ids that the specification does not allow, but none with blanks or brackets at its beginning.)
    pub fn from_content(content: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(content).ok()?.trim();
        let (id, ifname) = text.split_once("\r\n").unwrap_or((text, ""));
        let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic());
        let is_id = id.starts_with(|c: char| c.is_ascii_alphanumeric()) && is_name(id);
        (is_id && is_name(ifname)).then(|| Self::new(id, ifname))
    }

    /// Whether this is what this owner's lease file holds, cut off somewhere.
    pub fn is_cut_off(&self, content: &[u8]) -> bool {
        let whole = self.content();
        !self.ifname.is_empty()
            && content.len() < whole.len()
            && whole.as_bytes().starts_with(content)
    }

    /// The owner without its interface, as leases of host-local before 0.7 name it.
    pub fn without_ifname(&self) -> Self {
        Self::new(self.container_id.clone(), "")
    }

    /// The file's name in the index.
    ///
    /// The names of an attachment were checked, and have no ':'; but those in a lease file are what somebody wrote there.
    fn file_name(&self) -> String {
        let name = format!("{}:{}", self.container_id, self.ifname);
        let plain = name.len() <= 200
            && !name.starts_with(['.', ':'])
            && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            && name.matches(':').count() == 1;
        if plain { name } else { format!("{}:", digest(self.content().as_bytes())) }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ifname.is_empty() {
            return f.write_str(&self.container_id);
        }
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// What the index knows of one attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// `CNI_CONTAINERID`.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// The boot that the leases belong to; none for those that another program made.
    pub boot: Option<String>,
    /// The addresses: leased, or about to be.
    pub addresses: Vec<IpAddr>,
}

impl Entry {
    /// An entry of this owner.
    pub fn new(owner: &Owner, boot: Option<String>, addresses: Vec<IpAddr>) -> Self {
        Self {
            container_id: owner.container_id.clone(),
            ifname: owner.ifname.clone(),
            boot,
            addresses,
        }
    }

    /// Whose entry it is.
    pub fn owner(&self) -> Owner {
        Owner::new(&self.container_id, &self.ifname)
    }
}

/// An entry that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedEntry {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// Whose it is, where the name tells.
    pub owner: Option<Owner>,
}

/// The index of one network's directory. Used only under that directory's lock.
///
/// Its files are replaced by rename and not synced: what is in them matters as long as the boot lasts, and within a
/// boot the page cache does not forget. A power cut may leave an entry empty; such an entry is of an earlier boot.
#[derive(Debug)]
pub struct Index {
    dir: PathBuf,
}

/// What was found for an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No entry.
    Nothing,
    /// An entry.
    Entry(Entry),
    /// An entry that cannot be read any more.
    Damaged,
}

impl Index {
    /// The index of the leases in `data_dir`/`network`, under `state_dir`. Nothing is created yet.
    pub fn new(state_dir: &Path, data_dir: &Path, network: &str) -> Self {
        // Two data directories may have a network of the same name.
        let digest = digest(data_dir.join(network).as_os_str().as_encoded_bytes());
        let name = if network.len() <= 200 { network } else { &digest };
        Self { dir: state_dir.join("leases").join(format!("{name}@{}", &digest[..8])) }
    }

    /// Creates its directory.
    pub fn create(&self) -> Result<(), Error> {
        if self.dir.is_dir() {
            return Ok(());
        }
        if self.dir.symlink_metadata().is_ok() {
            files::set_aside(&self.dir, "it is no directory");
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(Error::io("create the directory", &self.dir))
    }

    /// The file whose time of modification is that of the directory of leases as this index knows it, and that names the
    /// boot in which that was.
    pub fn stamp(&self) -> PathBuf {
        self.dir.join(".stamp")
    }

    /// Reads the entry of an owner.
    pub fn read(&self, owner: &Owner) -> Result<Found, Error> {
        let path = self.dir.join(owner.file_name());
        Ok(match files::read(&path).map_err(Error::io("read", &path))? {
            files::Found::Nothing => Found::Nothing,
            files::Found::NoFile(_) => Found::Damaged,
            files::Found::Content(bytes) => match serde_json::from_slice::<Entry>(&bytes) {
                Ok(entry) if entry.owner() == *owner => Found::Entry(entry),
                _ => Found::Damaged,
            },
        })
    }

    /// Writes an entry, or removes it where it has no addresses.
    pub fn write(&self, entry: &Entry) -> Result<(), Error> {
        let owner = entry.owner();
        if entry.addresses.is_empty() {
            return self.remove(&owner);
        }
        let path = self.dir.join(owner.file_name());
        let aside = self.aside();
        let text = serde_json::to_vec(entry).expect("an entry has only strings and addresses");
        let write = || -> io::Result<()> {
            files::create(&aside)?.write_all(&text)?;
            match fs::rename(&aside, &path) {
                Err(error) if error.kind() == ErrorKind::IsADirectory => {
                    files::set_aside(&path, "it is a directory");
                    fs::rename(&aside, &path)
                }
                renamed => renamed,
            }
        };
        write().map_err(Error::io("write", &path))
    }

    /// Removes the entry of an owner, and what a killed process has left of one.
    pub fn remove(&self, owner: &Owner) -> Result<(), Error> {
        self.remove_file(&self.dir.join(owner.file_name()))?;
        self.remove_aside()
    }

    /// Removes an entry that never got its name, because the process was killed.
    pub fn remove_aside(&self) -> Result<(), Error> {
        self.remove_file(&self.aside())
    }

    /// Where an entry is written before it gets its name.
    fn aside(&self) -> PathBuf {
        self.dir.join(".new")
    }

    fn remove_file(&self, path: &Path) -> Result<(), Error> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }

    /// All entries that can be read, and those that cannot.
    pub fn list(&self) -> Result<(Vec<Entry>, Vec<DamagedEntry>), Error> {
        let doing = "list";
        let (mut entries, mut damaged) = (Vec::new(), Vec::new());
        for file in fs::read_dir(&self.dir).map_err(Error::io(doing, &self.dir))? {
            let name = file.map_err(Error::io(doing, &self.dir))?.file_name();
            let is_entry = |name: &&str| !name.starts_with('.') && !files::is_aside(name);
            let Some(name) = name.to_str().filter(is_entry) else { continue };
            let path = self.dir.join(name);
            let why = match files::read(&path).map_err(Error::io("read", &path))? {
                files::Found::Nothing => continue,
                files::Found::NoFile(why) => why.to_owned(),
                files::Found::Content(bytes) => match serde_json::from_slice::<Entry>(&bytes) {
                    Ok(entry) if entry.owner().file_name() == name => {
                        entries.push(entry);
                        continue;
                    }
                    Ok(_) => "it is about another attachment than its name says".to_owned(),
                    Err(error) => error.to_string(),
                },
            };
            let owner = name.split_once(':').map(|(id, ifname)| Owner::new(id, ifname));
            damaged.push(DamagedEntry { path, why, owner });
        }
        Ok((entries, damaged))
    }

    /// The boot in which the index was last brought into step with the leases, where that is known.
    pub fn last_boot(&self) -> Result<Option<String>, Error> {
        let stamp = self.stamp();
        let why = match files::read(&stamp).map_err(Error::io("read", &stamp))? {
            files::Found::Nothing => return Ok(None),
            files::Found::NoFile(why) => why,
            files::Found::Content(bytes) => match String::from_utf8(bytes) {
                // As Dirs::boot() makes it: two UUIDs.
                Ok(boot) if boot.len() == 73 && boot.is_ascii() => return Ok(Some(boot)),
                _ => "it names no boot",
            },
        };
        files::set_aside(&stamp, why);
        Ok(None)
    }

    /// Notes that the index is in step with the leases in this boot. It is on the disk on return: what is damaged when
    /// the next boot comes is told by it from what is damaged in this one.
    pub fn set_boot(&self, boot: &str) -> io::Result<()> {
        let stamp = self.stamp();
        let draft = self.dir.join(".stamp.new");
        let mut file = files::create(&draft)?;
        file.write_all(boot.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &stamp)
    }
}

/// SHA-256 in hexadecimal digits.
fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_file_names_its_owner_as_the_reference_writes_it() {
        let owner = Owner::new("c1", "eth0");
        assert_eq!(owner.content(), "c1\r\neth0");
        assert_eq!(Owner::from_content(b"c1\r\neth0"), Some(owner.clone()));
        assert_eq!(Owner::from_content(b" c1\n"), Some(owner.without_ifname()));
        for damaged in [&b""[..], b" \n", b"\0\0\0\0\0\0\0\0", b"\xff\xfe"] {
            assert_eq!(Owner::from_content(damaged), None);
        }
    }

    #[test]
    fn owners_never_share_a_file_and_never_leave_the_directory() {
        let names = [
            Owner::new("c1", "eth0"),
            Owner::new("c1", ""),
            Owner::new("c1", "eth1"),
            Owner::new("x".repeat(300), "eth0"),
            Owner::new("x".repeat(301), "eth0"),
            Owner::new("../../etc/passwd", "eth0"),
            Owner::new("a:b", "c"),
            Owner::new("a", "b:c"),
            Owner::new("a", "../../etc/passwd"),
            Owner::new("", "eth0"),
            Owner::new("", ""),
        ]
        .map(|owner| owner.file_name());
        let mut unique = names.to_vec();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        for name in names {
            assert!(name.len() <= 255 && !name.contains('/') && !name.starts_with('.'), "{name}");
        }
    }

    #[test]
    fn a_damaged_entry_is_found_as_such() {
        let state = tempfile::tempdir().unwrap();
        let index = Index::new(state.path(), Path::new("/var/lib/cni/networks"), "web");
        index.create().unwrap();
        let (good, bad) = (Owner::new("good", "eth0"), Owner::new("bad", "eth0"));
        let entry = Entry::new(&good, Some("b".into()), vec!["10.1.0.2".parse().unwrap()]);
        index.write(&entry).unwrap();
        fs::write(index.dir.join("bad:eth0"), "").unwrap();
        assert_eq!(index.read(&good).unwrap(), Found::Entry(entry.clone()));
        assert_eq!(index.read(&bad).unwrap(), Found::Damaged);
        let (entries, damaged) = index.list().unwrap();
        assert_eq!(entries, [entry]);
        assert_eq!(damaged.into_iter().map(|entry| entry.owner).collect::<Vec<_>>(), [Some(bad)]);
    }
}
