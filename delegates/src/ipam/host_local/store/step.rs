//! The index in step with the directory of leases: whether it is, and how it comes to be.

use std::{
    collections::HashMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use chain::files;
use nix::{
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};

use super::{
    super::{
        error::Error,
        owner::{Entry, Owner},
    },
    Lease, Store,
};

impl Store {
    /// Whether nobody but this store has changed the directory since the index was last in step with it, in this boot:
    /// then its time of modification is what [`Self::mark`] set.
    pub(super) fn is_in_step(&self) -> bool {
        let time = |path: &Path| fs::metadata(path).map(|m| (m.mtime(), m.mtime_nsec())).ok();
        let dir = time(&self.dir);
        // Without nanoseconds the file system's clock is too coarse to tell.
        self.is_of_this_boot()
            && dir.is_some_and(|(_, nanoseconds)| nanoseconds != 0)
            && dir == time(&self.index.stamp())
    }

    /// Whether the index was in step with the directory in this boot before.
    fn is_of_this_boot(&self) -> bool {
        self.last_boot.as_ref() == Some(&self.boot)
    }

    /// Sets the directory's time of modification to one that the kernel's coarse clock hits by chance only, and notes
    /// it in the index.
    pub(super) fn mark(&self) -> io::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = TimeSpec::from_duration(now);
        let stamp = self.index.stamp();
        if !self.is_of_this_boot() {
            self.index.set_boot(&self.boot)?;
        }
        for path in [&stamp, &self.dir] {
            utimensat(AT_FDCWD, path, &now, &now, UtimensatFlags::FollowSymlink)?;
        }
        Ok(())
    }

    /// Reads the whole directory and brings the index into step with it: after another program changed it, a kill came
    /// between a change and [`Self::mark`], or at the first use in a boot. What is damaged of either is mended by the
    /// other.
    pub(super) fn synchronize(&mut self) -> Result<(), Error> {
        self.in_step = false;
        let (entries, damaged) = self.index.list()?;
        for entry in &damaged {
            files::set_aside(&entry.path, &entry.why);
        }
        let of_entry = |entry: &Entry| {
            let owner = entry.owner();
            entry.addresses.iter().map(|at| (*at, owner.clone())).collect::<Vec<_>>()
        };
        let indexed: HashMap<IpAddr, Owner> = entries.iter().flat_map(of_entry).collect();
        let mut held: HashMap<Owner, Vec<IpAddr>> = HashMap::new();
        for address in self.leased()? {
            let Some(owner) = indexed.get(&address) else {
                if let Lease::Held(owner) = self.lease(address)? {
                    held.entry(owner).or_default().push(address);
                }
                continue;
            };
            match self.lease_of(address, owner)? {
                Lease::Held(owner) => held.entry(owner).or_default().push(address),
                Lease::Damaged => {
                    self.mend(address, owner)?;
                    held.entry(owner.clone()).or_default().push(address);
                }
                Lease::Free => {}
            }
        }
        for entry in entries {
            let mut addresses = held.remove(&entry.owner()).unwrap_or_default();
            // With a lease of another program among them, their boot is not known.
            let known = addresses.iter().all(|address| entry.addresses.contains(address));
            addresses.sort_unstable();
            let boot = entry.boot.clone().filter(|_| known);
            let updated = Entry::new(&entry.owner(), boot, addresses);
            if updated != entry {
                self.index.write(&updated)?;
            }
        }
        // What a boot finds damaged when it begins is of one that has ended, in a power cut. Later it may be a living
        // container's.
        let ended = self.last_boot.is_some() && !self.is_of_this_boot();
        for (owner, mut addresses) in held {
            addresses.sort_unstable();
            let lost = damaged.iter().any(|entry| entry.owner.as_ref() == Some(&owner));
            let boot = (ended && lost).then(|| "ended in a power cut".to_owned());
            self.index.write(&Entry::new(&owner, boot, addresses))?;
        }
        self.in_step = true;
        Ok(())
    }
}
