//! The report as a page: one table after the other, in Markdown, and the same as JSON.

use std::{fmt::Write as _, fs, io::ErrorKind, path::Path};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table as Grid, presets::ASCII_MARKDOWN};

use crate::{
    plots,
    summary::{Cell, Machine, Report, Table},
};

/// The JSON's name in its folder.
const JSON: &str = "results.json";

/// The tables as text.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for table in &report.tables {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "## {} ({})\n\n{}\n", table.title, table.unit, grid(table));
    }
    text
}

/// Writes the page and the JSON.
pub fn write(dir: &Path, report: &Report) -> Result<()> {
    let Machine { processor, cores, memory, kernel, system, plugins } = &report.machine;
    let plots: String =
        plots::names(report).iter().map(|(file, title)| format!("![{title}]({file})\n")).collect();
    let page = format!(
        "# How fast\n\n\
         Catena beside the Go reference plugins, by `make bench`, which repeats it on your machine and writes this page. Every peer has a \
         node of its own; all are driven by the same runtime code, each plugin executed as libcni does it, in one run, taking turns. \
         Each cell has the median, the 99th percentile (the worst of fewer than 100) and in brackets what the median is of the first row's; \
         after a semicolon, what it is of the kernel's alone. \
         Where they come one at a time, another container is there already, as on a node in use; with up to a thousand present each peer \
         has the machine to itself, since some of what grows is one for all nodes on it, and so it has for traffic and rates. \
         \"The kernel alone\" is a bare program that makes the same kernel objects in as few requests as there can be; it \
         starts as Catena does. With \"a bare veth\" it makes and deletes that alone. Memory is what a process has of it (RSS), \
         with the pages of its executable, which are there once for all processes.\n\n\
         {}, {cores} × {processor}, {memory} GiB, Linux {kernel}, {system}; {plugins}. The numbers are [here]({JSON}), too.\n\n\
         {plots}\n{}",
        report.date,
        text(report).trim_end(),
    );
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    };
    write("README.md", page + "\n")?;
    write(JSON, serde_json::to_string_pretty(report)? + "\n")
}

/// The report that was written there before.
pub fn recorded(dir: &Path) -> Result<Option<Report>> {
    let path = dir.join(JSON);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let report = serde_json::from_str(&text);
    report.map(Some).with_context(|| format!("{} is no report: remove it", path.display()))
}

fn grid(table: &Table) -> Grid {
    let mut grid = Grid::new();
    grid.load_style(ASCII_MARKDOWN);
    grid.set_header([""].into_iter().chain(table.columns.iter().map(String::as_str)));
    for (row, one) in table.rows.iter().enumerate() {
        let cells = one.cells.iter().enumerate().map(|(column, cell)| match cell {
            Some(cell) => show(*cell, [table.baseline(row, column), table.floor(row, column)]),
            None => String::new(),
        });
        grid.add_row([one.name.clone()].into_iter().chain(cells));
    }
    for column in grid.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    grid
}

/// The median, the 99th percentile, and the median as a multiple of others'.
fn show(cell: Cell, others: [Option<f64>; 2]) -> String {
    let Cell { median, p99, samples } = cell;
    let mut text = number(median);
    if samples > 1 {
        let _ = write!(text, " / {}", number(p99));
    }
    let ratios: Vec<_> =
        others.into_iter().flatten().map(|other| format!("{:.2}", median / other)).collect();
    if !ratios.is_empty() {
        let _ = write!(text, " ({})", ratios.join("; "));
    }
    text
}

fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
