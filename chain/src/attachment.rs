//! One container on one network by one interface.

use std::path::{Path, PathBuf};

use crate::{CniArgs, Code, Error, Result};

/// What ADD, DEL and CHECK are about. Every name in it has been checked against the specification's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`: the interface inside the container.
    pub ifname: String,
    /// `CNI_NETNS`: the path of the container's network namespace. DEL may come without, or after it is gone.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
}

impl Attachment {
    /// The namespace's path, or the specification's error where the verb needs one and there is none.
    pub fn netns(&self) -> Result<&Path> {
        self.netns.as_deref().ok_or_else(|| {
            Error::new(
                Code::InvalidEnvironment,
                "CNI_NETNS is missing: it must name the container's network namespace",
            )
        })
    }
}

impl std::fmt::Display for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.network, self.container_id, self.ifname)
    }
}
