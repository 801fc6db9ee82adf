//! A foreign delegate: an executable in `CNI_PATH` (CNI 1.1.0, section 2).

mod process;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};

use self::process::{Output, Stopped};
use crate::{Attachment, Code, Error, Result, Verb, Version, check_plugin_type, runner::Failure};

/// What a foreign delegate may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time for one call. After it, the delegate and the processes of its group are killed.
    ///
    /// Default 180 s: longer than the two minutes that network daemons' own front ends wait, so that their message
    /// arrives, and short enough to roll back within the four minutes that kubelet gives a sandbox.
    pub time: Duration,
    /// The bytes that it may write to stdout, and as many to stderr. Default 4 MiB.
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_secs(180), output: 4 << 20 }
    }
}

/// The executable of a plugin: the first regular file of this name in the folders, in their order.
pub(crate) fn find(kind: &str, path: &[PathBuf]) -> Result<PathBuf> {
    check_plugin_type(kind)?;
    let found = path.iter().map(|dir| dir.join(kind)).find(|file| file.is_file());
    found.ok_or_else(|| {
        Error::config(if path.is_empty() {
            format!("plugin {kind:?} is not built in, and CNI_PATH is empty: it must list the folders of plugins")
        } else {
            let dirs: Vec<_> = path.iter().map(|dir| dir.display().to_string()).collect();
            format!("plugin {kind:?} is not built in, and CNI_PATH has none of this name: {}", dirs.join(":"))
        })
    })
}

/// One call of a foreign delegate.
pub(crate) struct Exec<'a> {
    pub program: &'a Path,
    pub verb: Verb,
    pub attachment: Option<&'a Attachment>,
    pub path: &'a [PathBuf],
    pub limits: Limits,
}

impl Exec<'_> {
    /// Runs it with this request on stdin; returns its stdout. Its stderr goes to the log.
    ///
    /// Errors: its own error object, code and message kept; else what went wrong with it, and the end of its stderr.
    pub fn run(&self, request: &Map<String, Value>) -> Result<Vec<u8>, Failure> {
        let stdin = serde_json::to_vec(request).expect("JSON with keys that are strings");
        let program = self.program.display();
        let _step = tracing::debug_span!("exec", %program).entered();
        let output = process::run(self.program, &self.env(), &stdin, self.limits)
            .map_err(|error| Error::io(format!("{program} could not be run: {error}")))?;
        let Output { end, stdout, stderr } = output;
        let stderr = String::from_utf8_lossy(&stderr);
        self.log(&stderr, matches!(&end, Ok(status) if status.success()));
        let what = match end {
            Ok(status) if status.success() => return Ok(stdout),
            Ok(status) => match Error::from_json(&stdout) {
                Some(error) => return Err(Failure { error, unclean: true }),
                None => explain(status, &stdout),
            },
            Err(Stopped::Time) => {
                let seconds = self.limits.time.as_secs_f64();
                format!("did not end within {seconds} s and was killed")
            }
            Err(Stopped::Output(stream)) => {
                let limit = self.limits.output;
                format!("wrote more than {limit} bytes to {stream} and was killed")
            }
        };
        let mut error = Error::internal(format!("{program} {what}"));
        let tail = tail(&stderr);
        if !tail.is_empty() {
            error = error.with_details(format!("its stderr ends: {tail}"));
        }
        Err(Failure { error, unclean: true })
    }

    /// Passes the end of what the delegate wrote to stderr on to the log, which it must not flood either.
    fn log(&self, stderr: &str, succeeded: bool) {
        const LINES: usize = 200;
        const LENGTH: usize = 1000;
        let program = self.program.display();
        let mut lines: Vec<_> =
            stderr.lines().rev().filter(|line| !line.trim().is_empty()).take(LINES + 1).collect();
        if lines.len() > LINES {
            lines[LINES] = "(what it wrote before is left out)";
        }
        for line in lines.iter().rev() {
            let line = &line[..line.floor_char_boundary(LENGTH)];
            if succeeded {
                tracing::info!(target: "chain::foreign", %program, verb = %self.verb, "{line}");
            } else {
                tracing::warn!(target: "chain::foreign", %program, verb = %self.verb, "{line}");
            }
        }
    }

    /// VERSION. Plugins of 0.1.0 do not know it.
    pub fn versions(&self) -> Result<Vec<String>> {
        let request = json!({ "cniVersion": Version::LATEST.as_str() });
        let Value::Object(request) = request else { unreachable!("an object is written here") };
        let stdout = match self.run(&request) {
            Ok(stdout) => stdout,
            Err(failure) if failure.error.msg.contains("unknown CNI_COMMAND") => {
                return Ok(vec![Version::V0_1_0.to_string()]);
            }
            Err(failure) => return Err(failure.error),
        };
        #[derive(serde::Deserialize)]
        struct Versions {
            #[serde(rename = "supportedVersions", default)]
            supported: Vec<String>,
        }
        let versions: Versions = serde_json::from_slice(&stdout).map_err(|error| {
            Error::new(Code::Decode, format!("its answer to VERSION is not understood: {error}"))
        })?;
        Ok(versions.supported)
    }

    /// The `CNI_*` variables. Those that the verb has no value for are set to nothing, as libcni does, so that the
    /// caller's own never reach the delegate.
    fn env(&self) -> Vec<(&'static str, OsString)> {
        let path = self.path.iter().map(|dir| dir.as_os_str()).collect::<Vec<_>>();
        let mut env = vec![
            ("CNI_COMMAND", self.verb.as_str().into()),
            ("CNI_PATH", path.join(std::ffi::OsStr::new(":"))),
            ("CNI_CONTAINERID", OsString::new()),
            ("CNI_IFNAME", OsString::new()),
            ("CNI_NETNS", OsString::new()),
            ("CNI_ARGS", OsString::new()),
        ];
        if let Some(attachment) = self.attachment {
            env[2].1 = attachment.container_id.clone().into();
            env[3].1 = attachment.ifname.clone().into();
            env[4].1 = attachment.netns.clone().unwrap_or_default().into();
            env[5].1 = attachment.args.to_string().into();
        } else if self.verb == Verb::Version {
            // Plugins older than VERSION look at these before they find that they do not know the verb.
            env[3].1 = "dummy".into();
            env[4].1 = "dummy".into();
        }
        env
    }
}

/// A failure that the plugin itself does not explain by an error object.
fn explain(status: ExitStatus, stdout: &[u8]) -> String {
    let end = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was killed by {}", signal.as_str()),
            Err(_) => format!("was killed by signal {number}"),
        },
        (None, None) => "ended".to_owned(),
    };
    let stdout = String::from_utf8_lossy(stdout);
    match tail(&stdout) {
        "" => format!("{end} without an error object"),
        tail => format!("{end}, and printed no error object but {tail:?}"),
    }
}

/// The last part of an output, short enough for an error.
fn tail(text: &str) -> &str {
    const LENGTH: usize = 1000;
    let text = text.trim();
    let start = text.len().saturating_sub(LENGTH);
    &text[text.ceil_char_boundary(start)..]
}
