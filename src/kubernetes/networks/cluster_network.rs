//! The cluster network: which chain is the pod's first one.

use std::path::{Path, PathBuf};

use chain::{ConfList, Error, Result};
use serde_json::{Map, Value};

use crate::kubernetes::{
    cluster::Cluster,
    conf::{CATENA, Conf},
    definition::{self, Found},
    master::{self, CARRIERS},
};

/// The cluster network of a configuration: `plugins`, `clusterNetwork`, the first of `delegates`, or else the node's
/// master.
///
/// Errors: 11 where there is none yet, or the API does not answer; 5, 6 and 7 where it cannot be read or carries itself.
pub fn cluster(conf: &Conf, cluster: Option<&dyn Cluster>) -> Result<Found> {
    find(conf, cluster, &mut Vec::new())
}

/// `on_the_way`: the networks being looked up, outermost first. A configuration that names itself is refused before
/// anything is done.
fn find(conf: &Conf, cluster: Option<&dyn Cluster>, on_the_way: &mut Vec<String>) -> Result<Found> {
    let found = match (&conf.plugins, &conf.cluster_network, conf.delegates.first()) {
        (Some(plugins), None, None) => {
            let mut object = conf.list_keys.clone();
            let plugins = plugins.iter().cloned().map(Value::Object).collect();
            object.insert("plugins".to_owned(), Value::Array(plugins));
            Found::of(ConfList::from_value(object.into())?)
        }
        (Some(_), cluster_network, _) => {
            let other = if cluster_network.is_some() { "clusterNetwork" } else { "delegates" };
            return Err(Error::config(format!(
                "network {}: plugins and {other} are both given; keep one of them",
                conf.name
            )));
        }
        (None, Some(network), delegate) => {
            if delegate.is_some() {
                tracing::warn!(
                    "network {}: clusterNetwork is given, so delegates are not used",
                    conf.name
                );
            }
            if on_the_way.contains(network) {
                return Err(Error::config(format!(
                    "clusterNetwork {network:?} of network {} names itself ({}): name a network whose plugins are not \
                     catena's own",
                    conf.name,
                    on_the_way.join(" → ")
                )));
            }
            on_the_way.push(network.clone());
            Found::named(network, conf, cluster).map_err(|error| {
                error.context(format_args!("clusterNetwork of network {}", conf.name))
            })?
        }
        (None, None, Some(_)) => delegate(conf, 0)?,
        (None, None, None) => Found::of(master(conf)?),
    };
    follow(&found.list, on_the_way)?;
    Ok(found)
}

/// The folder that the cluster network's file is in.
///
/// Errors (7): it is no file's.
pub(super) fn folder(conf: &Conf) -> Result<PathBuf> {
    match &conf.cluster_network {
        Some(path) if path.contains('/') => {
            let path = Path::new(path);
            let parent = path.parent().filter(|_| !path.is_dir());
            Ok(parent.unwrap_or(path).to_owned())
        }
        Some(_) => Ok(conf.conf_dir.clone()),
        None if conf.plugins.is_none() && conf.delegates.is_empty() => {
            Ok(conf.autoconfig_dir.clone())
        }
        None => Err(Error::config(
            "its plugins are files beside the cluster network's, which is in no file here: name that file as \
             clusterNetwork",
        )),
    }
}

/// One of `delegates`. A name that is missing is the configuration's.
pub(super) fn delegate(conf: &Conf, index: usize) -> Result<Found> {
    let list = definition::chain_of(conf.delegates[index].clone().into(), &conf.name)
        .and_then(|list| list.delegates(&Map::new()).map(|_| list));
    let list = list.map_err(|error| {
        error.context(format_args!("delegate {} of network {}", index + 1, conf.name))
    })?;
    Ok(Found::of(list))
}

/// The node's master: the one that is named, or the first that carries no other networks.
fn master(conf: &Conf) -> Result<ConfList> {
    let dir = &conf.autoconfig_dir;
    let found = match &conf.master_plugin {
        Some(file) => {
            ConfList::load_file(&dir.join(file)).map_err(|error| error.context("masterPlugin"))
        }
        None => master::find(dir),
    };
    found.map_err(|error| {
        error.context(format_args!(
            "network {}: neither plugins (a chain, as in a conflist) nor clusterNetwork (the name of a network or a \
             file) nor delegates is given",
            conf.name
        ))
    })
}

/// Looks up what the meta plugins in a chain carry, and refuses those that would begin anew with the pod: run inside one of
/// its networks, they would attach all of them again, without end.
pub(super) fn follow(list: &ConfList, on_the_way: &mut Vec<String>) -> Result<()> {
    for plugin in list.delegates(&Map::new())? {
        if !CARRIERS.contains(&plugin.kind.as_str()) {
            continue;
        }
        if plugin.kind != CATENA || plugin.exec {
            return Err(Error::config(format!(
                "network {}: its plugin {}{} would attach the pod to all its networks again, this one among them; name \
                 the network itself in its place",
                list.name,
                plugin.kind,
                if plugin.exec { " with \"exec\": true" } else { "" },
            )));
        }
        let depth = on_the_way.len();
        find(&Conf::of(CATENA, &plugin)?, None, on_the_way)?;
        on_the_way.truncate(depth);
    }
    Ok(())
}
