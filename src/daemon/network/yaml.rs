//! What others have written in YAML, or JSON.

use serde::de::DeserializeOwned;

/// Reads a document. The error is one line, which names the place: a log has one for each.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| error.to_string().replace('\n', " "))
}
