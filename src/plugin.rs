//! The binary as a CNI plugin: `CNI_*` and stdin in, a result or an error object out.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Read},
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
};

use chain::{
    CniResult, Code, ConfList, Environment, Error, Executor, Request, Result, Stdin, Verb, Version,
};
use delegates::Node;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tracing::{Span, span::EnteredSpan};

use crate::{
    handover,
    kubernetes::{
        cluster::Cluster,
        conf,
        verbs::{self, Target, Verbs},
    },
    logging, multus_shim, output, wiring,
};

/// Larger configurations are refused: no runtime sends them, and memory is the node's.
const MAX_STDIN: u64 = 16 << 20;

/// Serves one call as the plugin of this type.
pub fn run(kind: &'static str) -> ExitCode {
    let Some(command) = env::var_os("CNI_COMMAND").filter(|command| !command.is_empty()) else {
        let versions: Vec<_> = supported(kind).iter().map(|version| version.as_str()).collect();
        eprintln!("CNI {kind} plugin catena {}", env!("CARGO_PKG_VERSION"));
        eprintln!("CNI protocol versions supported: {}", versions.join(", "));
        return ExitCode::SUCCESS;
    };
    logging::init_plugin();
    let read = Invocation::read(kind, &command, |name| env::var_os(name), read_stdin);
    let read = read.and_then(multus_shim::complete);
    let served = match &read {
        Ok(invocation) if wiring::is_meta(kind) => {
            let _step = invocation.begin();
            handover::serve(invocation)
        }
        Ok(invocation) => invocation.serve(None),
        Err(error) => Served::failed(error, Version::LATEST),
    };
    if let (false, Ok(invocation)) = (served.ok, &read) {
        invocation.log_failure(&served);
    }
    print(&served)
}

/// Refuses a call under a name that is no plugin's: whoever copied or linked the binary meant another one.
pub fn refuse(name: &str) -> ExitCode {
    let error = Error::config(format!(
        "this is catena, called as {name:?}, and it is no plugin of that name: link it as one of {}",
        wiring::builtin_kinds().join(", ")
    ));
    let stdin = read_stdin().unwrap_or_default();
    let version = version_of(&stdin).unwrap_or(Version::LATEST);
    print(&Served::failed(&error, version))
}

fn print(served: &Served) -> ExitCode {
    if let Err(error) = output::print_text(&served.stdout) {
        tracing::error!("standard output: {error}");
        return ExitCode::FAILURE;
    }
    if served.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One call of the binary as a plugin, whoever got it from the runtime.
pub struct Invocation {
    /// The plugin's type.
    pub kind: &'static str,
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// The other `CNI_*` variables.
    pub environment: Environment,
    /// What the runtime wrote to standard input.
    pub stdin: Vec<u8>,
}

/// What a call has come to: what goes to standard output, and whether it succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The result, the versions or the error object; empty where the verb has no result.
    pub stdout: String,
    /// Whether the plugin ends with exit code 0.
    pub ok: bool,
}

impl Served {
    /// A failure, in the version that the caller speaks.
    pub fn failed(error: &Error, version: Version) -> Self {
        Self { stdout: output::cni(&error.to_json(version)), ok: false }
    }
}

impl Invocation {
    /// Validates a call: the verb, its variables by `get`, and then only `stdin`, which a person at a terminal may not
    /// have given.
    pub fn read(
        kind: &'static str,
        command: &OsStr,
        get: impl Fn(&str) -> Option<OsString>,
        stdin: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Self> {
        let verb: Verb = command.to_string_lossy().parse()?;
        let environment = match verb {
            // It has no variables that could be wrong.
            Verb::Version => Environment::read(verb, |_| None)?,
            verb => Environment::read(verb, get)?,
        };
        Ok(Self { kind, verb, environment, stdin: stdin()? })
    }

    /// Writes a failed call of the meta plugin to its log, which Multus's users look for the reason in. Who did the call, this
    /// process or the daemon, makes no difference.
    fn log_failure(&self, served: &Served) {
        if !wiring::is_meta(self.kind) {
            return;
        }
        // A configuration that is otherwise wrong may well say where the log is.
        if let Ok(Value::Object(raw)) = serde_json::from_slice(&self.stdin) {
            logging::follow(&logging::Settings::of(&conf::known_keys(&raw)));
        }
        let error = serde_json::from_str::<Value>(&served.stdout).unwrap_or_default();
        let part = |key: &str| error[key].as_str().filter(|text| !text.is_empty());
        let texts: Vec<_> = ["msg", "details"].into_iter().filter_map(part).collect();
        let Environment { container_id, ifname, .. } = &self.environment;
        tracing::error!(container_id, ifname, "{} failed: {}", self.verb, texts.join("; "));
    }

    /// The call of a meta plugin, as a step that is called as it is, unless that has begun already: what is logged may be known
    /// only by the configuration.
    pub fn begin(&self) -> Option<EnteredSpan> {
        let Environment { container_id, ifname, .. } = &self.environment;
        let (verb, container) = (self.verb.as_str(), container_id.as_str());
        let interface = ifname.as_str();
        Span::current().is_none().then(|| {
            tracing::debug_span!("call", step = self.kind, verb, container, interface).entered()
        })
    }

    /// Does what the call says. A panic is the call's failure, not the process's end.
    ///
    /// `cluster`: how the process reaches the cluster's API; without it the configuration says how.
    pub fn serve(&self, cluster: Option<&dyn Cluster>) -> Served {
        let kind = self.kind;
        let mut version = Version::LATEST;
        let served = panic::catch_unwind(AssertUnwindSafe(|| serve(self, cluster, &mut version)))
            .unwrap_or_else(|_| {
                Err(Error::internal(format!("{kind} panicked; see its standard error")))
            });
        match served {
            Ok(None) => Served { stdout: String::new(), ok: true },
            Ok(Some(Answer::Result(result))) => Served { stdout: output::cni(&result), ok: true },
            Ok(Some(Answer::Versions(versions))) => {
                Served { stdout: format!("{versions}\n"), ok: true }
            }
            Err(error) => Served::failed(&error, version),
        }
    }
}

/// What goes to stdout.
enum Answer {
    /// The result of ADD.
    Result(Value),
    /// The answer to VERSION.
    Versions(Value),
}

/// Does what `CNI_COMMAND` says. `version` becomes the configuration's as soon as it is known, for the error object.
fn serve(
    invocation: &Invocation,
    cluster: Option<&dyn Cluster>,
    version: &mut Version,
) -> Result<Option<Answer>> {
    let Invocation { kind, verb: command, ref environment, stdin: ref raw } = *invocation;
    if command == Verb::Version {
        return Ok(Some(Answer::Versions(versions(kind, raw))));
    }
    let stdin = Stdin::decode(command, raw).inspect_err(|_| {
        *version = version_of(raw).unwrap_or(*version);
    })?;
    *version = stdin.conf.cni_version;
    let conf_version = stdin.conf.cni_version;
    if !supported(kind).contains(&conf_version) {
        return Err(Error::new(
            Code::IncompatibleVersion,
            format!(
                "{kind} does not support cniVersion {conf_version}; it has {} and newer",
                supported(kind)[0]
            ),
        ));
    }

    let plugin = Some((kind, &stdin.conf));
    wiring::with_executor(plugin, environment.path.clone(), |executor, node| {
        let done = if wiring::is_meta(kind) {
            serve_meta(invocation, &stdin, cluster, executor, node)
        } else {
            serve_plugin(invocation, &stdin, executor, node)
        };
        let result = done?.map(|result| result.to_json(conf_version)).transpose()?;
        Ok(result.map(Answer::Result))
    })
}

/// A call of a single plugin. ADD has a result.
fn serve_plugin(
    invocation: &Invocation,
    stdin: &Stdin,
    executor: &Executor<'_, Node>,
    node: &mut Node,
) -> Result<Option<CniResult>> {
    let network = &stdin.conf.name;
    let list = ConfList::from_plugin(invocation.kind, stdin.conf.raw.clone())?;
    let request = Request {
        list: &list,
        attachment: &invocation.environment.attachment(network),
        capability_args: &runtime_config(&stdin.conf.raw),
        prev_result: stdin.prev_result.clone(),
        observer: None,
    };
    match invocation.verb {
        Verb::Add => return executor.add(&request, node).map(Some),
        Verb::Del => executor.del(&request, node)?,
        Verb::Check => executor.check(&request, node)?,
        Verb::Gc => {
            let valid = stdin.valid.as_deref().unwrap_or_default();
            executor.gc(network, &list, valid, None, node)?;
        }
        Verb::Status => executor.status(&list, None, node)?,
        Verb::Version => {}
    }
    Ok(None)
}

/// A call of the meta plugin. ADD has a result.
fn serve_meta(
    invocation: &Invocation,
    stdin: &Stdin,
    cluster: Option<&dyn Cluster>,
    executor: &Executor<'_, Node>,
    node: &mut Node,
) -> Result<Option<CniResult>> {
    let Invocation { kind, verb, ref environment, .. } = *invocation;
    let network = &stdin.conf.name;
    let target = Target {
        attachment: &environment.attachment(network),
        capability_args: &runtime_config(&stdin.conf.raw),
        prev_result: stdin.prev_result.as_ref(),
    };
    if verb == Verb::Del {
        let verbs = Verbs::new(kind, &stdin.conf, executor, None);
        let _step = invocation.begin();
        return verbs::del(verbs, executor, &target, node).map(|()| None);
    }
    let mut verbs = Verbs::new(kind, &stdin.conf, executor, cluster)?;
    let _step = invocation.begin();
    match verb {
        Verb::Add => return verbs.add(&target, node).map(Some),
        Verb::Check => verbs.check(&target, node)?,
        Verb::Gc => verbs.gc(network, stdin.valid.as_deref().unwrap_or_default(), node)?,
        Verb::Status => verbs.status(node)?,
        Verb::Del | Verb::Version => {}
    }
    Ok(None)
}

/// The capability arguments that the runtime injected, which the meta plugin hands on to its own delegates.
fn runtime_config(raw: &Map<String, Value>) -> Map<String, Value> {
    raw.get("runtimeConfig").and_then(Value::as_object).cloned().unwrap_or_default()
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut stdin = Vec::new();
    io::stdin()
        .take(MAX_STDIN + 1)
        .read_to_end(&mut stdin)
        .map_err(|error| Error::io(format!("standard input: {error}")))?;
    if stdin.len() as u64 > MAX_STDIN {
        return Err(Error::new(
            Code::Decode,
            format!("configuration on stdin is larger than {} MiB", MAX_STDIN >> 20),
        ));
    }
    Ok(stdin)
}

/// The versions that the plugin of this type speaks, oldest first.
fn supported(kind: &str) -> Vec<Version> {
    let oldest = wiring::oldest_version(kind);
    Version::ALL.into_iter().filter(|version| *version >= oldest).collect()
}

/// The version that a configuration says, whatever else is wrong with it.
pub fn version_of(stdin: &[u8]) -> Option<Version> {
    let conf = serde_json::from_slice::<Value>(stdin).ok()?;
    conf.get("cniVersion")?.as_str()?.parse().ok()
}

/// The answer to VERSION, in the version that the request asks in.
fn versions(kind: &str, stdin: &[u8]) -> Value {
    let version = version_of(stdin).unwrap_or(Version::LATEST);
    let supported: Vec<_> = supported(kind).iter().map(|version| version.as_str()).collect();
    json!({ "cniVersion": version.as_str(), "supportedVersions": supported })
}
