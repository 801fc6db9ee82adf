//! What a container runtime does with a conflist (libcni), each plugin executed by itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::netns::Netns;
use crate::plugins::{Call, PluginOutput, Plugins};

/// What a runtime attaches to a network: a container's interface.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The container's id, `CNI_CONTAINERID`.
    pub container_id: String,
    /// The path of its namespace, `CNI_NETNS`; empty for a DEL without one.
    pub netns: String,
    /// The interface's name in the container, `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// What the runtime offers by capability, for instance `portMappings`.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// The interface `eth0` of a container whose id is `id-<name of the namespace>`.
    pub fn new(container: &Netns) -> Self {
        Self {
            container_id: format!("id-{}", container.name()),
            netns: container.path().display().to_string(),
            ifname: "eth0".to_owned(),
            args: String::new(),
            capabilities: Map::new(),
        }
    }

    /// With another interface name.
    pub fn ifname(mut self, ifname: &str) -> Self {
        self.ifname = ifname.to_owned();
        self
    }

    /// With another container id.
    pub fn container_id(mut self, id: &str) -> Self {
        self.container_id = id.to_owned();
        self
    }

    /// With `CNI_ARGS`.
    pub fn args(mut self, args: &str) -> Self {
        self.args = args.to_owned();
        self
    }

    /// With a value for the plugins that declare the capability.
    pub fn capability(mut self, name: &str, value: Value) -> Self {
        self.capabilities.insert(name.to_owned(), value);
        self
    }

    /// Without a namespace: for the DEL after it is gone.
    pub fn without_netns(mut self) -> Self {
        self.netns.clear();
        self
    }
}

/// A plugin of the chain that failed.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// The plugin's `type`.
    pub plugin: String,
    /// What it answered.
    pub output: Box<PluginOutput>,
}

impl fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.plugin, self.output)
    }
}

/// A runtime with one network: it runs the conflist's plugins one by one, as libcni does, and
/// remembers the results for CHECK and DEL.
#[derive(Debug)]
pub struct Runtime<'n> {
    plugins: Plugins<'n>,
    conflist: Value,
    results: Mutex<HashMap<(String, String), Value>>,
}

impl<'n> Runtime<'n> {
    /// Runs `conflist` (as JSON has it on disk) with `plugins`.
    pub fn new(plugins: Plugins<'n>, conflist: Value) -> Self {
        Self { plugins, conflist, results: Mutex::default() }
    }

    /// ADD of each plugin in order; the result of the last.
    ///
    /// # Errors
    /// The first plugin's that fails. Nothing is undone then: a runtime calls DEL.
    pub fn add(&self, attachment: &Attachment) -> Result<Value, PluginFailure> {
        let mut result = None;
        for plugin in self.chain() {
            let output = self.exec("ADD", attachment, plugin, result.as_ref())?;
            result = output.json;
        }
        let result = result.unwrap_or(Value::Null);
        self.cache().insert(key(attachment), result.clone());
        Ok(result)
    }

    /// CHECK of each plugin in order, with the result of ADD. Does nothing if the conflist says
    /// `disableCheck`.
    ///
    /// # Errors
    /// The first plugin's that fails.
    pub fn check(&self, attachment: &Attachment) -> Result<(), PluginFailure> {
        if self.conflist["disableCheck"] == json!(true) {
            return Ok(());
        }
        let result = self.cached(attachment);
        for plugin in self.chain() {
            self.exec("CHECK", attachment, plugin, result.as_ref())?;
        }
        Ok(())
    }

    /// CHECK of each plugin in order, also after one that fails; the failures.
    pub fn check_each(&self, attachment: &Attachment) -> Vec<PluginFailure> {
        let result = self.cached(attachment);
        self.chain()
            .iter()
            .filter_map(|plugin| self.exec("CHECK", attachment, plugin, result.as_ref()).err())
            .collect()
    }

    /// DEL of each plugin in reverse order, with the result of ADD if there is one.
    ///
    /// # Errors
    /// The first plugin's that fails; the others are not called then.
    pub fn del(&self, attachment: &Attachment) -> Result<(), PluginFailure> {
        let result = self.cached(attachment);
        for plugin in self.chain().iter().rev() {
            self.exec("DEL", attachment, plugin, result.as_ref())?;
        }
        self.cache().remove(&key(attachment));
        Ok(())
    }

    /// GC of each plugin: `valid` are the attachments to be kept.
    ///
    /// # Errors
    /// The first plugin's that fails.
    pub fn gc(&self, valid: &[Attachment]) -> Result<(), PluginFailure> {
        let valid: Vec<Value> = valid
            .iter()
            .map(|a| json!({ "containerID": a.container_id, "ifname": a.ifname }))
            .collect();
        self.without_attachment("GC", &[("cni.dev/valid-attachments", Value::from(valid))])
    }

    /// STATUS of each plugin.
    ///
    /// # Errors
    /// The first plugin's that fails.
    pub fn status(&self) -> Result<(), PluginFailure> {
        self.without_attachment("STATUS", &[])
    }

    /// The result that ADD returned, until DEL.
    pub fn cached(&self, attachment: &Attachment) -> Option<Value> {
        self.cache().get(&key(attachment)).cloned()
    }

    /// Takes over an attachment that another runtime's plugins made: `result` is what its ADD returned.
    pub fn take_over(&self, attachment: &Attachment, result: Value) {
        self.cache().insert(key(attachment), result);
    }

    fn without_attachment(&self, verb: &str, add: &[(&str, Value)]) -> Result<(), PluginFailure> {
        for plugin in self.chain() {
            let mut conf = self.conf(plugin);
            for (key, value) in add {
                conf[*key] = value.clone();
            }
            self.call(plugin, &Call::new(verb), &conf)?;
        }
        Ok(())
    }

    fn exec(
        &self,
        verb: &str,
        attachment: &Attachment,
        plugin: &Value,
        prev_result: Option<&Value>,
    ) -> Result<PluginOutput, PluginFailure> {
        let mut conf = self.conf(plugin);
        if let Some(result) = prev_result {
            conf["prevResult"] = result.clone();
        }
        let offered: Map<String, Value> = attachment
            .capabilities
            .iter()
            .filter(|(name, _)| plugin["capabilities"][name.as_str()] == json!(true))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !offered.is_empty() {
            conf["runtimeConfig"] = Value::Object(offered);
        }
        self.call(plugin, &Call::of(verb, attachment), &conf)
    }

    fn call(
        &self,
        plugin: &Value,
        call: &Call,
        conf: &Value,
    ) -> Result<PluginOutput, PluginFailure> {
        let Some(name) = plugin["type"].as_str() else {
            panic!("a plugin without a type: {plugin}");
        };
        let output = self.plugins.call(name, call, &conf.to_string());
        if output.code == 0 {
            Ok(output)
        } else {
            Err(PluginFailure { plugin: name.to_owned(), output: Box::new(output) })
        }
    }

    /// The plugin's configuration with the network's name and version in it.
    fn conf(&self, plugin: &Value) -> Value {
        let mut conf = plugin.clone();
        conf["name"] = self.conflist["name"].clone();
        conf["cniVersion"] = self.conflist["cniVersion"].clone();
        conf
    }

    fn chain(&self) -> &[Value] {
        match self.conflist["plugins"].as_array() {
            Some(plugins) => plugins,
            None => panic!("a conflist without plugins: {}", self.conflist),
        }
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Value>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(attachment: &Attachment) -> (String, String) {
    (attachment.container_id.clone(), attachment.ifname.clone())
}
