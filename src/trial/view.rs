//! What a node holds, as lines that can be compared.

use std::{collections::BTreeSet, fs, path::Path};

use chain::{Dirs, Result};
use delegates::{Elements, Node};

/// Where host-local keeps its leases unless a network says otherwise.
const LEASES: &str = "/var/lib/cni";

/// Interfaces, addresses, routes, queues, nftables elements, leases and records of a node, a line each.
pub struct View(BTreeSet<String>);

impl View {
    /// Looks at the node.
    pub fn of(node: &Node) -> Result<Self> {
        let mut lines = BTreeSet::new();
        let host = node.host()?;
        for link in host.link().list()? {
            lines.insert(format!("interface {}", link.name));
            for address in host.addr().list(link.index)? {
                lines.insert(format!("address {} on {}", address.net, link.name));
            }
            for v6 in [false, true] {
                for route in host.route().list(v6, link.index, None)? {
                    lines.insert(format!("route {route} on {}", link.name));
                }
            }
            if host.tc().tbf(&link)?.is_some() {
                lines.insert(format!("queue on {}", link.name));
            }
        }
        for held in Elements::held(node.dirs())? {
            lines.insert(format!("element {} of {}", held.key, held.owner));
        }
        let Dirs { state, .. } = node.dirs();
        for dir in [Path::new(LEASES), state] {
            add_files(dir, &mut lines);
        }
        Ok(Self(lines))
    }

    /// What there is now and was not there before, and what was there and is gone.
    pub fn since<'v>(&'v self, before: &'v Self) -> (Vec<&'v str>, Vec<&'v str>) {
        let lines = |a: &'v Self, b: &'v Self| a.0.difference(&b.0).map(String::as_str).collect();
        (lines(self, before), lines(before, self))
    }

    /// How many things of each kind it holds, for people: "3 interfaces, 2 addresses".
    pub fn summary(&self) -> String {
        let kinds = [
            ("interface", "interfaces"),
            ("address", "addresses"),
            ("route", "routes"),
            ("queue", "queues"),
            ("element", "nftables elements"),
            ("file", "files"),
        ];
        let counted = kinds.map(|(kind, name)| {
            let count = self.0.iter().filter(|line| line.split(' ').next() == Some(kind)).count();
            format!("{count} {name}")
        });
        counted.join(", ")
    }
}

/// The files below a directory; one that is not there has none.
fn add_files(dir: &Path, lines: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            add_files(&entry.path(), lines);
        } else {
            lines.insert(format!("file {}", entry.path().display()));
        }
    }
}
