//! JSON values of the type that is asked for, and how values are shown in errors.

use chain::{Error, Result};
use serde_json::{Map, Value};

/// An object with no other keys than these, whose case does not matter. A request of another name would not be served.
pub(super) fn fields(what: &str, keys: &[&str], value: Value) -> Result<Map<String, Value>> {
    let mut known = Map::new();
    for (written, value) in object(what, value)? {
        let Some(key) = keys.iter().find(|key| key.eq_ignore_ascii_case(&written)) else {
            return Err(Error::config(format!(
                "{what} has the unknown key {}: it may have {}",
                quoted(&written),
                keys.join(", ")
            )));
        };
        if !value.is_null() {
            known.insert((*key).to_owned(), value);
        }
    }
    Ok(known)
}

/// A JSON object.
pub(super) fn object(what: &str, value: Value) -> Result<Map<String, Value>> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(wrong_type(what, &other, "an object, as {\"key\": \"value\"}")),
    }
}

/// A string.
pub(super) fn text(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong_type(key, &other, "a string: put it in quotes")),
    }
}

/// A list.
pub(super) fn list(key: &str, value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(wrong_type(key, &other, "a list: put it in brackets")),
    }
}

fn wrong_type(key: &str, value: &Value, wanted: &str) -> Error {
    Error::config(format!("{key} is {}: it must be {wanted}", excerpt(value)))
}

/// A value for a message, which is to be read in an Event: cut where it is long.
pub(super) fn excerpt(value: &Value) -> String {
    cut(&value.to_string())
}

/// A text in quotes, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    cut(&format!("{text:?}"))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
