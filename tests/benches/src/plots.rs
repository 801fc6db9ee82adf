//! The tables as plots, in SVG: one for each table with more than one peer.

use std::path::Path;

use anyhow::Result;
use plotters::prelude::*;

use crate::summary::{Report, Table};

const SIZE: (u32, u32) = (760, 300);
/// Told apart by those who see no red or green, too (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x99, 0x99, 0x99),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x00, 0x00),
];

/// The plots' files, with what they show.
pub fn names(report: &Report) -> Vec<(String, String)> {
    plotted(report).map(|(file, table)| (file, table.title.clone())).collect()
}

/// Draws all of them.
pub fn write(dir: &Path, report: &Report) -> Result<()> {
    for (file, table) in plotted(report) {
        draw(&dir.join(file), table)?;
    }
    Ok(())
}

fn plotted(report: &Report) -> impl Iterator<Item = (String, &Table)> {
    let tables =
        report.tables.iter().filter(|table| table.rows.len() > 1 && table.columns.len() > 1);
    tables.scan(("", 0), |(case, n), table| {
        *n = if *case == table.case { *n + 1 } else { 0 };
        *case = &table.case;
        Some((format!("{case}-{n}.svg"), table))
    })
}

/// A group of bars for each column, a bar for each row; the scale is logarithmic, so that ratios are lengths.
fn draw(file: &Path, table: &Table) -> Result<()> {
    let medians = || table.rows.iter().flat_map(|row| &row.cells).flatten().map(|cell| cell.median);
    let most = medians().fold(f64::MIN_POSITIVE, f64::max) * 2.0;
    let least = medians().fold(most, f64::min) / 2.0;
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let groups = table.columns.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(format!("{} ({})", table.title, table.unit), ("sans-serif", 15))
        .margin(8)
        .x_label_area_size(24)
        .y_label_area_size(56)
        // To the right of the bars is the legend.
        .build_cartesian_2d(0.0..groups * 1.45, (least..most).log_scale())?;
    let name = |x: &f64| table.columns.get(*x as usize).cloned().unwrap_or_default();
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(table.columns.len() * 3)
        .x_label_formatter(&|x| {
            if (x.fract() - 0.5).abs() < 0.01 { name(x) } else { String::new() }
        })
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    let width = 0.8 / table.rows.len() as f64;
    for (n, row) in table.rows.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let bars = row.cells.iter().enumerate().filter_map(|(column, cell)| {
            let left = column as f64 + 0.1 + n as f64 * width;
            let median = cell.as_ref()?.median;
            Some(Rectangle::new([(left, least), (left + width * 0.9, median)], colour.filled()))
        });
        chart
            .draw_series(bars)?
            .label(row.name.clone())
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}
