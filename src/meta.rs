//! The meta plugin: a whole chain behind one plugin, run in this process.

use std::path::{Path, PathBuf};

use chain::{
    Attachment, Call, CniResult, ConfList, Error, Executor, Key, NetworkCall, Plugin, PluginConf,
    Request, Result, Runner,
};
use delegates::Node;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The meta plugin's type.
pub const KIND: &str = "catena";

/// Where networks are looked for by name unless the configuration says otherwise.
pub const DEFAULT_CONF_DIR: &str = "/etc/cni/net.d";

/// The meta plugin's configuration. Exactly one of `plugins` and `clusterNetwork` is given.
#[derive(Debug, Deserialize)]
struct Conf {
    /// A whole chain, exactly as a conflist has it.
    plugins: Option<Vec<Map<String, Value>>>,
    /// The name of a network in `confDir`, or the path of a configuration file.
    #[serde(rename = "clusterNetwork")]
    cluster_network: Option<String>,
    /// Where `clusterNetwork` is looked for (default [`DEFAULT_CONF_DIR`]).
    #[serde(rename = "confDir", default = "default_conf_dir")]
    conf_dir: PathBuf,
}

fn default_conf_dir() -> PathBuf {
    DEFAULT_CONF_DIR.into()
}

/// The chain that a meta plugin's configuration carries or names, with every network on the way looked up, so that a
/// configuration that names itself is refused before anything is done.
pub fn chain_of(conf: &PluginConf) -> Result<ConfList> {
    expand(conf, &mut Vec::new())
}

/// `on_the_way`: the networks being looked up, outermost first.
fn expand(conf: &PluginConf, on_the_way: &mut Vec<String>) -> Result<ConfList> {
    let own: Conf = conf.decode()?;
    let list = match (own.plugins, own.cluster_network) {
        (Some(plugins), None) => {
            let mut object = conf.raw.clone();
            object.retain(|key, _| LIST_KEYS.contains(&key.as_str()));
            object.insert("plugins".into(), plugins.into_iter().map(Value::Object).collect());
            ConfList::from_value(Value::Object(object))?
        }
        (None, Some(network)) => {
            if on_the_way.contains(&network) {
                return Err(Error::config(format!(
                    "clusterNetwork {network:?} of network {} names itself ({}): name a network whose plugins are not \
                     catena's own",
                    conf.name,
                    on_the_way.join(" → ")
                )));
            }
            on_the_way.push(network.clone());
            load_network(&network, &own.conf_dir).map_err(|error| {
                error.context(format!("clusterNetwork of network {}", conf.name))
            })?
        }
        (Some(_), Some(_)) => {
            return Err(Error::config(format!(
                "network {}: plugins and clusterNetwork are both given; keep one of them",
                conf.name
            )));
        }
        (None, None) => {
            return Err(Error::config(format!(
                "network {}: neither plugins (a chain, as in a conflist) nor clusterNetwork (the name of a network or \
                 a file) is given",
                conf.name
            )));
        }
    };
    for plugin in list.delegates(&Map::new())? {
        if plugin.kind == KIND {
            let depth = on_the_way.len();
            expand(&plugin, on_the_way)?;
            on_the_way.truncate(depth);
        }
    }
    Ok(list)
}

/// DEL of what has no record and whose chain is not to be had: its ADD failed over the same, and runtimes call DEL after
/// that as well. An error would keep the pod from being deleted for good.
pub fn nothing_to_del(attachment: &Attachment, error: &Error) {
    tracing::warn!(%attachment, %error, "there is no record, and no chain to go by: nothing is deleted");
}

/// The keys of the meta plugin's configuration that its chain has as a conflist.
const LIST_KEYS: [&str; 4] = ["cniVersion", "name", "disableCheck", "disableGC"];

/// A network by name in `conf_dir`, or by the path of its file.
pub fn load_network(network: &str, conf_dir: &Path) -> Result<ConfList> {
    let file = Path::new(network);
    let is_file = network.contains('/')
        || (file
            .extension()
            .is_some_and(|end| end == "conflist" || end == "conf" || end == "json")
            && file.exists());
    if is_file { ConfList::load_file(file) } else { ConfList::load(conf_dir, network) }
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
