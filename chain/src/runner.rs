//! Runs one delegate: in-process where it is built in, by exec where it is foreign.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use serde_json::{Map, Value};
use tracing::span::EnteredSpan;

use crate::{
    Attachment, Call, CniResult, Code, Error, History, Limits, NetworkCall, Node, Plugin,
    PluginConf, Registry, Result, ValidAttachment, Verb,
    foreign::{self, Exec},
};

/// Runs delegates of either kind. No caller has to know which kind one is.
///
/// Calls block until the delegate is done; they are not to be made from within an async runtime.
pub struct Runner<'a, N> {
    /// The built-in delegates.
    pub registry: &'a Registry<'a, N>,
    /// `CNI_PATH`: where foreign delegates are looked for, in order.
    pub path: Vec<PathBuf>,
    /// What a foreign delegate may take.
    pub limits: Limits,
}

/// One delegate: which plugin runs with which configuration.
#[derive(Clone, Copy, Debug)]
pub struct Delegate<'c> {
    /// The plugin's type.
    pub kind: &'c str,
    /// Whether the executable runs even where this type is built in.
    pub exec: bool,
    /// The configuration that it gets.
    pub conf: &'c PluginConf,
}

impl<'c> Delegate<'c> {
    /// The plugin that the configuration is for.
    pub fn of(conf: &'c PluginConf) -> Self {
        Self { kind: &conf.kind, exec: conf.exec, conf }
    }

    /// The IPAM plugin that the configuration names; it gets the same configuration.
    pub fn ipam(conf: &'c PluginConf) -> Option<Self> {
        conf.ipam.as_ref().map(|ipam| Self { kind: &ipam.kind, exec: ipam.exec, conf })
    }

    /// Its work, as a step that is called as it is.
    fn begin(self) -> EnteredSpan {
        tracing::debug_span!("delegate", step = self.kind).entered()
    }
}

/// A failed delegate.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Why.
    pub error: Error,
    /// Whether it may have left something behind: it panicked, or it is foreign and was run. (A built-in delegate that
    /// returns an error has undone what it did.)
    pub unclean: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, unclean: false }
    }
}

impl<'a, N: Node> Runner<'a, N> {
    /// A runner with the default limits for foreign delegates.
    pub fn new(registry: &'a Registry<'a, N>, path: Vec<PathBuf>) -> Self {
        Self { registry, path, limits: Limits::default() }
    }

    /// Whether a delegate runs as an executable: its type is not built in, or it says so.
    pub fn is_foreign(&self, delegate: Delegate<'_>) -> bool {
        self.built_in(delegate).is_none()
    }

    /// Whether nothing of other delegates may be put off while this one runs: it is foreign, or runs chains of its own, at
    /// whose end is done or forgotten what is put off.
    pub fn is_on_its_own(&self, delegate: Delegate<'_>) -> bool {
        self.built_in(delegate).is_none_or(|plugin| plugin.runs_chains())
    }

    /// Whether a delegate can be run at all: it speaks the version, or there is an executable.
    pub fn require_runnable(&self, delegate: Delegate<'_>) -> Result<()> {
        let runnable = match self.built_in(delegate) {
            Some(plugin) => version_spoken(plugin, delegate.conf),
            None => self.find(delegate.kind).map(drop),
        };
        runnable.map_err(|error| error.context(delegate.kind))
    }

    /// ADD of one delegate. The error names it.
    pub fn add(
        &self,
        delegate: Delegate<'_>,
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        node: &mut N,
    ) -> Result<CniResult> {
        self.try_add(delegate, attachment, prev_result, node).map_err(|failure| failure.error)
    }

    /// ADD, where it matters whether a failure is a clean one.
    pub(crate) fn try_add(
        &self,
        delegate: Delegate<'_>,
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        node: &mut N,
    ) -> Result<CniResult, Failure> {
        let _step = delegate.begin();
        let conf = delegate.conf;
        let added = match self.built_in(delegate) {
            Some(plugin) => {
                let history = History::Unknown;
                let call = Call { attachment, conf, prev_result, runner: self, history };
                version_spoken(plugin, conf)
                    .map_err(Failure::from)
                    .and_then(|()| guarded(|| plugin.add(&call, node)))
            }
            None => self.exec_add(delegate.kind, attachment, conf, prev_result),
        };
        added.map_err(|failure| Failure { error: failure.error.context(delegate.kind), ..failure })
    }

    /// DEL of one delegate.
    pub fn del(
        &self,
        delegate: Delegate<'_>,
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        history: History,
        node: &mut N,
    ) -> Result<()> {
        let conf = delegate.conf;
        let call = Call { attachment, conf, prev_result, runner: self, history };
        self.run(delegate, Verb::Del, Some(attachment), prev_result, None, |plugin| {
            plugin.del(&call, node)
        })
    }

    /// CHECK of one delegate.
    pub fn check(
        &self,
        delegate: Delegate<'_>,
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        node: &mut N,
    ) -> Result<()> {
        let conf = delegate.conf;
        let history = History::Added;
        let call = Call { attachment, conf, prev_result, runner: self, history };
        self.run(delegate, Verb::Check, Some(attachment), prev_result, None, |plugin| {
            plugin.check(&call, node)
        })
    }

    /// Has one delegate put back what it misses ([`Plugin::repair`]). The specification has no word for this, so an
    /// executable is not asked.
    pub fn repair(
        &self,
        delegate: Delegate<'_>,
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        node: &mut N,
    ) -> Result<()> {
        let Some(plugin) = self.built_in(delegate) else { return Ok(()) };
        let _step = delegate.begin();
        let conf = delegate.conf;
        let history = History::Added;
        let call = Call { attachment, conf, prev_result, runner: self, history };
        guarded(|| plugin.repair(&call, node))
            .map_err(|failure| failure.error.context(delegate.kind))
    }

    /// GC of one delegate: of what belongs to none of the valid attachments.
    pub fn gc(
        &self,
        delegate: Delegate<'_>,
        valid: &[ValidAttachment],
        node: &mut N,
    ) -> Result<()> {
        let call = NetworkCall { conf: delegate.conf, valid, runner: self };
        self.run(delegate, Verb::Gc, None, None, Some(valid), |plugin| plugin.gc(&call, node))
    }

    /// STATUS of one delegate.
    pub fn status(&self, delegate: Delegate<'_>, node: &mut N) -> Result<()> {
        let call = NetworkCall { conf: delegate.conf, valid: &[], runner: self };
        self.run(delegate, Verb::Status, None, None, None, |plugin| plugin.status(&call, node))
    }

    /// The executable of a foreign delegate.
    pub fn find(&self, kind: &str) -> Result<PathBuf> {
        foreign::find(kind, &self.path)
    }

    /// The versions of the specification that a foreign delegate says it speaks (VERSION).
    pub fn foreign_versions(&self, kind: &str) -> Result<Vec<String>> {
        let program = self.find(kind)?;
        self.exec(&program, Verb::Version, None).versions().map_err(|error| error.context(kind))
    }

    /// ADD of the IPAM plugin that the configuration names; `None` where it names none.
    ///
    /// Where it fails it leaves nothing behind: if it may have, its DEL is run before the error is returned, as the
    /// specification asks (section 4).
    pub fn ipam_add(&self, call: &Call<'_, N>, node: &mut N) -> Result<Option<CniResult>> {
        let Some(ipam) = Delegate::ipam(call.conf) else { return Ok(None) };
        let failure = match self.try_add(ipam, call.attachment, call.prev_result, node) {
            Ok(result) => return Ok(Some(result)),
            Err(failure) => failure,
        };
        if !failure.unclean {
            return Err(failure.error);
        }
        match self.del(ipam, call.attachment, call.prev_result, History::Begun, node) {
            Ok(()) => Err(failure.error),
            Err(del) => Err(failure.error.and(format!("its DEL failed too: {del}"))),
        }
    }

    /// DEL of the IPAM plugin that the configuration names.
    pub fn ipam_del(&self, call: &Call<'_, N>, node: &mut N) -> Result<()> {
        match Delegate::ipam(call.conf) {
            Some(ipam) => self.del(ipam, call.attachment, call.prev_result, call.history, node),
            None => Ok(()),
        }
    }

    /// CHECK of the IPAM plugin that the configuration names.
    pub fn ipam_check(&self, call: &Call<'_, N>, node: &mut N) -> Result<()> {
        match Delegate::ipam(call.conf) {
            Some(ipam) => self.check(ipam, call.attachment, call.prev_result, node),
            None => Ok(()),
        }
    }

    /// Repair of the IPAM plugin that the configuration names.
    pub fn ipam_repair(&self, call: &Call<'_, N>, node: &mut N) -> Result<()> {
        match Delegate::ipam(call.conf) {
            Some(ipam) => self.repair(ipam, call.attachment, call.prev_result, node),
            None => Ok(()),
        }
    }

    /// GC of the IPAM plugin that the configuration names.
    pub fn ipam_gc(&self, call: &NetworkCall<'_, N>, node: &mut N) -> Result<()> {
        match Delegate::ipam(call.conf) {
            Some(ipam) => self.gc(ipam, call.valid, node),
            None => Ok(()),
        }
    }

    /// STATUS of the IPAM plugin that the configuration names.
    pub fn ipam_status(&self, call: &NetworkCall<'_, N>, node: &mut N) -> Result<()> {
        match Delegate::ipam(call.conf) {
            Some(ipam) => self.status(ipam, node),
            None => Ok(()),
        }
    }

    fn built_in(&self, delegate: Delegate<'_>) -> Option<&'a dyn Plugin<N>> {
        if delegate.exec { None } else { self.registry.get(delegate.kind) }
    }

    fn exec<'e>(
        &'e self,
        program: &'e std::path::Path,
        verb: Verb,
        attachment: Option<&'e Attachment>,
    ) -> Exec<'e> {
        Exec { program, verb, attachment, path: &self.path, limits: self.limits }
    }

    fn exec_add(
        &self,
        kind: &str,
        attachment: &Attachment,
        conf: &PluginConf,
        prev_result: Option<&CniResult>,
    ) -> Result<CniResult, Failure> {
        let program = self.find(kind)?;
        let stdin = request(conf, prev_result)?;
        let stdout = self.exec(&program, Verb::Add, Some(attachment)).run(&stdin)?;
        let result = serde_json::from_slice(&stdout)
            .map_err(|error| Error::new(Code::Decode, format!("its output is no result: {error}")))
            .and_then(|json| CniResult::from_json(json, conf.cni_version));
        result.map_err(|error| Failure { error, unclean: true })
    }

    /// Any verb but ADD.
    fn run(
        &self,
        delegate: Delegate<'_>,
        verb: Verb,
        attachment: Option<&Attachment>,
        prev_result: Option<&CniResult>,
        valid: Option<&[ValidAttachment]>,
        built_in: impl FnOnce(&'a dyn Plugin<N>) -> Result<()>,
    ) -> Result<()> {
        let _step = delegate.begin();
        let conf = delegate.conf;
        let ran = match self.built_in(delegate) {
            Some(plugin) => version_spoken(plugin, conf)
                .and_then(|()| guarded(|| built_in(plugin)).map_err(|failure| failure.error)),
            None => self.find(delegate.kind).and_then(|program| {
                // Before 0.4.0 there is no prevResult in DEL.
                let prev_result = prev_result.filter(|_| conf.cni_version.has_check());
                let mut stdin = request(conf, prev_result)?;
                if let Some(valid) = valid {
                    let valid = serde_json::to_value(valid).expect("a list of strings");
                    // libcni once read the second name; plugins may still.
                    stdin.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
                    stdin.insert("cni.dev/attachments".to_owned(), valid);
                }
                let ran = self.exec(&program, verb, attachment).run(&stdin);
                ran.map(drop).map_err(|failure| failure.error)
            }),
        };
        ran.map_err(|error| error.context(delegate.kind))
    }
}

/// What a foreign plugin gets on stdin. `exec` is for Catena alone: a link to Catena would follow it to itself.
fn request(conf: &PluginConf, prev_result: Option<&CniResult>) -> Result<Map<String, Value>> {
    let mut request = conf.raw.clone();
    request.shift_remove("exec");
    if let Some(result) = prev_result {
        let result =
            result.to_json(conf.cni_version).map_err(|error| error.context("prevResult"))?;
        request.insert("prevResult".to_owned(), result);
    }
    Ok(request)
}

fn version_spoken<N>(plugin: &dyn Plugin<N>, conf: &PluginConf) -> Result<()> {
    if conf.cni_version >= plugin.oldest_version() {
        return Ok(());
    }
    Err(Error::new(
        Code::IncompatibleVersion,
        format!(
            "cniVersion {} is too old for this plugin: it needs {} or newer",
            conf.cni_version,
            plugin.oldest_version()
        ),
    ))
}

/// Runs a built-in delegate. Its panic is its failure, and does not take the chain down with it.
fn guarded<T>(delegate: impl FnOnce() -> Result<T>) -> Result<T, Failure> {
    // The node may be in the middle of something: what was put off is discarded or done whole by the chain.
    match catch_unwind(AssertUnwindSafe(delegate)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(error.into()),
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            let error = Error::internal(format!("panicked, which is a bug in it: {message}"));
            Err(Failure { error, unclean: true })
        }
    }
}

#[cfg(test)]
mod tests;
