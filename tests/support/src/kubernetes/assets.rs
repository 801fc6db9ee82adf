//! Where the binaries are.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::exec::Run;

/// envtest's name for the variable with a folder of binaries.
const FOLDER: &str = "KUBEBUILDER_ASSETS";

/// A folder with binaries of one version of Kubernetes.
#[derive(Debug, Clone)]
pub(super) struct Assets(PathBuf);

impl Assets {
    /// The folder that `KUBEBUILDER_ASSETS` names if it has all of `binaries`, else that of the cache.
    pub(super) fn with(binaries: &[&str]) -> Self {
        let given = env::var_os(FOLDER).map(PathBuf::from);
        let has_all = |dir: &PathBuf| binaries.iter().all(|name| dir.join(name).is_file());
        given.into_iter().chain(cached()).find(has_all).map(Self).unwrap_or_else(|| {
            panic!(
                "no folder with {binaries:?}: run tests/kubernetes/prepare.sh, or set {FOLDER} to one"
            )
        })
    }

    /// A binary of the folder; one that it lacks is the cache's, or is looked up in `PATH`.
    pub(super) fn binary(&self, name: &str) -> OsString {
        let folders = std::iter::once(self.0.clone()).chain(cached());
        let found = folders.map(|dir| dir.join(name)).find(|path| path.is_file());
        found.map_or_else(|| name.into(), PathBuf::into_os_string)
    }

    /// The minor version of a binary, for instance 36 of `Kubernetes v1.36.0`.
    pub(super) fn minor(&self, name: &str) -> u32 {
        let version = Run::new([self.binary(name), "--version".into()]).output().success();
        minor(&version).unwrap_or_else(|| panic!("{name} --version: {version}"))
    }

    /// A kubectl of this minor version or newer: the folder's, or that of `PATH`.
    pub(super) fn kubectl_from(&self, wanted: u32) -> Option<OsString> {
        let path = env::var_os("PATH").unwrap_or_default();
        let in_path = env::split_paths(&path).map(|dir| dir.join("kubectl"));
        let in_path = in_path.filter(|path| path.is_file()).map(PathBuf::into_os_string);
        [self.binary("kubectl")].into_iter().chain(in_path).find(|kubectl| {
            let version = [kubectl.as_os_str(), "version".as_ref(), "--client".as_ref()];
            minor(&Run::new(version).output().success()).is_some_and(|minor| minor >= wanted)
        })
    }
}

/// The minor version in what a binary says of itself.
fn minor(version: &str) -> Option<u32> {
    version.split("v1.").nth(1)?.split('.').next()?.parse().ok()
}

/// The folders that `prepare.sh` made, the newest version first.
fn cached() -> Vec<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let Some(cache) = cache.or_else(home) else {
        return Vec::new();
    };
    let entries = fs::read_dir(cache.join("catena")).into_iter().flatten().flatten();
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubernetes-"))
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_one).collect();
    folders.sort();
    folders.reverse();
    folders
}
