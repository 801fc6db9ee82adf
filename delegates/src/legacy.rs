//! The tables of iptables from before nf_tables. Netlink does not show them; only their own tools read and write them.
//!
//! The kernel says which of these tables a node uses, and nearly none does: so nothing is run for the others.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use chain::{Code, Error, Result};

/// Where the tools are, whatever the runtime's own search path.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
/// How long another user of the tables is waited for, in seconds.
const PATIENCE: &str = "10";

/// The tools of a family, and where the kernel lists its tables.
pub(crate) struct Tools {
    /// Lists a table.
    pub save: &'static str,
    /// Changes it.
    pub restore: &'static str,
    tables: &'static str,
}

/// Those of IPv4 and of IPv6.
pub(crate) const TOOLS: [Tools; 2] = [
    Tools {
        save: "iptables-legacy-save",
        restore: "iptables-legacy-restore",
        tables: "/proc/thread-self/net/ip_tables_names",
    },
    Tools {
        save: "ip6tables-legacy-save",
        restore: "ip6tables-legacy-restore",
        tables: "/proc/thread-self/net/ip6_tables_names",
    },
];

/// What there is to know of a table.
pub(crate) enum Listing {
    /// This node does not use it.
    Unused,
    /// It does, but the tool to read it is not there: whoever made the table has it, in a container perhaps.
    Unreadable,
    /// Its lines, as its tool prints them.
    Lines(Vec<String>),
}

impl Tools {
    /// Lists a table, where this node uses it.
    pub(crate) fn list(&self, table: &str) -> Result<Listing> {
        let tables = fs::read_to_string(self.tables).unwrap_or_default();
        if !tables.lines().any(|used| used == table) {
            return Ok(Listing::Unused);
        }
        let save = Command::new(self.save).args(["-t", table]).env("PATH", PATH).output();
        let output = match save {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Listing::Unreadable);
            }
            output => output.map_err(|error| self.failed(self.save, table, &error.to_string()))?,
        };
        if !output.status.success() {
            return Err(self.failed(self.save, table, &String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Listing::Lines(text.lines().map(str::to_owned).collect()))
    }

    /// Runs these commands on a table, all or none.
    pub(crate) fn restore(&self, table: &str, commands: &[String]) -> Result<()> {
        let failed = |why: &str| self.failed(self.restore, table, why);
        let mut child = Command::new(self.restore)
            .args(["--noflush", "--wait", PATIENCE])
            .env("PATH", PATH)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(&error.to_string()))?;
        let text = format!("*{table}\n{}\nCOMMIT\n", commands.join("\n"));
        // Where the tool is gone already, its status says why.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().map_err(|error| failed(&error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(&format!(
            "{}, asked for: {}",
            String::from_utf8_lossy(&output.stderr).trim(),
            commands.join(", ")
        )))
    }

    fn failed(&self, tool: &str, table: &str, why: &str) -> Error {
        Error::new(
            Code::Io,
            format!("{tool} on table {table} of old iptables ({}): {}", self.tables, why.trim()),
        )
    }
}

/// The words of a line: what is in double quotes is one, and a backslash in it takes the next character as it is.
pub(crate) fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(characters.next()),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_one_word() {
        assert_eq!(words(r#"a "" "b c"#), ["a", "", "b c"], "a quote without its end");
        assert_eq!(words(r#"-m "say \"a\" " -j"#), ["-m", r#"say "a" "#, "-j"]);
    }
}
