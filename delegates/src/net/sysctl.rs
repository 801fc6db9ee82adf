//! Sysctls of a network namespace.
//!
//! `/proc/sys/net` shows the namespace of the thread that looks: a container's are written by a thread in it, all in
//! one visit.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{self, ErrorKind},
    net::IpAddr,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

use super::{NetError, Netns, Result};

/// What is compared of a value: with a longer one, it is written anew.
const LONGEST: usize = 256;

/// A value for a key below `/proc/sys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// With slashes: "net/ipv4/ip_forward".
    pub key: String,
    /// What to write.
    pub value: Cow<'static, str>,
    /// Whether a failure counts. A key that the kernel does not have (IPv6 not built in, say) is no failure where not.
    pub required: bool,
}

impl Sysctl {
    /// A value that must be written.
    pub fn required(key: impl Into<String>, value: impl Into<Cow<'static, str>>) -> Self {
        Self { key: key.into(), value: value.into(), required: true }
    }

    /// A value that is written where the kernel has the key.
    pub fn wanted(key: impl Into<String>, value: impl Into<Cow<'static, str>>) -> Self {
        Self { key: key.into(), value: value.into(), required: false }
    }

    /// `net/ipv4/conf/IFNAME/…` or `net/ipv6/conf/IFNAME/…`; an interface's name may hold dots, never slashes.
    pub fn conf(family: Family, ifname: &str, name: &str) -> String {
        format!("net/{}/conf/{ifname}/{name}", family.as_str())
    }

    fn directory(&self) -> Option<&str> {
        Some(self.key.rsplit_once('/')?.0)
    }
}

/// An address family, as sysctls spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// ipv4.
    V4,
    /// ipv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// Writes sysctls of the caller's own namespace, in their order.
pub fn write_host(sysctls: &[Sysctl]) -> Result<()> {
    write(sysctls, "the host")
}

/// Writes sysctls of a container's namespace, in their order and one visit.
pub fn write_in(netns: &Netns, sysctls: &[Sysctl]) -> Result<()> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let place = netns.path().display().to_string();
    netns.enter(|| write(sysctls, &place))?
}

/// Reads a sysctl of the caller's own namespace, without its line end; `None` where the kernel has no such key.
pub fn read_host(key: &str) -> Option<String> {
    read(key).ok().flatten()
}

/// Reads sysctls of a container's namespace, in one visit: each as [`read_host`], and an error for what can only be
/// written.
pub fn read_in(netns: &Netns, keys: &[&str]) -> Result<Vec<io::Result<Option<String>>>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    netns.enter(|| keys.iter().map(|key| read(key)).collect())
}

fn read(key: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes sysctls of the calling thread's namespace, which messages call `place`.
pub(crate) fn write(sysctls: &[Sysctl], place: &str) -> Result<()> {
    for alike in sysctls.chunk_by(|one, next| one.directory() == next.directory()) {
        let directory = directory(alike);
        for sysctl in alike {
            let Err(error) = write_one(sysctl, directory.as_ref()) else { continue };
            if sysctl.required {
                return Err(NetError::Sysctl {
                    key: sysctl.key.clone(),
                    value: sysctl.value.to_string(),
                    place: place.to_owned(),
                    error,
                });
            }
            tracing::debug!(key = sysctl.key, value = %sysctl.value, place, %error, "sysctl not written");
        }
    }
    Ok(())
}

/// The directory of these sysctls, where it is worth opening: the way to it takes longer with each namespace that somebody has
/// looked into, since the kernel keeps all of their directories under one hash.
fn directory(alike: &[Sysctl]) -> Option<OwnedFd> {
    let path = path(alike.first().filter(|_| alike.len() > 1)?.directory()?);
    open(path.as_str(), OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

fn write_one(sysctl: &Sysctl, directory: Option<&OwnedFd>) -> io::Result<()> {
    let name = sysctl.key.rsplit('/').next().unwrap_or_default();
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let opened = match directory {
        Some(directory) => openat(directory, name, flags, Mode::empty()),
        None => open(path(&sysctl.key).as_str(), flags, Mode::empty()),
    };
    let file = match opened.map_err(io::Error::from) {
        Ok(file) => File::from(file),
        // What cannot be written may be as it should be.
        Err(_) if read(&sysctl.key).is_ok_and(|is| is.as_deref() == Some(&*sysctl.value)) => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    // Reading is cheaper: writing takes locks that all of the kernel's network configuration waits for.
    let mut is = [0; LONGEST];
    if file
        .read_at(&mut is, 0)
        .is_ok_and(|length| is[..length].trim_ascii_end() == sysctl.value.as_bytes())
    {
        return Ok(());
    }
    file.write_all_at(sysctl.value.as_bytes(), 0)
}

fn path(key: &str) -> String {
    format!("/proc/sys/{key}")
}
