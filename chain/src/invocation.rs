//! What a runtime hands to a plugin: `CNI_*` variables and a configuration on stdin, validated once, at the door.

use std::{ffi::OsString, path::PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Attachment, CniArgs, CniResult, Code, Error, PluginConf, Result, ValidAttachment, Verb,
    check_container_id, check_ifname,
};

/// The `CNI_*` variables of one call.
#[derive(Clone, Debug)]
pub struct Environment {
    /// `CNI_CONTAINERID`, checked; empty for GC, STATUS and VERSION.
    pub container_id: String,
    /// `CNI_IFNAME`, checked; empty for GC, STATUS and VERSION.
    pub ifname: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub args: CniArgs,
    /// `CNI_PATH`, split.
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// Reads the variables by `get` and checks what the verb needs; all that is missing is named in one error (code 4).
    pub fn read(verb: Verb, get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let missing: Vec<_> =
            verb.required().iter().copied().filter(|name| get(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(Error::environment(format!(
                "required variables are missing: {} ({} needs {})",
                missing.join(", "),
                verb.as_str(),
                verb.required().join(", ")
            )));
        }
        let text = |name: &str| match get(name).map(OsString::into_string) {
            None => Ok(String::new()),
            Some(Ok(text)) => Ok(text),
            Some(Err(raw)) => Err(Error::environment(format!("{name} is not UTF-8: {raw:?}"))),
        };
        let environment = Self {
            container_id: text("CNI_CONTAINERID")?,
            ifname: text("CNI_IFNAME")?,
            netns: Some(text("CNI_NETNS")?).filter(|path| !path.is_empty()).map(PathBuf::from),
            args: CniArgs::parse(&text("CNI_ARGS")?)?,
            path: Some(text("CNI_PATH")?)
                .filter(|path| !path.is_empty())
                .map(|path| std::env::split_paths(&path).collect())
                .unwrap_or_default(),
        };
        if verb.required().contains(&"CNI_CONTAINERID") {
            check_container_id(&environment.container_id)?;
            check_ifname(&environment.ifname)?;
        }
        Ok(environment)
    }

    /// The attachment of this container to a network.
    pub fn attachment(&self, network: &str) -> Attachment {
        Attachment {
            network: network.to_owned(),
            container_id: self.container_id.clone(),
            ifname: self.ifname.clone(),
            netns: self.netns.clone(),
            args: self.args.clone(),
        }
    }
}

/// A plugin's stdin, decoded once.
#[derive(Clone, Debug)]
pub struct Stdin {
    /// The configuration without what the runtime adds for one call.
    pub conf: PluginConf,
    /// `prevResult`.
    pub prev_result: Option<CniResult>,
    /// GC: `cni.dev/valid-attachments`.
    pub valid: Option<Vec<ValidAttachment>>,
}

/// The keys that the runtime adds for one call, and that are no part of the configuration.
#[derive(Deserialize)]
struct PerCall {
    #[serde(rename = "prevResult", default)]
    prev_result: Option<Value>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid: Option<Vec<ValidAttachment>>,
    #[serde(rename = "cni.dev/attachments", default)]
    attachments: Option<Vec<ValidAttachment>>,
}

impl Stdin {
    /// Decodes a configuration.
    ///
    /// Errors: 6 where it is no JSON object or a field has the wrong type, 7 where a name is invalid, 1 where the
    /// version is unknown or does not have the verb. DEL passes over a `prevResult` that cannot be understood.
    pub fn decode(verb: Verb, stdin: &[u8]) -> Result<Self> {
        let undecodable = |error: serde_json::Error| {
            Error::new(Code::Decode, format!("configuration on stdin: {error}"))
        };
        let mut raw: Map<String, Value> = serde_json::from_slice(stdin).map_err(undecodable)?;
        let mut per_call = Map::new();
        for key in ["prevResult", "cni.dev/valid-attachments", "cni.dev/attachments"] {
            if let Some(value) = raw.remove(key) {
                per_call.insert(key.to_owned(), value);
            }
        }
        let per_call: PerCall =
            serde_json::from_value(Value::Object(per_call)).map_err(undecodable)?;
        let conf = PluginConf::from_object(raw)?;
        if conf.cni_version < verb.since() {
            return Err(Error::new(
                Code::IncompatibleVersion,
                format!(
                    "{} needs cniVersion {} or newer, and the configuration of network {} says {}",
                    verb.as_str(),
                    verb.since(),
                    conf.name,
                    conf.cni_version
                ),
            ));
        }
        let prev_result = per_call.prev_result.filter(|value| !value.is_null());
        let prev_result =
            prev_result.map(|value| CniResult::from_json(value, conf.cni_version)).transpose();
        let prev_result = match (verb, prev_result) {
            // A damaged cache of the runtime's must not keep a container from being deleted: there is the record.
            (Verb::Del, Err(error)) => {
                tracing::warn!(%error, "DEL goes without its prevResult, which cannot be understood");
                None
            }
            (_, prev_result) => prev_result?,
        };
        Ok(Self { conf, prev_result, valid: per_call.valid.or(per_call.attachments) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(verb: Verb, pairs: &[(&str, &str)]) -> Result<Environment> {
        Environment::read(verb, |name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn all_missing_variables_are_named_in_one_error() {
        let error = environment(Verb::Add, &[("CNI_IFNAME", "eth0")]).unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert!(error.msg.contains("missing: CNI_CONTAINERID, CNI_NETNS, CNI_PATH"), "{error}");
    }

    #[test]
    fn names_are_checked_at_the_door() {
        for (id, ifname) in
            [("../etc", "eth0"), ("c1", "a/b"), ("c1", "sixteen-bytes-xx"), ("-c", "eth0")]
        {
            let error = environment(
                Verb::Del,
                &[("CNI_CONTAINERID", id), ("CNI_IFNAME", ifname), ("CNI_PATH", "/x")],
            )
            .unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment, "{id} {ifname}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS"] {
            let error = Environment::read(Verb::Add, |variable| {
                let value = if variable == "CNI_ARGS" { "A=1" } else { "eth0" };
                Some(OsString::from_vec(if variable == name { vec![0xff] } else { value.into() }))
            });
            let error = error.unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.msg.contains(name), "{error}");
        }
    }

    #[test]
    fn a_verb_of_a_later_version_is_refused() {
        let stdin = br#"{"cniVersion":"0.3.1","name":"n","type":"bridge"}"#;
        assert_eq!(Stdin::decode(Verb::Check, stdin).unwrap_err().code, Code::IncompatibleVersion);
        assert!(Stdin::decode(Verb::Add, stdin).is_ok());
    }

    #[test]
    fn only_del_passes_over_a_damaged_prev_result() {
        for prev in [r#"{"ips":"garbage"}"#, r#"{"cniVersion":"9.9.9"}"#, "[]", "7"] {
            let stdin = format!(
                r#"{{"cniVersion":"1.0.0","name":"n","type":"bridge","prevResult":{prev}}}"#
            );
            let decode = |verb| Stdin::decode(verb, stdin.as_bytes());
            assert!(decode(Verb::Del).unwrap().prev_result.is_none());
            assert!(decode(Verb::Check).is_err() && decode(Verb::Add).is_err(), "{prev}");
        }
    }

    #[test]
    fn malformed_json_names_line_and_column() {
        let error = Stdin::decode(Verb::Add, b"{\"name\": }").unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.msg.contains("line 1 column 10"), "{error}");
    }
}
