//! From the name of a network to its chain: NetworkAttachmentDefinitions, files of the node, objects as they stand.

use std::path::Path;

use chain::{Code, ConfList, Error, Result};
use serde_json::{Map, Value};

use super::{
    cluster::{Cluster, Definition},
    conf::Conf,
    selection::Selection,
};

/// A network that was looked up.
#[derive(Clone, Debug)]
pub struct Found {
    /// What it is called: `namespace/name` of its definition, or its configuration's name.
    pub name: String,
    /// Its chain.
    pub list: ConfList,
    /// The device plugin's resource that its definition names.
    pub resource: Option<String>,
}

impl Found {
    /// A network that has no definition.
    pub fn of(list: ConfList) -> Self {
        Self { name: list.name.clone(), list, resource: None }
    }

    /// The network of a definition. One without a configuration names a file in `conf_dir`.
    ///
    /// Errors (6, 7): its configuration is none, or the file is not there.
    pub fn of_definition(definition: &Definition, conf_dir: &Path) -> Result<Self> {
        let name = format!("{}/{}", definition.namespace, definition.name);
        let list = match definition.config.trim() {
            "" => ConfList::load(conf_dir, &definition.name).map_err(|error| {
                error.context("it has no config, and so names a network of the node's files")
            }),
            config => serde_json::from_str(config)
                .map_err(|error| {
                    Error::new(Code::Decode, format!("its config is not valid JSON: {error}"))
                })
                .and_then(|config| chain_of(config, &definition.name)),
        };
        let list = list.and_then(|list| list.delegates(&Map::new()).map(|_| list));
        let list = list
            .map_err(|error| error.context(format_args!("NetworkAttachmentDefinition {name}")))?;
        Ok(Self { name, list, resource: definition.resource.clone() })
    }

    /// The network that an element of a pod's annotation asks for; `None` where there is no such definition.
    pub fn selected(
        selection: &Selection,
        conf: &Conf,
        cluster: &dyn Cluster,
    ) -> Result<Option<Self>> {
        let definition = cluster.definition(&selection.namespace, &selection.name)?;
        definition.map(|definition| Self::of_definition(&definition, &conf.conf_dir)).transpose()
    }

    /// The network that the node's configuration names: by a path; or by a name, which is that of a definition in
    /// `multusNamespace`, or else of a network in `confDir`.
    ///
    /// Where the API does not answer, the node's files are not asked in its place: they may have another network of this
    /// name.
    pub fn named(network: &str, conf: &Conf, cluster: Option<&dyn Cluster>) -> Result<Self> {
        let definition = match cluster {
            Some(cluster) if !network.contains('/') => {
                cluster.definition(&conf.multus_namespace, network)?
            }
            _ => None,
        };
        if let Some(definition) = definition {
            return Self::of_definition(&definition, &conf.conf_dir);
        }
        let list = load_network(network, &conf.conf_dir).map_err(|error| match cluster {
            Some(_) if !network.contains('/') => error.and(format_args!(
                "nor is there a NetworkAttachmentDefinition {}/{network}",
                conf.multus_namespace
            )),
            _ => error,
        })?;
        Ok(Self::of(list))
    }
}

/// A network by the path of its file, or of a folder, whose first network it is then; else by its name in `conf_dir`.
pub fn load_network(network: &str, conf_dir: &Path) -> Result<ConfList> {
    let path = Path::new(network);
    let is_path = network.contains('/')
        || (path
            .extension()
            .is_some_and(|end| end == "conflist" || end == "conf" || end == "json")
            && path.exists());
    if !is_path {
        return ConfList::load(conf_dir, network);
    }
    if !path.is_dir() {
        return ConfList::load_file(path);
    }
    let first = ConfList::load_dir(path)?.into_iter().next();
    first.map(|(_, list)| list).unwrap_or_else(|| {
        Err(Error::config(format!(
            "the folder {network} has no .conflist, .conf or .json file: put the network there, or name another"
        )))
    })
}

/// The chain of an object that stands in a definition or in `delegates`. With a `type` it is a single plugin's
/// configuration, whatever else it has; `name` is given to one that has none.
pub fn chain_of(config: Value, name: &str) -> Result<ConfList> {
    let Value::Object(mut object) = config else {
        return Err(Error::new(Code::Decode, "its config is not a JSON object"));
    };
    let given = |key: &str| object.get(key).is_some_and(|value| !value.is_null() && value != "");
    let is_single = given("type");
    if !given("name") {
        object.insert("name".to_owned(), name.into());
    }
    if is_single {
        let keys = ["cniVersion", "cniVersions", "name"];
        let list_keys =
            keys.iter().filter_map(|key| Some(((*key).to_owned(), object.get(*key)?.clone())));
        let mut list: Map<_, _> = list_keys.collect();
        list.insert("plugins".to_owned(), Value::Array(vec![object.into()]));
        object = list;
    }
    ConfList::from_value(object.into())
}
