//! What goes to standard output.

use std::io::{self, Write};

use chain::{CniResult, result::IpConfig};
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Serializer, Value, ser::PrettyFormatter};

use crate::logging::steps::Seen;

/// A result or an error object as the reference plugins print it: indented by four spaces, without a last newline.
pub fn cni(value: &Value) -> String {
    let mut text = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(
            &mut text,
            PrettyFormatter::with_indent(b"    "),
        ))
        .expect("JSON can be written to memory");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Prints a value for a person or a script: indented, with a last newline.
pub fn print_json(value: &Value) -> io::Result<()> {
    write(format!("{}\n", cni(value)).as_bytes())
}

/// Prints text as it is.
pub fn print_text(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

fn write(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

/// A table as everything for people is printed.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    table
}

/// Steps for people, those within another one below it: their times, and what part that is of the whole.
pub fn steps_table(steps: &[Seen]) -> Table {
    let outermost = steps.iter().filter(|step| step.depth == 0);
    let whole: f64 = outermost.map(|step| step.time.as_secs_f64()).sum();
    let mut table = table(&["STEP", "TIME", "SHARE", "ABOUT"]);
    for step in steps {
        let time = step.time.as_secs_f64();
        table.add_row([
            format!("{:indent$}{}", "", step.name, indent = 2 * step.depth),
            format!("{:.2} ms", time * 1e3),
            format!("{:.0} %", 100.0 * time / whole),
            step.about.clone(),
        ]);
    }
    for column in [1, 2] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A result for people: interfaces, addresses, routes and name servers.
pub fn result_table(result: &CniResult) -> String {
    let mut interfaces = table(&["INTERFACE", "MAC", "WHERE", "ADDRESSES"]);
    for (index, interface) in result.interfaces.iter().enumerate() {
        let addresses: Vec<_> = result
            .ips
            .iter()
            .filter(|ip| ip.interface == Some(index))
            .map(|ip| ip.address.to_string())
            .collect();
        let place = if interface.sandbox.is_empty() { "host" } else { interface.sandbox.as_str() };
        interfaces.add_row([
            interface.name.as_str(),
            interface.mac.as_str(),
            place,
            &addresses.join(" "),
        ]);
    }
    let mut text = format!("{interfaces}\n");
    if !result.routes.is_empty() {
        let mut routes = table(&["ROUTE", "VIA"]);
        for route in &result.routes {
            let via = route.gw.or_else(|| {
                let same_family =
                    |ip: &&IpConfig| ip.address.addr().is_ipv4() == route.dst.addr().is_ipv4();
                result.ips.iter().filter(same_family).find_map(|ip| ip.gateway)
            });
            routes.add_row([
                route.dst.to_string(),
                via.map(|via| via.to_string()).unwrap_or_default(),
            ]);
        }
        text += &format!("\n{routes}\n");
    }
    if !result.dns.is_empty() {
        let mut dns = table(&["NAMESERVERS", "DOMAIN", "SEARCH"]);
        dns.add_row([
            result.dns.nameservers.join(" "),
            result.dns.domain.clone(),
            result.dns.search.join(" "),
        ]);
        text += &format!("\n{dns}\n");
    }
    text
}
