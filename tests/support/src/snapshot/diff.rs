//! Differences that a person can read.

use serde_json::Value;

use super::Section;

/// Adds a line for each object that is gone, new or changed.
pub(super) fn section(name: &str, before: &Section, after: &Section, lines: &mut Vec<String>) {
    for (key, old) in before {
        match after.get(key) {
            None => lines.push(format!("- {name} {key}: {old}")),
            Some(new) => fields(&format!("{name} {key}"), old, new, lines),
        }
    }
    for (key, new) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        lines.push(format!("+ {name} {key}: {new}"));
    }
}

/// Descends into objects, so that only the fields that differ are shown.
fn fields(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (old, new) else {
        if old != new {
            lines.push(format!("~ {path}: {old} -> {new}"));
        }
        return;
    };
    for (key, old) in a {
        match b.get(key) {
            Some(new) => fields(&format!("{path}.{key}"), old, new, lines),
            None => lines.push(format!("~ {path}.{key}: {old} -> (none)")),
        }
    }
    for (key, new) in b.iter().filter(|(key, _)| !a.contains_key(*key)) {
        lines.push(format!("~ {path}.{key}: (none) -> {new}"));
    }
}
