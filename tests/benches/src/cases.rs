//! What is measured.

mod allocated;
mod at_once;
mod dhcp;
mod floor;
mod footprint;
mod one;
mod ports;
mod present;
mod shaping;
mod version;

use std::fs;

use anyhow::Result;
use testnode::Background;

use crate::{
    peers::Peers,
    summary::{Cell, Table},
};

/// Something that is measured by itself.
pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    /// With how many rounds.
    pub run: fn(&Peers, usize) -> Result<Vec<Table>>,
}

/// In the order in which they are run.
pub const ALL: &[Case] = &[
    Case { name: "one", title: "one container at a time", run: one::run },
    Case { name: "version", title: "VERSION of each plugin", run: version::run },
    Case { name: "at-once", title: "many containers at once", run: at_once::run },
    Case { name: "allocated", title: "a subnet that is nearly full", run: allocated::run },
    Case { name: "footprint", title: "memory and size", run: footprint::run },
    Case { name: "ports", title: "traffic through mapped ports", run: ports::run },
    Case { name: "shaping", title: "rates that are asked for and measured", run: shaping::run },
    Case { name: "dhcp", title: "addresses by DHCP", run: dhcp::run },
    Case { name: "present", title: "with other containers present", run: present::run },
];

/// Plugins that both have.
const PLUGINS: [&str; 10] = [
    "bridge",
    "ptp",
    "loopback",
    "host-local",
    "static",
    "dhcp",
    "portmap",
    "bandwidth",
    "firewall",
    "tuning",
];

/// A table of this case.
fn table(case: &str, title: impl Into<String>, unit: &str, columns: &[&str]) -> Table {
    Table {
        case: case.to_owned(),
        title: title.into(),
        unit: unit.to_owned(),
        more_is_better: false,
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        rows: Vec::new(),
    }
}

/// What a process has in memory now (`VmRSS` of proc(5)) or has had at most (`VmHWM`), in MB.
fn memory(process: &Background, what: &str) -> Option<Cell> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'))?;
    let kb = line.trim().trim_end_matches(" kB").parse::<f64>().ok()?;
    Some(Cell::single(kb / 1e3))
}
