//! The meta plugin: a whole chain behind one plugin, run in this process.

use chain::{Call, CniResult, Executor, Key, NetworkCall, Plugin, PluginConf, Result, Runner};
use delegates::Node;
use serde_json::Value;

use crate::kubernetes::{
    conf,
    verbs::{self, Target, Verbs},
};

/// The meta plugin's type.
pub const KIND: &str = conf::CATENA;

/// The meta plugin as a delegate in another chain.
pub struct Meta {
    /// The name that it goes by.
    pub kind: &'static str,
    /// Whether the chain is a meta plugin's: that one has attached the pod to what its annotation asks for, and this one is
    /// not to do it again.
    pub within_meta: bool,
}

impl Meta {
    /// Runs `work` with verbs that keep records of their own for the networks of this configuration, apart from those of the
    /// chain that this plugin stands in (which may be a meta plugin's as well).
    fn with_verbs<T>(
        &self,
        conf: &PluginConf,
        runner: &Runner<'_, Node>,
        node: &mut Node,
        work: impl FnOnce(&mut Verbs<'_>, &mut Node) -> Result<T>,
    ) -> Result<T> {
        let executor = within(conf, runner, node);
        let verbs = Verbs::new(self.kind, conf, &executor, None)?;
        work(&mut if self.within_meta { verbs.without_cluster() } else { verbs }, node)
    }
}

/// An executor for the chain that a delegate has inside.
fn within<'a>(conf: &PluginConf, runner: &Runner<'a, Node>, node: &Node) -> Executor<'a, Node> {
    let executor = Executor::new(runner.registry, runner.path.clone(), node.dirs());
    let runner = Runner { limits: runner.limits, ..executor.runner };
    Executor { runner, scope: Key::scope_within(conf), ..executor }
}

/// What a call is about, for the verbs.
fn with_target<T>(call: &Call<'_, Node>, work: impl FnOnce(&Target<'_>) -> T) -> T {
    let capability_args = call.conf.raw.get("runtimeConfig").and_then(Value::as_object).cloned();
    work(&Target {
        attachment: call.attachment,
        capability_args: &capability_args.unwrap_or_default(),
        prev_result: call.prev_result,
    })
}

impl Plugin<Node> for Meta {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn runs_chains(&self) -> bool {
        true
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        self.with_verbs(call.conf, call.runner, node, |verbs, node| {
            with_target(call, |target| verbs.add(target, node))
        })
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let executor = within(call.conf, call.runner, node);
        let verbs = Verbs::new(self.kind, call.conf, &executor, None);
        with_target(call, |target| verbs::del(verbs, &executor, target, node))
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        self.with_verbs(call.conf, call.runner, node, |verbs, node| {
            with_target(call, |target| verbs.check(target, node))
        })
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        within(call.conf, call.runner, node).repair_within(call.attachment, node)
    }

    fn gc(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        self.with_verbs(call.conf, call.runner, node, |verbs, node| {
            verbs.gc(&call.conf.name, call.valid, node)
        })
    }

    fn status(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        self.with_verbs(call.conf, call.runner, node, |verbs, node| verbs.status(node))
    }
}
