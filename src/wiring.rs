//! What the parts are put together from: the built-in delegates, the directories, the executor.

use std::{
    env,
    path::PathBuf,
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use chain::{
    Dirs, Error, Executor, Limits, Plugin, PluginConf, Registry, Result, Runner, Version,
    lock::LOCK_TIMEOUT,
};
use delegates::Node;

use crate::{
    meta::{self, Meta},
    multus_shim,
};

/// The meta plugin under its names. Under Multus's it reads Multus's configuration as it stands.
static METAS: [Meta; 3] = metas(false);

/// The same in the chains of a meta plugin.
static METAS_WITHIN: [Meta; 3] = metas(true);

const fn metas(within_meta: bool) -> [Meta; 3] {
    [
        Meta { kind: meta::KIND, within_meta },
        Meta { kind: "multus", within_meta },
        Meta { kind: multus_shim::KIND, within_meta },
    ]
}

/// Whether this is one of the meta plugin's names.
pub fn is_meta(kind: &str) -> bool {
    METAS.iter().any(|meta| meta.kind() == kind)
}

/// Every plugin in this binary: the delegates, and the meta plugin.
fn plugins() -> Vec<&'static dyn Plugin<Node>> {
    with_delegates(&METAS)
}

fn with_delegates(metas: &'static [Meta]) -> Vec<&'static dyn Plugin<Node>> {
    delegates::BUILTINS.iter().copied().chain(metas.iter().map(|meta| meta as _)).collect()
}

/// Every plugin as it is in the chains of a meta plugin.
pub fn registry_within() -> &'static Registry<'static, Node> {
    static PLUGINS: LazyLock<Vec<&'static dyn Plugin<Node>>> =
        LazyLock::new(|| with_delegates(&METAS_WITHIN));
    static REGISTRY: LazyLock<Registry<'static, Node>> = LazyLock::new(|| Registry::new(&PLUGINS));
    &REGISTRY
}

/// The types that are built in, and so the names under which this binary is a plugin.
pub fn builtin_kinds() -> Vec<&'static str> {
    plugins().iter().map(|plugin| plugin.kind()).collect()
}

/// The names that `catena install` gives to this binary: not Multus's, which may be at work on the node (who wants Catena in
/// its place puts it there).
pub fn installed_kinds() -> Vec<&'static str> {
    let is_installed = |kind: &&str| *kind == meta::KIND || !is_meta(kind);
    builtin_kinds().into_iter().filter(is_installed).collect()
}

/// The built-in type of this name.
pub fn builtin_kind(name: &str) -> Option<&'static str> {
    builtin_kinds().into_iter().find(|kind| *kind == name)
}

/// The oldest version of the specification that the built-in type speaks.
pub fn oldest_version(kind: &str) -> Version {
    let plugin = plugins().into_iter().find(|plugin| plugin.kind() == kind);
    plugin.map_or(Version::LATEST, |plugin| plugin.oldest_version())
}

/// The directories of this process, where they are not the usual ones.
static DIRS: OnceLock<Dirs> = OnceLock::new();

/// Has this process keep everything in other directories. To be called before anything asks for them.
pub fn set_dirs(state: PathBuf, run: PathBuf) {
    // Whoever was first counts.
    let _ = DIRS.set(Dirs { state, run, ..Dirs::default() });
}

/// The variables that name other directories than the usual ones, of a process that has no flags for them.
pub const STATE_DIR: &str = "CATENA_STATE_DIR";
pub const RUN_DIR: &str = "CATENA_RUN_DIR";

/// Where records, leases' boots and locks are.
///
/// Errors (4): a variable names no absolute path.
pub fn dirs() -> Result<Dirs> {
    let usual = Dirs::default();
    let dirs = match DIRS.get() {
        Some(dirs) => dirs.clone(),
        None => Dirs {
            state: directory(STATE_DIR)?.unwrap_or(usual.state),
            run: directory(RUN_DIR)?.unwrap_or(usual.run),
            ..usual
        },
    };
    let lock_wait = seconds(LOCK_TIMEOUT, 60)?.unwrap_or(dirs.lock_wait);
    Ok(Dirs { lock_wait, ..dirs })
}

fn directory(variable: &str) -> Result<Option<PathBuf>> {
    let path = env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    match path {
        Some(path) if !path.is_absolute() => Err(Error::environment(format!(
            "{variable} {}: it must be an absolute path",
            path.display()
        ))),
        path => Ok(path),
    }
}

/// The variable that sets how long a foreign delegate may take, in seconds (default: see [`Limits`]).
pub const DELEGATE_TIMEOUT: &str = "CATENA_DELEGATE_TIMEOUT";

/// What foreign delegates may take.
fn limits() -> Result<Limits> {
    let limits = Limits::default();
    Ok(Limits { time: seconds(DELEGATE_TIMEOUT, 180)?.unwrap_or(limits.time), ..limits })
}

/// A number of seconds in the environment, with an example for the error.
pub fn seconds(variable: &str, example: u32) -> Result<Option<Duration>> {
    let Some(text) = env::var_os(variable) else { return Ok(None) };
    let seconds = text.to_str().and_then(|text| text.parse().ok());
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match time.filter(|time| !time.is_zero()) {
        Some(time) => Ok(Some(time)),
        None => Err(Error::environment(format!(
            "{variable} {text:?} is not a time: it must be a number of seconds, for example {example}"
        ))),
    }
}

/// Runs `work` with an executor for attachments of this scope and the node's shared context.
///
/// `plugin` is the type under which a runtime ran this binary, and its configuration; `None` for a chain.
pub fn with_executor<T>(
    plugin: Option<(&str, &PluginConf)>,
    path: Vec<PathBuf>,
    work: impl FnOnce(&Executor<'_, Node>, &mut Node) -> Result<T>,
) -> Result<T> {
    let plugins = plugins();
    let registry = Registry::new(&plugins);
    let dirs = dirs()?;
    let executor = Executor::new(&registry, path, &dirs);
    let runner = Runner { limits: limits()?, ..executor.runner };
    let executor = Executor { runner, ..executor };
    let executor = match plugin {
        Some((kind, conf)) => executor.of_plugin(kind, conf),
        None => executor,
    };
    let mut node = Node::with_dirs(dirs);
    work(&executor, &mut node)
}
