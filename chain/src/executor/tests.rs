//! Chains of fake plugins over a fake node: what they make is a set of names, and in the end it must be empty.

mod fakes;
mod foreign;
mod instances;
mod repair;
mod together;
mod transaction;
mod verbs;

use std::{cell::RefCell, path::PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use self::fakes::{FAKES, World};
use super::*;
use crate::Record;

/// A node's folders, with an executor over them.
struct Host {
    dir: TempDir,
    registry: Registry<'static, World>,
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let host = Self { dir, registry: Registry::new(FAKES) };
        host.make_netns("c1");
        std::fs::create_dir(host.path("bin")).unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file stands for a namespace: what counts is which file it is.
    fn make_netns(&self, container: &str) {
        std::fs::write(self.path(container), "").unwrap();
    }

    fn executor(&self) -> Executor<'_, World> {
        let dirs = Dirs { state: self.path("state"), run: self.path("run"), ..Dirs::default() };
        Executor::new(&self.registry, vec![self.path("bin")], &dirs)
    }

    fn attachment(&self) -> Attachment {
        Attachment {
            network: "net".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: Some(self.path("c1")),
            args: Default::default(),
        }
    }

    fn add(&self, list: &ConfList, world: &mut World) -> Result<CniResult> {
        self.executor().add(&request(list, &self.attachment()), world)
    }

    fn del(&self, list: &ConfList, world: &mut World) -> Result<()> {
        self.executor().del(&request(list, &self.attachment()), world)
    }

    fn records(&self) -> Vec<Record> {
        self.executor().records.list("net").unwrap()
    }

    /// A foreign plugin: a script that can use what it is called with, and `$HOST`.
    fn script(&self, name: &str, body: &str) {
        use std::os::unix::fs::PermissionsExt;
        let file = self.path("bin").join(name);
        let host = self.dir.path().display();
        std::fs::write(&file, format!("#!/bin/sh\nHOST={host}\n{body}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn no_args() -> &'static Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    &NONE
}

fn request<'r>(list: &'r ConfList, attachment: &'r Attachment) -> Request<'r> {
    Request { list, attachment, capability_args: no_args(), prev_result: None, observer: None }
}

/// A chain of plugins of these types.
fn chain(kinds: &[&str]) -> ConfList {
    let plugins: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    ConfList::from_value(json!({ "cniVersion": "1.1.0", "name": "net", "plugins": plugins }))
        .unwrap()
}
