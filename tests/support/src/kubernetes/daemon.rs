//! A daemon in a sandbox that can be killed without the others there.

use std::ffi::OsString;
use std::time::Duration;

use crate::exec::Background;
use crate::node::Node;
use crate::runtimes::Sandbox;
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon's process, started anew as often as wanted.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    argv: Vec<OsString>,
    pid_file: String,
    process: Background,
}

impl Daemon {
    pub(super) fn start(
        node: &Node,
        sandbox: &Sandbox,
        name: &'static str,
        argv: impl IntoIterator<Item = OsString>,
    ) -> Self {
        let argv: Vec<OsString> = argv.into_iter().collect();
        let pid_file = node.fresh_path(&format!("{name}.pid")).display().to_string();
        node.write(&pid_file, "");
        let process = spawn(node, sandbox, name, &argv, &pid_file);
        Self { name, argv, pid_file, process }
    }

    pub(super) fn log(&self) -> String {
        self.process.log()
    }

    #[track_caller]
    pub(super) fn assert_alive(&mut self) {
        self.process.assert_alive();
    }

    /// Kills it (SIGKILL); what it has started goes on.
    pub(super) fn kill(&mut self, node: &Node, sandbox: &Sandbox) {
        // Its id in the sandbox; `process` is who waits for it outside.
        let pid = until(&format!("{} has begun", self.name), PATIENCE, || {
            let pid = std::fs::read_to_string(&self.pid_file).ok()?;
            pid.ends_with('\n').then(|| pid.trim().to_owned())
        });
        let _ = sandbox.cmd(node, ["kill", "-KILL", &pid]).output();
        self.process.wait(PATIENCE);
    }

    /// Starts it again, after [`kill`](Self::kill).
    pub(super) fn start_again(&mut self, node: &Node, sandbox: &Sandbox) {
        node.write(&self.pid_file, "");
        self.process = spawn(node, sandbox, self.name, &self.argv, &self.pid_file);
    }
}

fn spawn(
    node: &Node,
    sandbox: &Sandbox,
    name: &str,
    argv: &[OsString],
    pid_file: &str,
) -> Background {
    let script = format!("echo $$ > '{pid_file}' && exec \"$@\"");
    let shell = ["sh", "-c", &script, "sh"].map(OsString::from);
    let log = node.fresh_path(&format!("{name}.log"));
    sandbox.cmd(node, shell.into_iter().chain(argv.iter().cloned())).spawn(log)
}
