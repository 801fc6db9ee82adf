//! Running commands, with failures that show everything.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::pdeathsig::die_with_this_thread;
use crate::wait::until;

/// A command about to be run; made by [`Netns::cmd`](crate::Netns::cmd).
///
/// The process is killed when the thread that starts it ends, so start long-running ones from the
/// test's own thread.
#[derive(Debug)]
pub struct Run {
    command: Command,
    line: String,
    stdin: Vec<u8>,
}

impl Run {
    /// `argv` in the calling thread's namespaces; the first word is looked up in `PATH`.
    pub(crate) fn new<S: AsRef<OsStr>>(argv: impl IntoIterator<Item = S>) -> Self {
        let argv: Vec<OsString> = argv.into_iter().map(|a| a.as_ref().to_owned()).collect();
        let Some((program, args)) = argv.split_first() else {
            panic!("an empty command line cannot be run");
        };
        let mut command = Command::new(program);
        command.args(args);
        let words: Vec<_> = argv.iter().map(|a| a.to_string_lossy()).collect();
        Self { command, line: words.join(" "), stdin: Vec::new() }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.line = format!("{} {}", self.line, arg.as_ref().to_string_lossy());
            self.command.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Unsets an environment variable.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Starts with an empty environment but for `PATH`.
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            self.command.env("PATH", path);
        }
        self
    }

    /// What the process reads from its standard input (nothing otherwise).
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// The directory the process starts in.
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs to the end and returns what came of it, also when it failed.
    pub fn output(mut self) -> Output {
        die_with_this_thread(&mut self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.spawn_child();
        let stdin = child.stdin.take();
        let bytes = self.take_stdin();
        let output = thread::scope(|scope| {
            // Written beside reading: a process may answer before it has read everything.
            scope.spawn(move || {
                if let Some(mut pipe) = stdin {
                    // EPIPE: it did not care to read; its output will tell.
                    let _ = pipe.write_all(&bytes);
                }
            });
            child.wait_with_output()
        });
        let output = output.unwrap_or_else(|e| panic!("waiting for `{}`: {e}", self.line));
        self.into_output(output.status, &output.stdout, &output.stderr)
    }

    /// Starts the process and leaves it running until the handle is dropped. Its standard output
    /// and error go to `log`; its standard input may hold no more than a pipe does.
    pub fn spawn(mut self, log: impl AsRef<Path>) -> Background {
        let log = log.as_ref().to_owned();
        let out = File::create(&log).unwrap_or_else(|e| panic!("creating {}: {e}", log.display()));
        let err = out.try_clone().unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        die_with_this_thread(&mut self.command);
        self.command.stdin(Stdio::piped()).stdout(out).stderr(err);
        let mut child = self.spawn_child();
        if let Some(mut pipe) = child.stdin.take() {
            // EPIPE: it did not care to read.
            let _ = pipe.write_all(&self.stdin);
        }
        Background { child, line: self.line, log }
    }

    pub(crate) fn take_stdin(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.stdin)
    }

    pub(crate) fn command_mut(&mut self) -> &mut Command {
        &mut self.command
    }

    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    pub(crate) fn into_output(self, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Output {
        Output {
            line: self.line,
            status,
            stdout: String::from_utf8_lossy(stdout).into_owned(),
            stderr: String::from_utf8_lossy(stderr).into_owned(),
        }
    }

    pub(crate) fn spawn_child(&mut self) -> Child {
        self.command.spawn().unwrap_or_else(|e| {
            panic!("starting `{}`: {e}; tests/install-packages.sh installs the tools", self.line)
        })
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    line: String,
    status: ExitStatus,
    /// Everything it wrote to its standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Everything it wrote to its standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Output {
    /// Whether it exited with 0.
    pub fn is_success(&self) -> bool {
        self.status.success()
    }

    /// Its exit code; 128 + signal where it was killed, as a shell has it.
    pub fn code(&self) -> i32 {
        exit_code(self.status)
    }

    /// Its standard output; panics with the command line and both outputs if it failed.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.is_success(), "{self}");
        self.stdout
    }

    /// Its standard output as JSON, `null` if empty; panics if it failed or printed anything else.
    #[track_caller]
    pub fn json(self) -> Value {
        assert!(self.is_success(), "{self}");
        if self.stdout.trim().is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON: {e}\n{self}"))
    }

    /// Panics if it succeeded; returns itself otherwise.
    #[track_caller]
    pub fn failure(self) -> Self {
        assert!(!self.is_success(), "expected to fail: {self}");
        self
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "`{}`: {}", self.line, self.status)?;
        writeln!(f, "--- stdout\n{}", self.stdout.trim_end())?;
        write!(f, "--- stderr\n{}", self.stderr.trim_end())
    }
}

/// A process that runs beside the test; killed on drop.
#[derive(Debug)]
pub struct Background {
    child: Child,
    line: String,
    log: PathBuf,
}

impl Background {
    /// Its process id, as the test sees it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// Panics, with its output, if it has ended.
    #[track_caller]
    pub fn assert_alive(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("`{}` ended early: {status}\n--- output\n{}", self.line, self.log());
        }
    }

    /// Waits for it to end by itself and returns its exit code (128 + signal if it was killed);
    /// panics, with its output, if it has not within `deadline`.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> i32 {
        let status = until(&format!("`{}` ends", self.line), deadline, || {
            self.child.try_wait().unwrap_or_else(|e| panic!("waiting for `{}`: {e}", self.line))
        });
        exit_code(status)
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        // Both fail only where the process has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}
