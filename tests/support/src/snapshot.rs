//! The kernel's own listings, made comparable.

mod diff;
mod listings;
mod settle;
mod shared;
mod volatile;

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netns::Netns;
use crate::node::Node;

pub use shared::Shared;

/// A listing of `ip`, `tc`, `nft` or the file system: what an object is known by, and the object
/// without its volatile fields.
pub(crate) type Section = BTreeMap<String, Value>;

/// The kernel's listings of a namespace at one moment: links, addresses, routes, rules, queueing
/// disciplines, filters, the nftables ruleset and the system controls that plugins set; for a node
/// also the files below `/var/lib/cni`, `/var/lib/catena` and `/run/catena`.
///
/// Fields that change by themselves (counters, timers, handles, what a bridge derives from its
/// ports) are left out, and what it does with a new link by itself is awaited.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    sections: BTreeMap<&'static str, Section>,
}

impl Snapshot {
    /// Lists a container or a neighbour; see [`Node::snapshot`] for a node.
    pub fn of(netns: &Netns) -> Self {
        Self { sections: listings::of_netns(netns) }
    }

    pub(crate) fn of_node(node: &Node) -> Self {
        let mut snapshot = Self::of(node);
        snapshot.sections.insert("files", listings::of_files());
        snapshot
    }

    /// The snapshot without what `shared` names.
    #[must_use]
    pub fn without(&self, shared: &Shared) -> Self {
        let mut rest = self.clone();
        for (section, objects) in &mut rest.sections {
            objects.retain(|name, object| !shared.has(section, name, object));
        }
        rest
    }

    /// How `after` differs from this snapshot, one difference a line; empty if it does not.
    pub fn diff(&self, after: &Self) -> String {
        let mut lines = Vec::new();
        for (section, objects) in &self.sections {
            diff::section(section, objects, after.section(section), &mut lines);
        }
        lines.join("\n")
    }

    /// The objects of `section` (`link`, `address`, `route`, `rule`, `qdisc`, `filter`, `nft`,
    /// `sysctl`, `files`) by name.
    pub fn section(&self, section: &str) -> &BTreeMap<String, Value> {
        static NONE: BTreeMap<String, Value> = BTreeMap::new();
        self.sections.get(section).unwrap_or(&NONE)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, objects) in &self.sections {
            for (name, object) in objects {
                writeln!(f, "{section} {name}: {object}")?;
            }
        }
        Ok(())
    }
}

/// Panics with the differences unless `after` equals `before`, the shared objects aside.
#[track_caller]
pub fn assert_same(before: &Snapshot, after: &Snapshot, shared: &Shared) {
    let diff = before.without(shared).diff(&after.without(shared));
    assert!(diff.is_empty(), "not as before (- gone, + new, ~ changed):\n{diff}");
}

/// As [`assert_same`], for a node on which a runtime has removed a container: the kernel takes down a namespace, and the
/// devices in it, some time after the last process in it has ended.
#[track_caller]
pub fn await_same(before: &Snapshot, node: &Node, shared: &Shared) {
    let start = Instant::now();
    let mut after = node.snapshot();
    while !before.without(shared).diff(&after.without(shared)).is_empty()
        && start.elapsed() < Duration::from_secs(10)
    {
        after = node.snapshot();
    }
    assert_same(before, &after, shared);
}
