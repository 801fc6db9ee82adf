//! Two reports' ratios beside each other: regressions show, whatever machine each ran on.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::summary::{Report, Table};

/// How much worse a ratio may be: what a shared machine makes of two runs of the same.
const TOLERANCE: f64 = 1.35;

/// Fails where a ratio is worse than the recorded one by more than the tolerance.
pub fn with(file: &Path, report: &Report) -> Result<()> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("read {}: `make bench` writes such a report", file.display()))?;
    let recorded: Report =
        serde_json::from_str(&text).with_context(|| format!("{} is no report", file.display()))?;
    let (compared, worse) = compare(&recorded, report);
    ensure!(compared > 0, "{} has nothing of what was measured", file.display());
    for text in &worse {
        eprintln!("{text}");
    }
    ensure!(
        worse.is_empty(),
        "{} of {compared} ratios are worse than in {}",
        worse.len(),
        file.display()
    );
    println!("{compared} ratios are as in {}, or better", file.display());
    Ok(())
}

/// How many ratios both have, and those that are worse.
fn compare(recorded: &Report, now: &Report) -> (usize, Vec<String>) {
    let mut compared = 0;
    let mut worse = Vec::new();
    for table in &now.tables {
        let same = |one: &&Table| one.case == table.case && one.title == table.title;
        let Some(before) = recorded.tables.iter().find(same) else { continue };
        for (name, column, ratio) in ratios(table) {
            let same = |one: &(&str, &str, f64)| one.0 == name && one.1 == column;
            let Some((.., was)) = ratios(before).into_iter().find(same) else { continue };
            compared += 1;
            let factor = if table.more_is_better { was / ratio } else { ratio / was };
            if factor > TOLERANCE {
                let title = &table.title;
                worse.push(format!(
                    "{title}: {column} of {name} is {ratio:.3} of the first, and was {was:.3}"
                ));
            }
        }
    }
    (compared, worse)
}

/// All ratios to the first row.
fn ratios(table: &Table) -> Vec<(&str, &str, f64)> {
    let cells = table.rows.iter().enumerate().flat_map(|(row, one)| {
        let cells = one.cells.iter().zip(&table.columns).enumerate();
        cells.filter_map(move |(column, (cell, name))| {
            let ratio = cell.as_ref()?.median / table.baseline(row, column)?;
            Some((one.name.as_str(), name.as_str(), ratio))
        })
    });
    cells.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{Cell, Machine, Row};

    fn report(more_is_better: bool, medians: [f64; 2]) -> Report {
        let machine = Machine {
            processor: String::new(),
            cores: 2,
            memory: 4,
            kernel: String::new(),
            system: String::new(),
            plugins: String::new(),
        };
        let row = |name: &str, median| Row {
            name: name.to_owned(),
            cells: vec![Some(Cell::single(median))],
        };
        let table = Table {
            case: "one".to_owned(),
            title: "all".to_owned(),
            unit: "ms".to_owned(),
            more_is_better,
            columns: vec!["ADD".to_owned()],
            rows: vec![row("go", medians[0]), row("catena", medians[1])],
        };
        Report { date: String::new(), machine, tables: vec![table] }
    }

    #[test]
    fn a_worse_ratio_is_told_and_a_slower_machine_is_not() {
        let recorded = report(false, [70.0, 7.0]);
        assert_eq!(compare(&recorded, &report(false, [140.0, 14.0])), (1, vec![]));
        assert_eq!(compare(&recorded, &report(false, [70.0, 9.0])), (1, vec![]));
        let (_, worse) = compare(&recorded, &report(false, [70.0, 10.0]));
        assert_eq!(worse, ["all: ADD of catena is 0.143 of the first, and was 0.100"]);
        // Of rates fewer is worse.
        let recorded = report(true, [15.0, 150.0]);
        assert_eq!(compare(&recorded, &report(true, [15.0, 200.0])).1.len(), 0);
        assert_eq!(compare(&recorded, &report(true, [15.0, 100.0])).1.len(), 1);
    }
}
