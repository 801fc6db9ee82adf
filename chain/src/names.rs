//! What container ids, network and interface names may look like. Paths are built from them, so they are checked at
//! the door and nowhere else.

use crate::{Code, Error, Result};

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, the specification's rule for network names and container ids.
fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Checks a container id (`CNI_CONTAINERID`).
pub fn check_container_id(id: &str) -> Result<()> {
    if is_word(id) {
        return Ok(());
    }
    Err(Error::environment(format!(
        "CNI_CONTAINERID {id:?} is invalid: it must begin with a letter or digit and may hold only letters, digits, \
         '_', '.' and '-'"
    )))
}

/// Checks the name of a network (`name` of a configuration).
pub fn check_network_name(name: &str) -> Result<()> {
    if is_word(name) {
        return Ok(());
    }
    Err(Error::config(format!(
        "network name {name:?} is invalid: it must begin with a letter or digit and may hold only letters, digits, \
         '_', '.' and '-'"
    )))
}

/// Checks the name of an interface (`CNI_IFNAME`): what the kernel's `dev_valid_name` takes, and takes as it stands. One with
/// `%` is a pattern, from which the kernel makes a name of its own (`net%d`: `net0`).
pub fn check_ifname(name: &str) -> Result<()> {
    let wrong = if name.is_empty() {
        "is empty"
    } else if name.len() > 15 {
        "is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "is not a name"
    } else if name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "holds '/', ':', white space or a control character"
    } else if name.contains('%') {
        "holds '%', which the kernel makes a number of"
    } else if name.as_bytes().contains(&0xa0) {
        // It reads names by bytes, in Latin-1: "à" ends in its non-breaking space.
        "holds a character that the kernel takes for white space"
    } else {
        return Ok(());
    };
    Err(Error::environment(format!("interface name {name:?} {wrong}; choose one as \"eth0\"")))
}

/// Checks the `type` of a plugin: the name of an executable in `CNI_PATH`, never a path.
pub fn check_plugin_type(kind: &str) -> Result<()> {
    if !kind.is_empty() && kind != "." && kind != ".." && !kind.contains(['/', '\0']) {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidConfig,
        format!("plugin type {kind:?} is invalid: it must be the name of a plugin, not a path"),
    ))
}
