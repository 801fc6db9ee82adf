//! The meta plugin: a whole chain behind one plugin, run in this process.

use chain::{
    Attachment, Call, CniResult, ConfList, Error, Executor, Key, NetworkCall, Plugin, PluginConf,
    Request, Result, Runner,
};
use delegates::Node;
use serde_json::Value;

use crate::kubernetes::{conf, networks};

/// The meta plugin's type.
pub const KIND: &str = conf::CATENA;

/// The chain that the meta plugin's configuration carries or names.
pub fn chain_of(conf: &PluginConf) -> Result<ConfList> {
    networks::chain_of(KIND, conf)
}

/// DEL of what has no record and whose chain is not to be had: its ADD failed over the same, and runtimes call DEL after
/// that as well. An error would keep the pod from being deleted for good.
pub fn nothing_to_del(attachment: &Attachment, error: &Error) {
    tracing::warn!(%attachment, %error, "there is no record, and no chain to go by: nothing is deleted");
}

/// The meta plugin as a delegate in another chain.
pub struct Meta;

impl Meta {
    /// Runs `work` with an executor that keeps records of its own for the chain of this configuration, apart from those
    /// of the chain that this plugin stands in (which may be a meta plugin's as well).
    fn with_executor<T>(
        &self,
        conf: &PluginConf,
        runner: &Runner<'_, Node>,
        node: &mut Node,
        work: impl FnOnce(&Executor<'_, Node>, &mut Node) -> Result<T>,
    ) -> Result<T> {
        let executor = Executor::new(runner.registry, runner.path.clone(), node.dirs());
        let runner = Runner { limits: runner.limits, ..executor.runner };
        work(&Executor { runner, scope: Key::scope_within(conf), ..executor }, node)
    }
}

/// The request for the inner chain of a call.
fn with_request<T>(
    call: &Call<'_, Node>,
    list: &ConfList,
    work: impl FnOnce(&Request<'_>) -> Result<T>,
) -> Result<T> {
    let capability_args = call.conf.raw.get("runtimeConfig").and_then(Value::as_object).cloned();
    work(&Request {
        list,
        attachment: call.attachment,
        capability_args: &capability_args.unwrap_or_default(),
        prev_result: call.prev_result.cloned(),
        observer: None,
    })
}

impl Plugin<Node> for Meta {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let list = chain_of(call.conf)?;
        self.with_executor(call.conf, call.runner, node, |executor, node| {
            with_request(call, &list, |request| executor.add(request, node))
        })
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        self.with_executor(call.conf, call.runner, node, |executor, node| {
            if executor.del_recorded(call.attachment, None, node)? {
                return Ok(());
            }
            match chain_of(call.conf) {
                Ok(list) => with_request(call, &list, |request| executor.del(request, node)),
                Err(error) => {
                    nothing_to_del(call.attachment, &error);
                    Ok(())
                }
            }
        })
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let list = chain_of(call.conf)?;
        self.with_executor(call.conf, call.runner, node, |executor, node| {
            with_request(call, &list, |request| executor.check(request, node))
        })
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        self.with_executor(call.conf, call.runner, node, |executor, node| {
            executor.repair_within(call.attachment, node)
        })
    }

    fn gc(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        let list = chain_of(call.conf)?;
        self.with_executor(call.conf, call.runner, node, |executor, node| {
            executor.gc(&call.conf.name, &list, call.valid, None, node)
        })
    }

    fn status(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        let list = chain_of(call.conf)?;
        self.with_executor(call.conf, call.runner, node, |executor, node| {
            executor.status(&list, None, node)
        })
    }
}
