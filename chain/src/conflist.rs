//! A network configuration: a chain of plugins under one name (CNI 1.1.0, section 1).

mod load;
mod parse;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::{Code, Error, PluginConf, Result, Version, check_network_name, check_plugin_type};

/// A network configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfList {
    /// `name`: the network.
    pub name: String,
    /// The version that is spoken: the highest supported of `cniVersions` and `cniVersion` (neither: 0.1.0).
    pub cni_version: Version,
    /// `disableCheck`: CHECK succeeds without looking (default false).
    pub disable_check: bool,
    /// `disableGC`: GC does nothing (default false).
    pub disable_gc: bool,
    /// `loadOnlyInlinedPlugins`: the folder named like the network, beside the file, is not read (default false).
    pub load_only_inlined_plugins: bool,
    /// `plugins`: their configurations, in the order of ADD, as they were written. Each is an object with a valid
    /// `type`. Only a list that [`ConfList::load_file`] has yet to complete is empty.
    pub plugins: Vec<Map<String, Value>>,
    /// The file it was read from.
    pub source: Option<PathBuf>,
}

impl ConfList {
    /// Reads a list, or a single plugin's configuration, which is a chain of one.
    ///
    /// Errors: 6 where the text is not JSON (with line and column) or a field has the wrong type, 7 where the
    /// configuration is invalid, 1 where none of its versions is supported.
    pub fn from_slice(text: &[u8]) -> Result<Self> {
        Self::from_value(parse::json(text)?)
    }

    /// The same from JSON that is parsed. An object with `plugins` is a list, also where it has a `type` (as the meta
    /// plugin's own configuration has), any other a single plugin's configuration.
    pub fn from_value(json: Value) -> Result<Self> {
        let object = parse::object(json)?;
        let list = if object.get("plugins").is_some_and(|plugins| !plugins.is_null()) {
            parse::list(object)?
        } else if object.contains_key("type") {
            parse::single(object)?
        } else {
            return Err(Error::config(
                "the configuration has neither \"plugins\" (a chain) nor \"type\" (a single plugin)",
            ));
        };
        list.require_plugins()
    }

    /// The chain of one that a plugin is when a runtime runs it: `object` is its stdin, `kind` the name it was invoked
    /// by. As with the reference plugins, that name says what it is, not `type` (an IPAM plugin reads the
    /// configuration of the plugin that calls it). `exec` has been followed by whoever ran it, and is dropped.
    pub fn from_plugin(kind: &str, mut object: Map<String, Value>) -> Result<Self> {
        object.insert("type".to_owned(), kind.into());
        object.shift_remove("exec");
        parse::single(object)
    }

    /// The delegates of the chain, each with its request configuration (CNI 1.1.0, section 3 "Deriving request
    /// configuration"): `name`, `cniVersion`, and `runtimeConfig` with those of `capability_args` that the plugin
    /// declares. GC and STATUS know no capability arguments.
    ///
    /// Two points where practice and specification part:
    /// - `capabilities` is left out, as the specification says. libcni leaves it in; no plugin reads it, since what a
    ///   plugin acts on is `runtimeConfig`.
    /// - a `runtimeConfig` that is there already is kept, and a capability argument of the same name wins. (The
    ///   runtime writes that key. It is there where this chain is itself a plugin of another one.)
    pub fn delegates(&self, capability_args: &Map<String, Value>) -> Result<Vec<PluginConf>> {
        let delegates = self.plugins.iter().enumerate().map(|(index, plugin)| {
            self.delegate(plugin, capability_args).map_err(|error| match self.plugins.len() {
                1 => error,
                _ => error.context(format_args!("plugin {} of the chain", index + 1)),
            })
        });
        delegates.collect()
    }

    fn delegate(
        &self,
        plugin: &Map<String, Value>,
        capability_args: &Map<String, Value>,
    ) -> Result<PluginConf> {
        let mut raw = Map::new();
        raw.insert("cniVersion".to_owned(), self.cni_version.as_str().into());
        raw.insert("name".to_owned(), self.name.clone().into());
        for (key, value) in plugin {
            let ours = matches!(key.as_str(), "cniVersion" | "name" | "prevResult");
            if !ours && !key.starts_with("cni.dev/") {
                raw.insert(key.clone(), value.clone());
            }
        }
        let mut conf = PluginConf::from_object(raw)?;
        conf.raw.shift_remove("capabilities");
        let mut runtime_config = match conf.raw.shift_remove("runtimeConfig") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(object)) => object,
            Some(other) => {
                return Err(Error::new(
                    Code::Decode,
                    format!("{}: runtimeConfig is {other}: it must be an object", conf.kind),
                ));
            }
        };
        for (capability, value) in capability_args {
            if conf.capabilities.get(capability) == Some(&true) {
                runtime_config.insert(capability.clone(), value.clone());
            }
        }
        if !runtime_config.is_empty() {
            conf.raw.insert("runtimeConfig".to_owned(), runtime_config.into());
        }
        Ok(conf)
    }

    fn require_plugins(self) -> Result<Self> {
        if !self.plugins.is_empty() {
            return Ok(self);
        }
        Err(Error::config(format!(
            "network {:?} has no plugins: \"plugins\" is missing or empty{}",
            self.name,
            match &self.source {
                Some(file) if !self.load_only_inlined_plugins => format!(
                    ", and {} has no .conf files",
                    file.with_file_name(&self.name).display()
                ),
                _ => String::new(),
            }
        )))
    }
}

/// Checks what every plugin of a list must have.
fn check_plugin(plugin: Value, at: &str) -> Result<Map<String, Value>> {
    let Value::Object(plugin) = plugin else {
        return Err(Error::new(Code::Decode, format!("{at} is not a JSON object")));
    };
    match plugin.get("type") {
        Some(Value::String(kind)) => {
            check_plugin_type(kind).map_err(|error| error.context(at))?;
            Ok(plugin)
        }
        Some(other) => {
            Err(Error::new(Code::Decode, format!("{at}: type is {other}: it must be a string")))
        }
        None => Err(Error::config(format!("{at} has no type: it must name the plugin"))),
    }
}

/// `name`, checked.
fn network_name(object: &Map<String, Value>) -> Result<String> {
    match object.get("name") {
        Some(Value::String(name)) => check_network_name(name).map(|()| name.clone()),
        None | Some(Value::Null) => {
            Err(Error::config("the configuration has no \"name\": it must name the network"))
        }
        Some(other) => {
            Err(Error::new(Code::Decode, format!("name is {other}: it must be a string")))
        }
    }
}
