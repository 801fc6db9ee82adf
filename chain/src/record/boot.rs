//! Which boot this is.

use std::{fs, io, path::Path};

use super::store;
use crate::{Dirs, Error, Result};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UUID: &str = "/proc/sys/kernel/random/uuid";

impl Dirs {
    /// The boot that this is: the kernel's id of it, and a random marker that is on tmpfs. The marker is for a node that
    /// is itself a container: it restarts, and loses its network, under the kernel's same boot.
    pub fn boot(&self) -> Result<String> {
        let id = read(Path::new(BOOT_ID))?;
        let marker = self.run.join("boot");
        let text = match fs::read_to_string(&marker) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.mark(&marker)?;
                read(&marker)?
            }
            Err(error) => return Err(at(&marker, &error)),
        };
        Ok(format!("{}/{}", id.trim(), text.trim()))
    }

    /// Makes the marker whole or not at all: the first one to link it wins.
    fn mark(&self, marker: &Path) -> Result<()> {
        store::create_dirs(&self.run)?;
        let uuid = read(Path::new(UUID))?;
        let draft = self.run.join(format!(".boot.{}", uuid.trim()));
        fs::write(&draft, uuid).map_err(|error| at(&draft, &error))?;
        let linked = fs::hard_link(&draft, marker);
        // A draft that stays is on tmpfs.
        let _ = fs::remove_file(&draft);
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(marker, &error)),
            _ => Ok(()),
        }
    }
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).map_err(|error| at(file, &error))
}

fn at(file: &Path, error: &io::Error) -> Error {
    Error::io(format!("{}: {error}", file.display()))
}
