//! Two reports' ratios beside each other: regressions show, whatever machine each ran on.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{
    peers::FLOOR,
    summary::{Cell, Report, Table},
};

/// How much worse a ratio may be: what a shared machine makes of two runs of the same.
const TOLERANCE: f64 = 1.35;
/// The same of DEL, nearly all of which is waiting for a grace period of the kernel's; two in place of one show.
const TOLERANCE_OF_WAITING: f64 = 1.8;

/// Fails where a ratio is worse than the recorded one by more than the tolerance, or is not there any more.
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

/// How many recorded ratios there are of the cases that were measured, and those that are worse.
fn compare(recorded: &Report, now: &Report) -> (usize, Vec<String>) {
    let mut compared = 0;
    let mut worse = Vec::new();
    for before in &recorded.tables {
        if !now.tables.iter().any(|table| table.case == before.case) {
            continue;
        }
        let title = &before.title;
        let table = now.tables.iter().find(|one| one.case == before.case && one.title == *title);
        let ratios_now = table.map(ratios).unwrap_or_default();
        for (name, was) in ratios(before) {
            compared += 1;
            let Some(ratio) = ratios_now.get(&name) else {
                worse.push(format!("{title}: {name} was {was:.3}, and is not measured"));
                continue;
            };
            let factor = match before.more_is_better {
                // A rate that was asked for is not to be passed, and not to be missed.
                _ if before.unit.starts_with('%') => (ratio / was).max(was / ratio),
                true => was / ratio,
                false => ratio / was,
            };
            let waits = name.starts_with("DEL ") || title.starts_with("DEL");
            if factor > if waits { TOLERANCE_OF_WAITING } else { TOLERANCE } {
                worse.push(format!("{title}: {name} is {ratio:.3}, and was {was:.3}"));
            }
        }
    }
    (compared, worse)
}

/// All ratios by what they are of: to the first row, to what the kernel alone takes, and of those with containers present to that
/// without; where only one is measured, of what came later to what was at first.
fn ratios(table: &Table) -> BTreeMap<String, f64> {
    let mut ratios = BTreeMap::new();
    let floor = table.rows.iter().find(|row| row.name == FLOOR);
    for (row, one) in table.rows.iter().enumerate() {
        for (column, name) in table.columns.iter().enumerate() {
            let of = |cells: &[Option<Cell>]| Some(cells.get(column)?.as_ref()?.median);
            let Some(median) = of(&one.cells) else { continue };
            let mut add = |to: &str, base: Option<f64>| {
                if let Some(base) = base.filter(|base| *base > 0.0) {
                    ratios.insert(format!("{name} of {} to {to}", one.name), median / base);
                }
            };
            if row > 0 {
                add(&table.rows[0].name, of(&table.rows[0].cells));
            }
            if let Some(floor) = floor.filter(|_| row > 0 && one.name != FLOOR) {
                add(FLOOR, of(&floor.cells));
            }
            if column > 0 && (table.case == "present" || table.rows.len() == 1) {
                let first = one.cells[0].as_ref().map(|cell| cell.median);
                add(&table.columns[0], first);
            }
        }
    }
    ratios
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::{Machine, Row};

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
        assert_eq!(worse, ["all: ADD of catena to go is 0.143, and was 0.100"]);
        // Of rates fewer is worse.
        let recorded = report(true, [15.0, 150.0]);
        assert_eq!(compare(&recorded, &report(true, [15.0, 200.0])).1.len(), 0);
        assert_eq!(compare(&recorded, &report(true, [15.0, 100.0])).1.len(), 1);
    }

    #[test]
    fn less_of_a_rate_that_was_asked_for_is_worse_too() {
        let of_rate = |percent| {
            let mut report = report(false, [100.0, percent]);
            report.tables[0].unit = "% of the rate".to_owned();
            report
        };
        let recorded = of_rate(100.0);
        assert_eq!(compare(&recorded, &of_rate(95.0)).1.len(), 0);
        assert_eq!(compare(&recorded, &of_rate(0.0)).1.len(), 1);
        assert_eq!(compare(&recorded, &of_rate(150.0)).1.len(), 1);
    }

    #[test]
    fn what_is_measured_of_one_alone_is_compared_with_its_beginning() {
        let daemon = |later| {
            let mut report = report(false, [8.0, 0.0]);
            let table = &mut report.tables[0];
            table.columns.push("later".to_owned());
            table.rows.truncate(1);
            table.rows[0].cells.push(Some(Cell::single(later)));
            report
        };
        assert_eq!(compare(&daemon(10.0), &daemon(12.0)), (1, vec![]));
        assert_eq!(
            compare(&daemon(10.0), &daemon(16.0)).1,
            ["all: later of go to ADD is 2.000, and was 1.250"]
        );
    }

    #[test]
    fn the_floor_growth_and_what_is_missing_are_looked_at() {
        let mut recorded = report(false, [70.0, 4.0]);
        let table = &mut recorded.tables[0];
        table.case = "present".to_owned();
        table.columns = vec!["0".to_owned(), "1000".to_owned()];
        table.rows.push(Row { name: FLOOR.to_owned(), cells: vec![Some(Cell::single(2.0))] });
        for row in &mut table.rows {
            let double = row.cells[0].as_ref().map(|cell| Cell::single(2.0 * cell.median));
            row.cells.push(double);
        }
        let changed = |change: fn(&mut Table)| {
            let mut now = recorded.clone();
            change(&mut now.tables[0]);
            compare(&recorded, &now)
        };
        assert_eq!(changed(|_| ()), (9, vec![]));
        let (_, worse) = changed(|table| table.rows[2].cells[0] = Some(Cell::single(1.4)));
        assert_eq!(
            worse,
            [
                "all: 0 of catena to the kernel alone is 2.857, and was 2.000",
                "all: 1000 of the kernel alone to 0 is 2.857, and was 2.000"
            ]
        );
        let (_, worse) = changed(|table| drop(table.rows.remove(1)));
        assert_eq!(worse.len(), 5, "{worse:?}");
        assert!(worse[0].ends_with("was 0.057, and is not measured"), "{worse:?}");
    }
}
