//! The binary under test, as a tool.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::exec::{Output, Run};
use crate::netns::Netns;
use crate::node::Node;

/// The binary under test on a node, with the environment that its tool verbs read.
///
/// It starts with an empty environment but for `PATH` and what is set here.
#[derive(Debug, Clone)]
pub struct Catena<'n> {
    node: &'n Node,
    binary: PathBuf,
    env: Vec<(String, String)>,
}

impl<'n> Catena<'n> {
    /// `binary` is `env!("CARGO_BIN_EXE_catena")` of the calling test.
    pub fn new(node: &'n Node, binary: impl AsRef<Path>) -> Self {
        Self { node, binary: binary.as_ref().to_owned(), env: Vec::new() }
    }

    /// With an environment variable set, for instance `CNI_PATH`.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.to_owned(), value.as_ref().to_string_lossy().into_owned()));
        self
    }

    /// With foreign plugins looked up in `dir` (`CNI_PATH`).
    pub fn cni_path(self, dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref().to_owned();
        self.env("CNI_PATH", dir)
    }

    /// With another interface name than `eth0` (`CNI_IFNAME`).
    pub fn ifname(self, ifname: &str) -> Self {
        self.env("CNI_IFNAME", ifname)
    }

    /// With `runtimeConfig` for the plugins that declare the capability (`CAP_ARGS`).
    pub fn cap_args(self, capabilities: &Value) -> Self {
        self.env("CAP_ARGS", capabilities.to_string())
    }

    /// With `CNI_ARGS`.
    pub fn cni_args(self, args: &str) -> Self {
        self.env("CNI_ARGS", args)
    }

    /// The path of the binary.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// The binary with `args`, to be run on the node.
    pub fn cmd<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Run {
        let args = args.into_iter().map(|a| a.as_ref().to_owned());
        let run =
            self.node.cmd(std::iter::once(self.binary.clone().into()).chain(args)).env_clear();
        self.env.iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    /// `catena add`: the result; panics if it fails.
    #[track_caller]
    pub fn add(&self, conflist: &Value, netns: &Netns) -> Value {
        self.try_add(conflist, netns).json()
    }

    /// `catena add`, with whatever came of it.
    pub fn try_add(&self, conflist: &Value, netns: &Netns) -> Output {
        self.attachment("add", conflist, netns.path())
    }

    /// `catena check`; panics if it fails.
    #[track_caller]
    pub fn check(&self, conflist: &Value, netns: &Netns) {
        self.try_check(conflist, netns).success();
    }

    /// `catena check`, with whatever came of it.
    pub fn try_check(&self, conflist: &Value, netns: &Netns) -> Output {
        self.attachment("check", conflist, netns.path())
    }

    /// `catena del`; panics if it fails.
    #[track_caller]
    pub fn del(&self, conflist: &Value, netns: &Netns) {
        self.try_del(conflist, netns.path()).success();
    }

    /// `catena del`, with whatever came of it; `netns` need not exist any more.
    pub fn try_del(&self, conflist: &Value, netns: &Path) -> Output {
        self.attachment("del", conflist, netns)
    }

    /// `catena gc <conflist>`, with further arguments.
    pub fn gc(&self, conflist: &Value, args: &[&str]) -> Output {
        self.network("gc", conflist, args)
    }

    /// `catena status <conflist>`.
    pub fn status(&self, conflist: &Value) -> Output {
        self.network("status", conflist, &[])
    }

    fn attachment(&self, verb: &str, conflist: &Value, netns: &Path) -> Output {
        let file = self.node.json_file("catena.conflist", conflist);
        self.cmd([OsStr::new(verb), file.as_os_str(), netns.as_os_str()]).output()
    }

    fn network(&self, verb: &str, conflist: &Value, args: &[&str]) -> Output {
        let file = self.node.json_file("catena.conflist", conflist);
        let own = [OsStr::new(verb), file.as_os_str()];
        self.cmd(own.into_iter().chain(args.iter().map(OsStr::new))).output()
    }
}
