//! From JSON to a [`ConfList`].

use serde_json::{Map, Value};

use super::{ConfList, check_plugin, network_name};
use crate::{Code, Error, Result, Version};

/// Parses text; the error has line and column.
pub(super) fn json(text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|error| {
        let what = if text.iter().all(u8::is_ascii_whitespace) {
            "the configuration is empty".to_owned()
        } else {
            format!("the configuration is not valid JSON: {error}")
        };
        Error::new(Code::Decode, what)
    })
}

/// The object that every configuration is.
pub(super) fn object(json: Value) -> Result<Map<String, Value>> {
    match json {
        Value::Object(object) => Ok(object),
        _ => Err(Error::new(Code::Decode, "the configuration is not a JSON object")),
    }
}

/// A list. Its `plugins` may be absent, since files in a folder of the network's name can add to them.
pub(super) fn list(mut object: Map<String, Value>) -> Result<ConfList> {
    let name = network_name(&object)?;
    let plugins = match object.shift_remove("plugins") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(plugins)) => {
            let plugins = plugins.into_iter().enumerate();
            plugins
                .map(|(i, plugin)| check_plugin(plugin, &format!("plugin {} of the chain", i + 1)))
                .collect::<Result<_>>()?
        }
        Some(_) => {
            return Err(Error::new(Code::Decode, "plugins must be a list of plugin objects"));
        }
    };
    Ok(ConfList {
        name,
        cni_version: version(&object)?,
        disable_check: flag(&object, "disableCheck")?,
        disable_gc: flag(&object, "disableGC")?,
        load_only_inlined_plugins: flag(&object, "loadOnlyInlinedPlugins")?,
        plugins,
        source: None,
    })
}

/// A single plugin's configuration: a chain of one.
pub(super) fn single(object: Map<String, Value>) -> Result<ConfList> {
    Ok(ConfList {
        name: network_name(&object)?,
        cni_version: version(&object)?,
        disable_check: false,
        disable_gc: false,
        load_only_inlined_plugins: true,
        plugins: vec![check_plugin(Value::Object(object), "the configuration")?],
        source: None,
    })
}

/// A boolean, which libcni also takes as a string.
fn flag(object: &Map<String, Value>, key: &str) -> Result<bool> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => {
            Err(Error::new(Code::Decode, format!("{key} is {other}: it must be true or false")))
        }
    }
}

/// The version to speak: the highest one supported of those that the configuration names.
fn version(object: &Map<String, Value>) -> Result<Version> {
    let mut named = Vec::new();
    match object.get("cniVersions") {
        None | Some(Value::Null) => {}
        Some(Value::Array(versions)) => {
            for version in versions {
                named.push(text(version, "an entry of cniVersions")?);
            }
        }
        Some(_) => {
            return Err(Error::new(Code::Decode, "cniVersions must be a list of strings"));
        }
    }
    match object.get("cniVersion") {
        None | Some(Value::Null) => {}
        Some(version) => {
            let version = text(version, "cniVersion")?;
            if named.is_empty() {
                return version.parse();
            }
            if !version.is_empty() {
                named.push(version);
            }
        }
    }
    if named.is_empty() {
        return Ok(Version::V0_1_0);
    }
    let supported = named
        .iter()
        .filter_map(|version| Version::ALL.into_iter().find(|known| known.as_str() == *version));
    supported.max().ok_or_else(|| {
        let known: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
        Error::new(
            Code::IncompatibleVersion,
            format!(
                "none of the configuration's versions ({}) is supported; use one of {}",
                named.join(", "),
                known.join(", ")
            ),
        )
    })
}

fn text<'a>(json: &'a Value, what: &str) -> Result<&'a str> {
    json.as_str().ok_or_else(|| {
        Error::new(Code::Decode, format!("{what} is {json}: it must be a string as \"1.0.0\""))
    })
}
