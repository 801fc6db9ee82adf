//! Several plugins of one type in a chain that a runtime runs plugin by plugin.
//!
//! All it says of them is network, container, interface and type, which is the same for all of them. What differs is
//! their configuration: it tells which record is whose.

use std::cmp::Reverse;

use serde_json::Value;

use super::Executor;
use crate::{
    Attachment, Node, PluginConf, Record, Result,
    record::{Key, digest_of},
};

/// What a runtime sets anew in each call, and so is no mark of an instance.
const PER_CALL: [&str; 2] = ["cniVersion", "runtimeConfig"];

impl<'a, N: Node> Executor<'a, N> {
    /// The same for a plugin that a runtime ran by this name with this configuration.
    #[must_use]
    pub fn of_plugin(self, kind: &str, conf: &PluginConf) -> Self {
        let mut raw = conf.raw.clone();
        raw.retain(|key, _| !PER_CALL.contains(&key.as_str()));
        let mut instance = digest_of(&Value::Object(raw));
        instance.truncate(16);
        Self { scope: kind.to_owned(), instance, ..self }
    }

    /// Whether a record is of this executor's scope: of any of the plugins of its type.
    pub(super) fn is_own(&self, record: &Record) -> bool {
        let rest = record.scope.strip_prefix(&self.scope);
        rest.is_some_and(|rest| {
            rest.is_empty() || (!self.instance.is_empty() && rest.starts_with('.'))
        })
    }

    /// The key for ADD. The type's first plugin has the plain one; another one's record that lives there is left to it.
    pub(super) fn key_to_add(&self, attachment: &Attachment, boot: &str) -> Result<Key> {
        let key = Key::new(attachment, &self.scope)?;
        if self.instance.is_empty() {
            return Ok(key);
        }
        match self.records.read(&key)? {
            Some(record)
                if record.instance != self.instance
                    && record.is_live(attachment.netns.as_deref(), boot) =>
            {
                Key::new(attachment, &self.further())
            }
            _ => Ok(key),
        }
    }

    /// The keys of the records that CHECK and DEL are about. It is one, unless the configuration has changed since ADD:
    /// then all of the type are, the latest first, since nothing tells which of them is meant.
    pub(super) fn keys_of(&self, attachment: &Attachment) -> Result<Vec<Key>> {
        let key = Key::new(attachment, &self.scope)?;
        if self.instance.is_empty()
            || self.records.read(&key)?.is_some_and(|record| record.instance == self.instance)
        {
            return Ok(vec![key]);
        }
        let further = Key::new(attachment, &self.further())?;
        if self.records.read(&further)?.is_some() {
            return Ok(vec![further]);
        }
        let Attachment { network, container_id, ifname, .. } = attachment;
        let mut records = self.records.find(network, container_id, ifname)?;
        records.retain(|record| self.is_own(record));
        if records.is_empty() {
            return Ok(vec![key]);
        }
        records.sort_by_key(|record| Reverse((record.created, record.scope.len())));
        Ok(records.iter().map(Record::key).collect())
    }

    /// The scope of a further plugin of the type. The dot tells it from those of chains within ([`Key::scope_within`]).
    fn further(&self) -> String {
        format!("{}.{}", self.scope, self.instance)
    }
}
