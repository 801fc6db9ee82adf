//! Executing one CNI plugin as a runtime does.

use std::fmt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::exec::Output;
use crate::node::Node;
use crate::runtime::Attachment;

/// The directories with plugins (`CNI_PATH`) of a node.
#[derive(Debug, Clone)]
pub struct Plugins<'n> {
    node: &'n Node,
    dirs: Vec<PathBuf>,
    search_path: Option<String>,
}

/// What a plugin is told through its environment; an empty string leaves the variable unset.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// `CNI_COMMAND`: ADD, DEL, CHECK, GC, STATUS or VERSION.
    pub command: String,
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`
    pub netns: String,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`
    pub args: String,
}

impl Call {
    /// A call without an attachment: GC, STATUS or VERSION.
    pub fn new(command: &str) -> Self {
        Self { command: command.to_owned(), ..Self::default() }
    }

    /// A call for an attachment: ADD, DEL or CHECK.
    pub fn of(command: &str, attachment: &Attachment) -> Self {
        Self {
            command: command.to_owned(),
            container_id: attachment.container_id.clone(),
            netns: attachment.netns.clone(),
            ifname: attachment.ifname.clone(),
            args: attachment.args.clone(),
        }
    }
}

/// What a plugin answered.
#[derive(Debug, Clone)]
pub struct PluginOutput {
    /// The exit code.
    pub code: i32,
    /// The whole standard output.
    pub stdout: String,
    /// The standard output as JSON: the result or the error object. `None` if it is empty or is
    /// not JSON.
    pub json: Option<Value>,
    /// The whole standard error.
    pub stderr: String,
    shown: String,
}

impl PluginOutput {
    /// The `code` of the CNI error object.
    ///
    /// # Panics
    /// If standard output holds none.
    #[track_caller]
    pub fn error_code(&self) -> u64 {
        match self.json.as_ref().and_then(|json| json["code"].as_u64()) {
            Some(code) if self.code != 0 => code,
            _ => panic!("no CNI error object: {self}"),
        }
    }

    /// The text of the CNI error object: `msg` and, if any, `details`.
    #[track_caller]
    pub fn error_text(&self) -> String {
        self.error_code();
        let field = |name: &str| {
            self.json.as_ref().and_then(|json| json[name].as_str()).unwrap_or_default().to_owned()
        };
        [field("msg"), field("details")].join("\n").trim().to_owned()
    }

    /// The result; panics unless the plugin succeeded with one.
    #[track_caller]
    pub fn result(self) -> Value {
        assert_eq!(self.code, 0, "{self}");
        self.json.unwrap_or_else(|| panic!("no result: {}", self.shown))
    }

    /// Panics unless the plugin succeeded.
    #[track_caller]
    pub fn success(self) {
        assert_eq!(self.code, 0, "{self}");
    }
}

impl From<Output> for PluginOutput {
    fn from(output: Output) -> Self {
        Self {
            code: output.code(),
            json: serde_json::from_str(&output.stdout).ok(),
            shown: output.to_string(),
            stdout: output.stdout,
            stderr: output.stderr,
        }
    }
}

impl fmt::Display for PluginOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl<'n> Plugins<'n> {
    /// Plugins are looked up in `dirs`, in this order.
    pub fn new<P: Into<PathBuf>>(node: &'n Node, dirs: impl IntoIterator<Item = P>) -> Self {
        Self { node, dirs: dirs.into_iter().map(Into::into).collect(), search_path: None }
    }

    /// Debian's `containernetworking-plugins`: the Go reference plugins 1.1.1.
    pub fn debian(node: &'n Node) -> Self {
        Self::new(node, ["/usr/lib/cni"])
    }

    /// With the tools that plugins run looked up in `dir` before all other directories.
    pub fn search_path(mut self, dir: &Path) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        self.search_path = Some(format!("{}:{path}", dir.display()));
        self
    }

    /// Executes the plugin `name` with `stdin`, and no environment but `PATH`, `CNI_PATH` and what
    /// `call` says.
    ///
    /// # Panics
    /// If no directory has such a plugin.
    #[track_caller]
    pub fn call(&self, name: &str, call: &Call, stdin: &str) -> PluginOutput {
        let dirs: Vec<_> = self.dirs.iter().map(|d| d.display().to_string()).collect();
        let path = dirs.join(":");
        let program = self.find(name).unwrap_or_else(|| panic!("no plugin {name} in {path}"));
        let search_path = self.search_path.clone().unwrap_or_default();
        let variables = [
            ("CNI_COMMAND", &call.command),
            ("CNI_CONTAINERID", &call.container_id),
            ("CNI_NETNS", &call.netns),
            ("CNI_IFNAME", &call.ifname),
            ("CNI_ARGS", &call.args),
            ("CNI_PATH", &path),
            ("PATH", &search_path),
        ];
        let run = self.node.cmd([&program]).env_clear().stdin(stdin);
        let run = variables
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .fold(run, |run, (name, value)| run.env(name, value));
        run.output().into()
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
    }
}

/// The names under which the binary is a plugin.
pub const PLUGINS: [&str; 12] = [
    "bridge",
    "ptp",
    "loopback",
    "host-local",
    "static",
    "dhcp",
    "portmap",
    "firewall",
    "tuning",
    "bandwidth",
    "snat",
    "catena",
];

/// Makes a new directory on the node's tmpfs with one symbolic link to `binary` for each of
/// `names`: what `catena install` lays out, for use as `CNI_PATH`.
pub fn links(node: &Node, binary: impl AsRef<Path>, names: &[&str]) -> PathBuf {
    let dir = node.fresh_path("links");
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("creating {}: {e}", dir.display()));
    for name in names {
        let link = dir.join(name);
        symlink(binary.as_ref(), &link).unwrap_or_else(|e| panic!("{}: {e}", link.display()));
    }
    dir
}

/// A binary, and another version of it: the same with more at its end.
pub fn two_versions(node: &Node, binary: impl AsRef<Path>) -> [PathBuf; 2] {
    let [one, other] = ["one", "other"].map(|name| node.fresh_path(name));
    // The debugger's part would be copied each time.
    node.run(["strip".as_ref(), "-o".as_ref(), one.as_os_str(), binary.as_ref().as_os_str()]);
    let mut content = std::fs::read(&one).unwrap_or_else(|e| panic!("{}: {e}", one.display()));
    content.extend(b"another version");
    std::fs::copy(&one, &other)
        .and_then(|_| std::fs::write(&other, content))
        .unwrap_or_else(|e| panic!("{}: {e}", other.display()));
    [one, other]
}
