//! The leases of one network: the reference plugin's directory, byte for byte as it keeps it, so that both can be
//! used on one node at the same time and in turn.
//!
//! `<dataDir>/<network>/` holds a file per address, named as the address is printed and made with `O_EXCL`, which
//! names its owner; `last_reserved_ip.<set>`, from which allocation goes on; and `lock`, which is held over every use.
//!
//! Nothing here is synced to disk: a lease matters as long as its container lives, and no container outlives the
//! boot. What a power cut leaves half-written is found and reclaimed.

mod step;

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{ErrorKind, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use chain::{Dirs, files};
use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use super::{
    error::Error,
    owner::{Entry, Found, Index, Owner},
};

/// How old a damaged lease file without an owner must be before it is reclaimed. Whoever keeps to the lock has
/// written it by then; the wait is for those who do not.
const DAMAGED_FOR: Duration = Duration::from_secs(60);

/// What the file of an address says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// There is none.
    Free,
    /// This attachment has it.
    Held(Owner),
    /// It names nobody: a crash came between its making and its writing.
    Damaged,
}

/// The leases of one network, locked until dropped.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    index: Index,
    boot: String,
    /// Whether the index knows all that is in the directory.
    in_step: bool,
    /// The boot in which it last did, where that is known.
    last_boot: Option<String>,
    _lock: File,
}

impl Store {
    /// Locks the leases of a network; their directory is made where there is none.
    pub fn open(dirs: &Dirs, data_dir: &Path, network: &str) -> Result<Self, Error> {
        let dir = data_dir.join(network);
        if !dir.is_dir() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&dir)
                .map_err(Error::io("create the directory", &dir))?;
        }
        let lock = lock(&dir.join("lock"), dirs.lock_wait)?;
        let boot = dirs.boot().map_err(Error::Boot)?;
        let index = Index::new(&dirs.state, data_dir, network);
        index.create()?;
        let last_boot = index.last_boot()?;
        let mut store = Self { dir, index, boot, in_step: false, last_boot, _lock: lock };
        store.in_step = store.is_in_step();
        if !store.in_step {
            store.synchronize()?;
        }
        Ok(store)
    }

    /// The same where the directory exists; otherwise there is nothing to release and nothing to check.
    pub fn open_existing(
        dirs: &Dirs,
        data_dir: &Path,
        network: &str,
    ) -> Result<Option<Self>, Error> {
        if !data_dir.join(network).is_dir() {
            return Ok(None);
        }
        Self::open(dirs, data_dir, network).map(Some)
    }

    /// The directory of the leases.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether an address has a lease.
    pub fn is_leased(&self, address: IpAddr) -> Result<bool, Error> {
        let path = self.path(address);
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look for", &path)(error)),
        }
    }

    /// What the file of an address says.
    pub fn lease(&self, address: IpAddr) -> Result<Lease, Error> {
        self.lease_read(address, |_| false)
    }

    /// The same of an address that, by the index, is this owner's: what is left of its name is damaged, and nobody
    /// else's.
    fn lease_of(&self, address: IpAddr, owner: &Owner) -> Result<Lease, Error> {
        self.lease_read(address, |content| owner.is_cut_off(content))
    }

    fn lease_read(
        &self,
        address: IpAddr,
        is_damaged: impl Fn(&[u8]) -> bool,
    ) -> Result<Lease, Error> {
        let path = self.path(address);
        Ok(match files::read(&path).map_err(Error::io("read", &path))? {
            files::Found::Nothing => Lease::Free,
            files::Found::NoFile(_) => Lease::Damaged,
            files::Found::Content(content) if is_damaged(&content) => Lease::Damaged,
            files::Found::Content(content) => {
                Owner::from_content(&content).map_or(Lease::Damaged, Lease::Held)
            }
        })
    }

    /// All addresses that have a lease.
    pub fn leased(&self) -> Result<HashSet<IpAddr>, Error> {
        let doing = "list";
        let mut addresses = HashSet::new();
        for file in fs::read_dir(&self.dir).map_err(Error::io(doing, &self.dir))? {
            let name = file.map_err(Error::io(doing, &self.dir))?.file_name();
            addresses.extend(name.to_str().and_then(|name| name.parse::<IpAddr>().ok()));
        }
        Ok(addresses)
    }

    /// The addresses that an attachment has, and whether it has them from another boot.
    pub fn held_by(&mut self, owner: &Owner) -> Result<(Vec<IpAddr>, bool), Error> {
        let Some(entry) = self.entry(owner)? else { return Ok((Vec::new(), false)) };
        let mut held = Vec::new();
        for &address in &entry.addresses {
            match self.lease_of(address, owner)? {
                Lease::Held(holder) if holder == *owner => held.push(address),
                Lease::Damaged => {
                    self.mend(address, owner)?;
                    held.push(address);
                }
                _ => {}
            }
        }
        Ok((held, self.is_stale(&entry)))
    }

    /// The address that allocation from a set has last given out.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        let path = self.last_reserved_path(set);
        let why = match files::read(&path).ok()? {
            files::Found::Nothing => return None,
            files::Found::NoFile(why) => why,
            files::Found::Content(content) => {
                let text = std::str::from_utf8(&content).ok();
                match text.and_then(|text| text.trim().parse().ok()) {
                    Some(address) => return Some(address),
                    None => "it names no address",
                }
            }
        };
        // Allocation goes on from the beginning.
        files::set_aside(&path, why);
        None
    }

    /// Leases all of these addresses (of set 0, 1, …) to an attachment that has the addresses in `held` already.
    ///
    /// The index is written first: killed at any point, the leases made so far are found through it.
    /// Where one is taken meanwhile by somebody who does not keep to the lock, nothing is leased and that one returned.
    pub fn lease_all(
        &mut self,
        owner: &Owner,
        held: &[IpAddr],
        addresses: &[IpAddr],
    ) -> Result<Option<IpAddr>, Error> {
        let all = held.iter().chain(addresses).copied().collect();
        // Other leases that it has may be another program's, whose boot nobody knows.
        let boot = held.is_empty().then(|| self.boot.clone());
        self.index.write(&Entry::new(owner, boot.clone(), all))?;
        let mut taken = Ok(None);
        let mut made = Vec::new();
        for &address in addresses {
            match self.create(address, owner) {
                Ok(true) => made.push(address),
                Ok(false) => taken = Ok(Some(address)),
                Err(error) => taken = Err(error),
            }
            if !matches!(taken, Ok(None)) {
                break;
            }
        }
        if matches!(taken, Ok(None)) {
            for (set, address) in addresses.iter().enumerate() {
                // Only the order of allocation hangs on it.
                if let Err(error) = self.set_last_reserved(set, *address) {
                    tracing::warn!(%error, "the last address given out could not be noted");
                }
            }
            return taken;
        }
        for address in made {
            self.remove(address)?;
        }
        self.index.write(&Entry::new(owner, boot, held.to_vec()))?;
        taken
    }

    /// Releases what an attachment has, in the whole network; leases that name its container id alone (host-local
    /// before 0.7) where none names its interface too. Returns the addresses.
    pub fn release(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, Error> {
        let released = self.release_exactly(owner)?;
        if !released.is_empty() || owner.ifname.is_empty() {
            return Ok(released);
        }
        self.release_exactly(&owner.without_ifname())
    }

    /// Releases the leases of all attachments but those that are to stay, and damaged ones of nobody.
    pub fn retain(
        &mut self,
        stays: impl Fn(&Owner) -> bool,
    ) -> Result<Vec<(Owner, IpAddr)>, Error> {
        // Not on the index alone: what it might have missed would stay for good.
        self.synchronize()?;
        let (entries, _) = self.index.list()?;
        let mut released = Vec::new();
        for owner in entries.iter().map(Entry::owner).filter(|owner| !stays(owner)) {
            let addresses = self.release_exactly(&owner)?;
            released.extend(addresses.into_iter().map(|address| (owner.clone(), address)));
        }
        self.reclaim_damaged()?;
        self.index.remove_aside()?;
        Ok(released)
    }

    /// Makes room: releases the leases of other boots, whose containers are gone with them, and damaged ones of
    /// nobody. Leases that another program made are never taken for their age. Returns how many were released.
    pub fn reclaim(&mut self) -> Result<usize, Error> {
        let (mut entries, damaged) = self.index.list()?;
        if !damaged.is_empty() {
            self.synchronize()?;
            entries = self.index.list()?.0;
        }
        let mut reclaimed = 0;
        for entry in &entries {
            if self.is_stale(entry) {
                reclaimed += self.release_exactly(&entry.owner())?.len();
            }
        }
        reclaimed += self.reclaim_damaged()?;
        if reclaimed > 0 {
            tracing::info!(
                reclaimed,
                dir = %self.dir.display(),
                "leases of an earlier boot or of nobody were reclaimed"
            );
        }
        Ok(reclaimed)
    }

    /// How many leases [`Self::reclaim`] would release.
    pub fn reclaimable(&self) -> Result<usize, Error> {
        let (entries, _) = self.index.list()?;
        let stale: usize =
            entries.iter().filter(|entry| self.is_stale(entry)).map(|e| e.addresses.len()).sum();
        Ok(stale + self.damaged()?.len())
    }

    /// Reclaims one address that is asked for, where its lease is of another boot or of nobody.
    pub fn reclaim_address(&mut self, address: IpAddr) -> Result<bool, Error> {
        match self.lease(address)? {
            Lease::Free => Ok(true),
            Lease::Damaged => {
                let damaged = self.damaged()?.contains(&address);
                if damaged {
                    self.discard(address)?;
                }
                Ok(damaged)
            }
            Lease::Held(owner) => match self.entry(&owner)? {
                Some(entry) if self.is_stale(&entry) => {
                    Ok(self.release_exactly(&owner)?.contains(&address))
                }
                _ => Ok(false),
            },
        }
    }
}

// === the directory ===

impl Store {
    fn path(&self, address: IpAddr) -> PathBuf {
        self.dir.join(address.to_string())
    }

    fn last_reserved_path(&self, set: usize) -> PathBuf {
        self.dir.join(format!("last_reserved_ip.{set}"))
    }

    /// `false` where the address has a lease.
    fn create(&self, address: IpAddr, owner: &Owner) -> Result<bool, Error> {
        let path = self.path(address);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) => return Err(Error::io("create", &path)(error)),
        };
        if let Err(error) = file.write_all(owner.content().as_bytes()) {
            self.remove(address)?;
            return Err(Error::io("write", &path)(error));
        }
        Ok(true)
    }

    fn remove(&self, address: IpAddr) -> Result<(), Error> {
        let path = self.path(address);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Removes a lease that is damaged; what is in it is set aside.
    fn discard(&self, address: IpAddr) -> Result<(), Error> {
        let path = self.path(address);
        if path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == 0) {
            tracing::warn!("{} is empty, and is removed", path.display());
            return self.remove(address);
        }
        files::set_aside(&path, "it names no owner");
        Ok(())
    }

    /// Writes a lease that is damaged again, since the index says whose it is; what is in it is set aside.
    fn mend(&self, address: IpAddr, owner: &Owner) -> Result<(), Error> {
        let (path, draft) = (self.path(address), self.dir.join(format!(".{address}.new")));
        let why = format!("it does not name its owner, {owner}, and is written again");
        files::create(&draft)
            .and_then(|mut file| file.write_all(owner.content().as_bytes()))
            .and_then(|()| files::replace(&draft, &path, &why))
            .map_err(Error::io("write", &path))
    }

    fn set_last_reserved(&self, set: usize, address: IpAddr) -> Result<(), Error> {
        let path = self.last_reserved_path(set);
        files::create(&path)
            .and_then(|mut file| file.write_all(address.to_string().as_bytes()))
            .map_err(Error::io("write", &path))
    }

    /// Damaged leases that are old enough and that no entry of the index explains.
    fn damaged(&self) -> Result<Vec<IpAddr>, Error> {
        let mut damaged = Vec::new();
        for address in self.leased()? {
            let changed = self.path(address).symlink_metadata().and_then(|file| file.modified());
            // One that was changed later than now was so before the clock was set back.
            let old = changed.is_ok_and(|at| {
                let now = SystemTime::now();
                let away = now.duration_since(at).or_else(|_| at.duration_since(now));
                away.is_ok_and(|time| time >= DAMAGED_FOR)
            });
            if old && self.lease(address)? == Lease::Damaged {
                damaged.push(address);
            }
        }
        if !damaged.is_empty() {
            let (entries, _) = self.index.list()?;
            damaged.retain(|address| !entries.iter().any(|e| e.addresses.contains(address)));
        }
        Ok(damaged)
    }

    fn reclaim_damaged(&mut self) -> Result<usize, Error> {
        let damaged = self.damaged()?;
        for address in &damaged {
            self.discard(*address)?;
        }
        Ok(damaged.len())
    }
}

// === the index ===

impl Store {
    fn is_stale(&self, entry: &Entry) -> bool {
        entry.boot.as_ref().is_some_and(|boot| *boot != self.boot)
    }

    fn entry(&mut self, owner: &Owner) -> Result<Option<Entry>, Error> {
        let mut found = self.index.read(owner)?;
        if found == Found::Damaged {
            self.synchronize()?;
            found = self.index.read(owner)?;
        }
        Ok(match found {
            Found::Entry(entry) if entry.owner() == *owner => Some(entry),
            _ => None,
        })
    }

    fn release_exactly(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, Error> {
        let Some(entry) = self.entry(owner)? else {
            self.index.remove_aside()?;
            return Ok(Vec::new());
        };
        let mut released = Vec::new();
        for &address in &entry.addresses {
            match self.lease_of(address, owner)? {
                Lease::Held(holder) if holder == *owner => self.remove(address)?,
                // Its entry says whose it is.
                Lease::Damaged => self.discard(address)?,
                _ => continue,
            }
            released.push(address);
        }
        self.index.remove(owner)?;
        Ok(released)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.in_step {
            return;
        }
        if let Err(error) = self.mark() {
            // The next use reads the directory again.
            tracing::debug!(%error, dir = %self.dir.display(), "the index could not be stamped");
        }
    }
}

/// Takes the directory's lock, as the reference plugin does: `flock` on a file of its own.
fn lock(path: &Path, longest: Duration) -> Result<File, Error> {
    let flags = OFlag::O_RDONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::from_bits_truncate(0o750))
        .map_err(|errno| Error::io("open", path)(errno.into()))?;
    let file = File::from(fd);
    chain::lock::exclusive(&file, path, longest).map_err(Error::io("lock", path))?;
    Ok(file)
}
