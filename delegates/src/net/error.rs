//! What can go wrong with the kernel's network configuration.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use chain::Code;
use netlink_packet_core::{ErrorMessage, NlasIterator};
use nix::errno::Errno;

/// The outcome of a call on the kernel.
pub type Result<T, E = NetError> = std::result::Result<T, E>;

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the kernel's own words about a refusal.
const EXT_ACK_MESSAGE: u16 = 1;

/// The length of `struct nlmsghdr`, which precedes the attributes of a refusal.
const MESSAGE_HEADER_LEN: usize = 16;

/// The kernel's refusal of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own words, where it gave any.
    pub reason: String,
}

impl Refusal {
    /// Reads an `NLMSG_ERROR`; `None` where it acknowledges.
    pub(crate) fn from_message(message: &ErrorMessage) -> Option<Self> {
        let code = message.code?.get();
        let attributes = message.header.get(MESSAGE_HEADER_LEN..).unwrap_or_default();
        let reason = NlasIterator::new(attributes)
            .filter_map(|attribute| attribute.ok())
            .find(|attribute| attribute.kind() == EXT_ACK_MESSAGE)
            .map(|attribute| {
                String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned()
            })
            .unwrap_or_default();
        Some(Self { errno: Errno::from_raw(code.saturating_abs()), reason })
    }

    /// Makes it the failure of `doing`, for example "create bridge cni0".
    pub(crate) fn on(self, doing: impl Into<String>) -> NetError {
        NetError::Kernel { doing: doing.into(), refusal: self }
    }

    /// What to do about it, where the number alone says so.
    fn way_out(&self) -> &'static str {
        match self.errno {
            Errno::EPERM | Errno::EACCES => "; run as root with CAP_NET_ADMIN and CAP_SYS_ADMIN",
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT => {
                "; this kernel lacks what it needs: load the module or build it in"
            }
            _ => "",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.errno.desc(), errno_name(self.errno))?;
        if !self.reason.is_empty() {
            write!(f, ": {}", self.reason)?;
        }
        f.write_str(self.way_out())
    }
}

/// Whether a sysctl is missing since the kernel runs without IPv6 (`ipv6.disable=1`, or not built in).
fn lacks_ipv6(key: &str, error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        && key.starts_with("net/ipv6/")
        && !Path::new("/proc/sys/net/ipv6/conf").exists()
}

fn sysctl_way_out(key: &str, error: &io::Error) -> &'static str {
    match error.kind() {
        _ if lacks_ipv6(key, error) => {
            "; this kernel runs without IPv6: take its ranges out of the configuration, or boot with it"
        }
        io::ErrorKind::ReadOnlyFilesystem => "; mount /proc/sys so that it can be written",
        _ => "",
    }
}

fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

/// A failure of the netlink layer. Every text names the thing, its value and, where there is one, the way out.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused a request.
    #[error("cannot {doing}: {refusal}")]
    Kernel {
        /// What was asked for, as `cannot …` continues.
        doing: String,
        /// Its answer.
        refusal: Refusal,
    },
    /// No socket.
    #[error("cannot open a route netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// No random number.
    #[error("no random bytes from the kernel: {0}")]
    Random(#[source] io::Error),
    /// A device that must be there is not.
    #[error("no interface {name} in {place}; was it deleted by someone else?")]
    NoSuchLink {
        /// The device.
        name: String,
        /// Where.
        place: String,
    },
    /// A namespace that is not there.
    #[error("network namespace {} does not exist: {error}", path.display())]
    NetnsGone {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A path that is no network namespace.
    #[error("{} is not a network namespace; bind-mount one there, as \"ip netns add\" does", path.display())]
    NotANetns {
        /// The path.
        path: PathBuf,
    },
    /// The caller's own namespace.
    #[error(
        "{} is the network namespace of the plugin itself: the host would be taken for the container; name the \
         container's, or set CNI_NETNS_OVERRIDE=1 if that is meant",
        path.display()
    )]
    OwnNetns {
        /// The path.
        path: PathBuf,
    },
    /// A namespace that cannot be entered.
    #[error("cannot enter network namespace {}: {error}", path.display())]
    Enter {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A sysctl that cannot be written.
    #[error(
        "cannot write {value:?} to /proc/sys/{key} in {place}: {error}{}",
        sysctl_way_out(key, error)
    )]
    Sysctl {
        /// With slashes, as below /proc/sys.
        key: String,
        /// The value.
        value: String,
        /// Where.
        place: String,
        /// Why.
        error: io::Error,
    },
    /// Duplicate address detection found another holder.
    #[error(
        "address {address} on {link} in {place} is in use by another host (duplicate address detection)"
    )]
    Duplicate {
        /// The address.
        address: String,
        /// The device.
        link: String,
        /// Where.
        place: String,
    },
    /// Something did not come about in time.
    #[error("{what} after {limit:?}")]
    Timeout {
        /// How things still are, as a clause.
        what: String,
        /// The limit.
        limit: Duration,
    },
}

impl NetError {
    /// The kernel's error number, where it is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Kernel { refusal, .. } => Some(refusal.errno),
            _ => None,
        }
    }
}

impl From<NetError> for chain::Error {
    fn from(error: NetError) -> Self {
        let code = match &error {
            NetError::NetnsGone { .. } => Code::UnknownContainer,
            NetError::NotANetns { .. } | NetError::OwnNetns { .. } | NetError::Enter { .. } => {
                Code::InvalidNetNs
            }
            NetError::Sysctl { key, error, .. } if lacks_ipv6(key, error) => Code::UnsupportedField,
            NetError::Socket(_) | NetError::Random(_) | NetError::Sysctl { .. } => Code::Io,
            NetError::Timeout { .. } => Code::TryAgain,
            NetError::Kernel { .. } | NetError::NoSuchLink { .. } | NetError::Duplicate { .. } => {
                Code::Internal
            }
        };
        Self::new(code, error.to_string())
    }
}
