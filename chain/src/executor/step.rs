//! What a chain does, step by step, for logs and for whoever watches.
//!
//! A step is a span at level `debug`. Its field `step` is what it is called where its own name is too general.

use std::time::{Duration, Instant};

use tracing::span::EnteredSpan;

use super::Executor;
use crate::{Attachment, Delegate, Error, Node, Result, Verb, runner::Failure};

/// One step of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Step<'s> {
    /// What ran.
    pub kind: StepKind,
    /// The delegate's type; of a flush, the verb that it ends.
    pub delegate: &'s str,
    /// What it did.
    pub verb: Verb,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed, where it did.
    pub error: Option<&'s Error>,
}

/// What ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// A delegate in this process.
    BuiltIn,
    /// An executable.
    Foreign,
    /// What the built-in delegates before it had put off, done together ([`Node::flush`]).
    Flush,
}

/// Is told of each step after it.
pub type Observer<'o> = dyn Fn(&Step<'_>) + 'o;

/// The error in what a step failed with.
pub(super) trait Cause {
    fn cause(&self) -> &Error;
}

impl Cause for Error {
    fn cause(&self) -> &Error {
        self
    }
}

impl Cause for Failure {
    fn cause(&self) -> &Error {
        &self.error
    }
}

impl<N: Node> Executor<'_, N> {
    /// Runs a delegate as a step.
    pub(super) fn step<T, E: Cause>(
        &self,
        observer: Option<&Observer<'_>>,
        delegate: Delegate<'_>,
        verb: Verb,
        run: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let foreign = self.runner.is_foreign(delegate);
        let kind = if foreign { StepKind::Foreign } else { StepKind::BuiltIn };
        observed(observer, kind, delegate.kind, verb, run)
    }

    /// Does what the built-in delegates have put off, as a step. Where that fails it is forgotten, so that it is not
    /// tried again with what comes next.
    pub(super) fn flush(
        &self,
        observer: Option<&Observer<'_>>,
        verb: Verb,
        node: &mut N,
    ) -> Result<()> {
        let flushed = observed(observer, StepKind::Flush, "flush", verb, || {
            tracing::debug_span!("flush").in_scope(|| node.flush())
        });
        if flushed.is_err() {
            node.discard();
        }
        flushed
    }
}

/// A verb for one attachment, as a step.
pub(super) fn begin(verb: Verb, attachment: &Attachment) -> EnteredSpan {
    let Attachment { network, container_id, ifname, .. } = attachment;
    let (step, network) = (verb.as_str(), network.as_str());
    let (container, interface) = (container_id.as_str(), ifname.as_str());
    tracing::debug_span!("verb", step, network, container, interface).entered()
}

/// A verb for a network, as a step.
pub(super) fn begin_of_network(verb: Verb, network: &str) -> EnteredSpan {
    tracing::debug_span!("verb", step = verb.as_str(), network).entered()
}

fn observed<T, E: Cause>(
    observer: Option<&Observer<'_>>,
    kind: StepKind,
    delegate: &str,
    verb: Verb,
    run: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let start = Instant::now();
    let done = run();
    let duration = start.elapsed();
    let error = done.as_ref().err().map(Cause::cause);
    if let Some(error) = error {
        tracing::debug!(%verb, delegate, %error, "failed");
    }
    if let Some(observer) = observer {
        observer(&Step { kind, delegate, verb, duration, error });
    }
    done
}
