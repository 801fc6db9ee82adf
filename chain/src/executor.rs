//! Runs a whole chain as a runtime does (CNI 1.1.0, section 3), as one transaction.

mod add;
mod del;
mod instance;
mod network;
mod repair;
mod step;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

pub use self::{
    del::Undoing,
    repair::{Condition, Repaired},
    step::{Observer, Step, StepKind},
};
use crate::{
    Attachment, CniResult, Code, ConfList, Delegate, Dirs, Error, Node, PluginConf, Registry,
    Result, Runner, Verb,
    record::{Key, Records},
};

/// Runs chains, and keeps their records.
///
/// All verbs block, as [`Runner`] does.
pub struct Executor<'a, N> {
    /// Runs each delegate.
    pub runner: Runner<'a, N>,
    /// The records of attachments.
    pub records: Records,
    /// Whose records these are: [`Key::CHAIN`] for a chain that is run as a runtime does; where a runtime ran a single
    /// plugin of ours, its type.
    pub scope: String,
    /// Which of several plugins of that type it is (see [`Executor::of_plugin`]); empty for a chain.
    pub instance: String,
}

/// What a verb is to do for one attachment.
pub struct Request<'r> {
    /// The chain. DEL uses it only where there is no record.
    pub list: &'r ConfList,
    /// The attachment; its network is the list's.
    pub attachment: &'r Attachment,
    /// The capability arguments that the runtime provides.
    pub capability_args: &'r Map<String, Value>,
    /// The result that the chain was given, where it is itself a part of one.
    pub prev_result: Option<CniResult>,
    /// Is told of each step.
    pub observer: Option<&'r Observer<'r>>,
}

impl<'a, N: Node> Executor<'a, N> {
    /// An executor of chains as a runtime runs them.
    pub fn new(registry: &'a Registry<'a, N>, path: Vec<std::path::PathBuf>, dirs: &Dirs) -> Self {
        Self {
            runner: Runner::new(registry, path),
            records: Records::open(dirs),
            scope: Key::CHAIN.to_owned(),
            instance: String::new(),
        }
    }

    /// CHECK: whether the attachment is as ADD left it. The delegates are asked in the order of ADD, with its final
    /// result (or the one that the request has), and all that they find goes into one error.
    ///
    /// A list with `disableCheck` is not checked. Versions before 0.4.0 have no CHECK (code 1).
    pub fn check(&self, request: &Request<'_>, node: &mut N) -> Result<()> {
        let version = request.list.cni_version;
        if !version.has_check() {
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!("cniVersion {version} has no CHECK: it came with 0.4.0"),
            ));
        }
        self.check_carried(request, node)
    }

    /// CHECK of a chain that a meta plugin carries, whose caller need not speak the chain's version: where that is before 0.4.0
    /// the built-in delegates are asked all the same, and executables, which do not know the verb, are not.
    pub fn check_carried(&self, request: &Request<'_>, node: &mut N) -> Result<()> {
        let list = request.list;
        if list.disable_check {
            return Ok(());
        }
        let _step = step::begin(Verb::Check, request.attachment);
        let record = match self.keys_of(request.attachment)?.first() {
            Some(key) => self.records.read(key)?,
            None => None,
        };
        let confs = match &record {
            Some(record) if record.complete => record
                .delegates
                .iter()
                .map(|delegate| delegate.plugin_conf())
                .collect::<Result<_>>()?,
            Some(_) => {
                return Err(Error::internal(format!(
                    "{}: its ADD or DEL was not finished; DEL it, and ADD it again",
                    request.attachment
                )));
            }
            None => list.delegates(request.capability_args)?,
        };
        let recorded = record.as_ref().map(|record| self.runner_of(record));
        let runner = recorded.as_ref().unwrap_or(&self.runner);
        let recorded = record.as_ref().and_then(|record| record.result.as_ref());
        let prev_result = request.prev_result.as_ref().or(recorded);
        let observer = request.observer;
        let findings =
            self.findings(runner, &confs, request.attachment, prev_result, observer, node);
        Error::join(findings).map_or(Ok(()), Err)
    }

    /// Replaces the result of an ADD that was finished: its caller has changed what it tells of. CHECK and repair go by it.
    pub fn amend(&self, attachment: &Attachment, result: &CniResult) -> Result<()> {
        for key in self.keys_of(attachment)? {
            if let Some(mut record) = self.records.read(&key)? {
                record.result = Some(result.clone());
                self.records.write(&record)?;
            }
        }
        Ok(())
    }

    /// What the delegates of a chain find in CHECK, each its own. Only one that cannot look at all (its configuration, the
    /// namespace) ends it, since those after it could not either.
    fn findings(
        &self,
        runner: &Runner<'_, N>,
        confs: &[PluginConf],
        attachment: &Attachment,
        prev_result: Option<&CniResult>,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Vec<Error> {
        let mut findings = Vec::new();
        for (index, conf) in confs.iter().enumerate() {
            let delegate = Delegate::of(conf);
            if runner.is_foreign(delegate) && !conf.cni_version.has_check() {
                continue;
            }
            let checked = self.step(observer, delegate, Verb::Check, || {
                runner.check(delegate, attachment, prev_result, node)
            });
            let Err(error) = checked else { continue };
            let looked = error.code == Code::Internal;
            findings.push(position(error, index, confs.len()));
            if !looked {
                break;
            }
        }
        findings
    }
}

/// An error of one delegate says where in the chain it stands, unless it stands alone.
fn position(error: Error, index: usize, count: usize) -> Error {
    if count == 1 {
        return error;
    }
    error.context(format_args!("delegate {} of {count} failed", index + 1))
}
