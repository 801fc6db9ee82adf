//! What was measured, in numbers that can be compared.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::peers::FLOOR;

/// A whole run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The day, as YYYY-MM-DD.
    pub date: String,
    /// What it ran on.
    pub machine: Machine,
    pub tables: Vec<Table>,
}

/// What a run ran on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    /// In GiB.
    pub memory: u64,
    pub kernel: String,
    pub system: String,
    /// The peer's version.
    pub plugins: String,
}

/// Things that are measured together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// The case's name.
    pub case: String,
    pub title: String,
    pub unit: String,
    /// Whether more is better, as of what is done in a second.
    pub more_is_better: bool,
    /// What is measured of each.
    pub columns: Vec<String>,
    /// The first is what the others are compared with.
    pub rows: Vec<Row>,
}

/// Who was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// One for each column; `None` where this one has nothing to be measured there.
    pub cells: Vec<Option<Cell>>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    pub median: f64,
    /// What 99 of 100 are as good as, or better; of fewer than 100 samples the worst.
    pub p99: f64,
    pub samples: usize,
}

impl Cell {
    /// Of samples in any order of which less is better; `None` of none.
    pub fn of(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(f64::total_cmp);
        Self::of_sorted(&samples)
    }

    /// Of samples in any order of which more is better; `None` of none.
    pub fn of_rates(mut samples: Vec<f64>) -> Option<Self> {
        samples.sort_by(|one, other| other.total_cmp(one));
        Self::of_sorted(&samples)
    }

    /// Of samples from the best to the worst.
    fn of_sorted(samples: &[f64]) -> Option<Self> {
        let last = samples.len().checked_sub(1)?;
        Some(Self {
            median: f64::midpoint(samples[last / 2], samples[samples.len() / 2]),
            p99: samples[(samples.len() * 99 / 100).min(last)],
            samples: samples.len(),
        })
    }

    /// Of times, in milliseconds.
    pub fn of_times(times: &[Duration]) -> Option<Self> {
        Self::of(times.iter().map(|time| time.as_secs_f64() * 1e3).collect())
    }

    /// Of one value.
    pub fn single(value: f64) -> Self {
        Self { median: value, p99: value, samples: 1 }
    }
}

impl Table {
    /// The median of what the kernel alone takes for the same, for whoever is not the kernel alone.
    pub fn floor(&self, row: usize, column: usize) -> Option<f64> {
        let floor = self.rows.iter().position(|row| row.name == FLOOR)?;
        let cell = self.rows[floor].cells.get(column)?.as_ref()?;
        (row < floor).then_some(cell.median)
    }

    /// The first row's median of the same column, what ratios are of; nothing for the first row itself.
    pub fn baseline(&self, row: usize, column: usize) -> Option<f64> {
        let first = self.rows.first()?.cells.get(column)?.as_ref()?;
        (row > 0 && first.median > 0.0).then_some(first.median)
    }
}

impl Report {
    /// An empty one, of here and now.
    pub fn new() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
        let of = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key));
            let value = line.and_then(|line| line.split_once([':', '='])).map(|(_, value)| value);
            value.unwrap_or_default().trim().trim_matches('"').to_owned()
        };
        let memory = of(&meminfo, "MemTotal");
        let memory = memory.split(' ').next().and_then(|kb| kb.parse::<u64>().ok());
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let plugins = said(
            "dpkg-query",
            &["--show", "--showformat=${Version}", "containernetworking-plugins"],
        )?;
        Ok(Self {
            date: said("date", &["+%F"])?,
            machine: Machine {
                processor: of(&cpuinfo, "model name"),
                cores: std::thread::available_parallelism().map_or(1, usize::from),
                memory: memory.unwrap_or_default().div_ceil(1 << 20),
                kernel: said("uname", &["-r"])?,
                system: of(&release, "PRETTY_NAME"),
                plugins: format!("containernetworking-plugins {plugins}"),
            },
            tables: Vec::new(),
        })
    }
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output();
    let output = output.with_context(|| format!("run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_of_samples_in_any_order() {
        assert_eq!(Cell::of(vec![]), None);
        let cell = Cell::of(vec![3.0, 1.0, 2.0]).map(|cell| (cell.median, cell.p99));
        assert_eq!(cell, Some((2.0, 3.0)));
        let hundred = Cell::of((0..200).rev().map(f64::from).collect());
        assert_eq!(hundred.map(|cell| (cell.median, cell.p99)), Some((99.5, 198.0)));
        let rates = Cell::of_rates(vec![1.0, 4.0, 2.0]).map(|cell| (cell.median, cell.p99));
        assert_eq!(rates, Some((2.0, 1.0)));
    }
}
