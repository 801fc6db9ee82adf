//! Running plugins as a chain does, on a test's node.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it, and shows failures"
)]

use std::path::Path;

use chain::{Attachment, CniArgs, CniResult, ConfList, Dirs, Executor, Registry, Request, Result};
use delegates::{BUILTINS, Node};
use serde_json::{Map, Value, json};
use testnode::Container;

/// One test for each thing that is broken; the test's own `finding` breaks it and returns what CHECK says.
#[allow(unused_macros, reason = "each test binary uses a part of it")]
macro_rules! finds {
    ($($name:ident: $break_it:expr => $finding:expr;)*) => {
        $(#[test]
        fn $name() {
            let found = finding($break_it);
            assert!(found.contains($finding), "{found}");
        })*
    };
}

/// An attachment of a container to a network.
pub struct Case {
    list: ConfList,
    pub attachment: Attachment,
    capability_args: Map<String, Value>,
    /// The result that a runtime kept.
    pub prev_result: Option<CniResult>,
}

impl Case {
    /// A chain of this one plugin; the network is "net", the interface "eth0", the container's id its name.
    pub fn new(plugin: Value, container: &Container) -> Self {
        Self::chain(json!([plugin]), container)
    }

    /// A chain.
    pub fn chain(plugins: Value, container: &Container) -> Self {
        let list = json!({ "cniVersion": "1.1.0", "name": "net", "plugins": plugins });
        Self {
            list: ConfList::from_value(list).unwrap(),
            attachment: Attachment {
                network: "net".to_owned(),
                container_id: container.name().to_owned(),
                ifname: "eth0".to_owned(),
                netns: Some(container.path().to_owned()),
                args: CniArgs::default(),
            },
            capability_args: Map::new(),
            prev_result: None,
        }
    }

    /// With another name of the network.
    pub fn rename(&mut self, network: &str) {
        self.list.name = network.to_owned();
        self.attachment.network = network.to_owned();
    }

    /// With `CNI_ARGS`.
    pub fn args(mut self, args: &str) -> Self {
        self.attachment.args = CniArgs::parse(args).unwrap();
        self
    }

    /// With another `CNI_NETNS`, or none.
    pub fn netns(mut self, netns: Option<&Path>) -> Self {
        self.attachment.netns = netns.map(Path::to_owned);
        self
    }

    fn run<T>(&self, verb: impl FnOnce(&Executor<'_, Node>, &Request<'_>, &mut Node) -> T) -> T {
        let registry = Registry::new(BUILTINS);
        let executor = Executor::new(&registry, Vec::new(), &Dirs::default());
        let request = Request {
            list: &self.list,
            attachment: &self.attachment,
            capability_args: &self.capability_args,
            prev_result: self.prev_result.clone(),
            observer: None,
        };
        verb(&executor, &request, &mut Node::new())
    }

    /// ADD.
    pub fn add(&self) -> Result<CniResult> {
        self.run(|executor, request, node| executor.add(request, node))
    }

    /// DEL.
    pub fn del(&self) -> Result<()> {
        self.run(|executor, request, node| executor.del(request, node))
    }

    /// CHECK.
    pub fn check(&self) -> Result<()> {
        self.run(|executor, request, node| executor.check(request, node))
    }

    /// STATUS.
    pub fn status(&self) -> Result<()> {
        self.run(|executor, request, node| executor.status(request.list, None, node))
    }

    /// What CHECK finds.
    #[track_caller]
    pub fn finding(&self) -> String {
        self.check().expect_err("CHECK has to find something").to_string()
    }
}
