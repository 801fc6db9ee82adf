//! Foreign plugins made of a few lines of shell.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::node::Node;

/// A directory of shell scripts that are plugins, for use in `CNI_PATH`.
///
/// Each call is noted, with what the plugin got, before the script's own lines run.
#[derive(Debug)]
pub struct Scripts<'n> {
    node: &'n Node,
    dir: PathBuf,
    notes: PathBuf,
}

impl<'n> Scripts<'n> {
    /// A directory without plugins.
    pub fn new(node: &'n Node) -> Self {
        let dir = node.fresh_path("scripts");
        let notes = node.fresh_path("notes");
        for dir in [&dir, &notes] {
            fs::create_dir_all(dir).unwrap_or_else(|e| panic!("creating {}: {e}", dir.display()));
        }
        Self { node, dir, notes }
    }

    /// Where the plugins are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The plugin `name` does what `body` says, in the language of `sh`. It finds its configuration in `$conf`, and
    /// the result of the plugin before it in `$prev` (`{}` where there is none).
    pub fn plugin(&self, name: &str, body: &str) {
        let path = self.dir.join(name);
        let notes = self.notes.display();
        // What Catena gives to a plugin ends with prevResult.
        self.node.write(
            &path,
            &format!(
                "#!/bin/sh\nconf=$(cat)\n\
                 case $conf in *'\"prevResult\":'*) prev=${{conf#*\\\"prevResult\\\":}}; prev=${{prev%\\}}}};; \
                 *) prev='{{}}';; esac\n\
                 echo \"$CNI_COMMAND {name}\" >> {notes}/calls\n\
                 printf %s \"$conf\" > {notes}/{name}.$CNI_COMMAND.stdin\n\
                 env > {notes}/{name}.$CNI_COMMAND.env\n\
                 {body}\n"
            ),
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|e| panic!("chmod {}: {e}", path.display()));
    }

    /// The plugin `name` makes a device of this name on the node and passes the result on; DEL removes the device.
    pub fn device(&self, name: &str) {
        self.plugin(
            name,
            &format!(
                "case $CNI_COMMAND in\n\
                 ADD) ip link add {name} type ifb && printf %s \"$prev\";;\n\
                 DEL) ip link del {name} 2>/dev/null; exit 0;;\n\
                 CHECK) ip link show {name} >/dev/null;;\n\
                 esac"
            ),
        );
    }

    /// The calls so far, for instance `ADD mark`, in their order.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.notes.join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// Forgets the calls so far.
    pub fn forget(&self) {
        // There may have been none.
        let _ = fs::remove_file(self.notes.join("calls"));
    }

    /// The configuration that the plugin got when it last did `verb`.
    #[track_caller]
    pub fn stdin(&self, name: &str, verb: &str) -> Value {
        let text = self.note(name, verb, "stdin");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("stdin of {name}: {e}: {text}"))
    }

    /// An environment variable of the plugin when it last did `verb`; empty where it was unset.
    #[track_caller]
    pub fn env(&self, name: &str, verb: &str, variable: &str) -> String {
        let env = self.note(name, verb, "env");
        let value = env.lines().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    }

    #[track_caller]
    fn note(&self, name: &str, verb: &str, what: &str) -> String {
        let path = self.notes.join(format!("{name}.{verb}.{what}"));
        fs::read_to_string(&path)
            .unwrap_or_else(|e| panic!("{name} has not done {verb}: {}: {e}", path.display()))
    }
}
