//! A cluster that is made up: definitions in memory, and no server.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use chain::{Attachment, CniArgs, Code, Error, PluginConf, Result};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::super::{Network, resolve};
use crate::kubernetes::{
    cluster::{Cluster, Definition, Pod, PodEvent, PodId},
    conf::Conf,
    selection::{DEFAULT_NETWORK, NETWORKS},
};

/// A node and a cluster, both made up.
pub struct Fake {
    definitions: BTreeMap<String, Definition>,
    asked: Mutex<Vec<String>>,
    events: Mutex<Vec<PodEvent>>,
    /// Whether the API answers.
    pub answers: AtomicBool,
    /// `confDir`, a real one.
    pub dir: TempDir,
    /// The meta plugin's configuration.
    pub conf: Value,
    /// The pod.
    pub pod: Pod,
}

impl Fake {
    /// The cluster network is an inline bridge `eth`, and the pod is `web/p`, which asks for nothing.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            definitions: BTreeMap::new(),
            asked: Mutex::default(),
            events: Mutex::default(),
            answers: true.into(),
            conf: json!({ "plugins": [{ "type": "bridge" }], "confDir": dir.path() }),
            dir,
            pod: Pod {
                namespace: "web".into(),
                name: "p".into(),
                uid: "u1".into(),
                annotations: BTreeMap::new(),
            },
        }
    }

    /// A configuration with this cluster network (`confDir` is kept).
    pub fn with_conf(mut self, mut conf: Value) -> Self {
        conf["confDir"] = self.conf["confDir"].clone();
        self.conf = conf;
        self
    }

    /// The same with this key.
    pub fn with_key(mut self, key: &str, value: Value) -> Self {
        self.conf[key] = value;
        self
    }

    /// Has a definition `namespace/name`.
    pub fn define(mut self, name: &str, config: Value) -> Self {
        let config = if config.is_null() { String::new() } else { config.to_string() };
        self.define_text(name, &config);
        self
    }

    /// The same with any text.
    pub fn define_text(&mut self, key: &str, config: &str) -> &mut Definition {
        let (namespace, name) = key.split_once('/').unwrap();
        let definition = Definition {
            namespace: namespace.into(),
            name: name.into(),
            config: config.into(),
            resource: None,
        };
        self.definitions.insert(key.into(), definition);
        self.definitions.get_mut(key).unwrap()
    }

    /// The pod asks for these networks.
    pub fn asks(mut self, annotation: impl Into<String>) -> Self {
        self.pod.annotations.insert(NETWORKS.into(), annotation.into());
        self
    }

    /// The same in JSON.
    pub fn asks_json(self, elements: &Value) -> Self {
        self.asks(elements.to_string())
    }

    /// The pod asks for this one in place of the cluster network.
    pub fn asks_default(mut self, annotation: impl Into<String>) -> Self {
        self.pod.annotations.insert(DEFAULT_NETWORK.into(), annotation.into());
        self
    }

    /// Has a file in `confDir`.
    pub fn file(self, name: &str, json: &Value) -> Self {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, json.to_string()).unwrap();
        self
    }

    /// A file's path.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn read_conf(&self) -> Conf {
        let mut raw = json!({ "cniVersion": "1.0.0", "name": "eth", "type": "catena" });
        raw.as_object_mut().unwrap().extend(self.conf.as_object().unwrap().clone());
        let raw = raw.as_object().unwrap().clone();
        Conf::of("catena", &PluginConf::from_object(raw).unwrap()).unwrap()
    }

    /// The pod's networks.
    pub fn resolve(&self) -> Result<Vec<Network>> {
        self.resolve_with("IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=p", &json!({}))
    }

    /// The same with what the runtime gives.
    pub fn resolve_with(&self, args: &str, capability_args: &Value) -> Result<Vec<Network>> {
        let attachment = attachment(args);
        let capability_args = capability_args.as_object().unwrap();
        resolve(&self.read_conf(), Some(&self.pod), Some(self), &attachment, capability_args)
    }

    /// The networks of a container that no cluster knows.
    pub fn without_cluster(&self) -> Result<Vec<Network>> {
        resolve(&self.read_conf(), None, None, &attachment(""), &Map::new())
    }

    /// Names and interfaces of the pod's networks.
    #[track_caller]
    pub fn names(&self) -> Vec<(String, String)> {
        let networks = self.resolve().unwrap_or_else(|error| panic!("{error}"));
        networks.into_iter().map(|network| (network.name, network.ifname)).collect()
    }

    /// The networks cannot be resolved, and the error has this code and these parts.
    #[track_caller]
    pub fn refused(&self, code: Code, parts: &[&str]) {
        let error = self.resolve().unwrap_err();
        assert_eq!(error.code, code, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part:?} is missing in: {error}");
        }
    }

    /// The definitions that the API was asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// What was recorded on the pod.
    pub fn events(&self) -> Vec<PodEvent> {
        self.events.lock().unwrap().clone()
    }
}

fn attachment(args: &str) -> Attachment {
    Attachment {
        network: "eth".into(),
        container_id: "c1".into(),
        ifname: "eth0".into(),
        netns: Some("/run/netns/c1".into()),
        args: CniArgs::parse(args).unwrap(),
    }
}

/// A chain of one.
pub fn single(kind: &str) -> Value {
    json!({ "cniVersion": "1.0.0", "type": kind })
}

/// A chain under a name.
pub fn list(name: &str, plugins: Value) -> Value {
    json!({ "cniVersion": "1.0.0", "name": name, "plugins": plugins })
}

/// Pairs as [`Fake::names`] has them.
pub fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, ifname)| ((*name).to_owned(), (*ifname).to_owned())).collect()
}

impl Cluster for Fake {
    fn pod(&self, _: &PodId) -> Result<Pod> {
        Ok(self.pod.clone())
    }

    fn definition(&self, namespace: &str, name: &str) -> Result<Option<Definition>> {
        if !self.answers.load(Ordering::Relaxed) {
            return Err(Error::new(Code::TryAgain, "the API does not answer"));
        }
        let name = format!("{namespace}/{name}");
        self.asked.lock().unwrap().push(name.clone());
        Ok(self.definitions.get(&name).cloned())
    }

    fn publish_status(&self, _: &Pod, _: &str) -> Result<()> {
        unreachable!("resolving writes nothing")
    }

    fn record(&self, _: &Pod, event: PodEvent) {
        self.events.lock().unwrap().push(event);
    }
}
