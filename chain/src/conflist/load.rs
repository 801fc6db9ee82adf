//! Network configurations from files, the way libcni finds them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{ConfList, check_plugin, parse};
use crate::{Error, Result, Version, check_network_name};

impl ConfList {
    /// Reads a file.
    ///
    /// What a file holds counts, not what it is called: a list in a `.conf` and a single plugin's configuration in a
    /// `.conflist` are read as what they are. Where both are possible (`type` and `plugins`), the suffix decides: the
    /// meta plugin's configuration in a `.conf` or `.json` is one plugin, whatever it carries inside.
    ///
    /// A list is completed by `<folder of the file>/<name>/*.conf`, one plugin each, in lexicographic order, unless it
    /// says `loadOnlyInlinedPlugins`.
    pub fn load_file(file: &Path) -> Result<Self> {
        read(file).map_err(|error| error.context(file.display()))
    }

    /// The network of this name among the files of a folder: the first `.conflist` in lexicographic order, else the
    /// first `.conf` or `.json`. Files that cannot be read are passed over with a warning; where no file has the name,
    /// the error names them, since the network may be in one.
    pub fn load(dir: &Path, name: &str) -> Result<Self> {
        let (lists, singles): (Vec<_>, Vec<_>) =
            files(dir)?.into_iter().partition(|file| has_suffix(file, &["conflist"]));
        let mut found = Vec::new();
        let mut broken = Vec::new();
        for file in lists.iter().chain(&singles) {
            match Self::load_file(file) {
                Ok(list) if list.name == name => return Ok(list),
                Ok(list) => found.push(list.name),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "passing over a network configuration");
                    broken.push(error.to_string());
                }
            }
        }
        let dir = dir.display();
        let error = if found.is_empty() && broken.is_empty() {
            Error::config(format!(
                "no network {name:?}: {dir} has no .conflist, .conf or .json file"
            ))
        } else {
            let holds = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            Error::config(format!("no network {name:?} in {dir}; it has {holds}"))
        };
        Err(if broken.is_empty() {
            error
        } else {
            error.with_details(format!("could not be read: {}", broken.join("; ")))
        })
    }

    /// The chain of this name whose plugins others drop into `<dir>/<name>`, one to a `.conf` file, in lexicographic order;
    /// `None` where there is none.
    pub fn load_dropped(dir: &Path, name: &str, cni_version: Version) -> Result<Option<Self>> {
        check_network_name(name)?;
        let plugins = dropped(&dir.join(name))?;
        let list = (!plugins.is_empty()).then(|| Self {
            name: name.to_owned(),
            cni_version,
            disable_check: false,
            disable_gc: false,
            load_only_inlined_plugins: true,
            plugins,
            source: None,
        });
        Ok(list)
    }

    /// All configurations of a folder, in lexicographic order of their file names (the first one is a node's default
    /// network), each with what reading it gave. A folder that does not exist has none.
    pub fn load_dir(dir: &Path) -> Result<Vec<(PathBuf, Result<Self>)>> {
        let files = files(dir)?.into_iter();
        Ok(files
            .map(|file| {
                let list = Self::load_file(&file);
                (file, list)
            })
            .collect())
    }
}

fn read(file: &Path) -> Result<ConfList> {
    let text = fs::read(file).map_err(|error| Error::io(error.to_string()))?;
    let object = parse::object(parse::json(&text)?)?;
    let is_list = match (object.contains_key("type"), object.contains_key("plugins")) {
        (true, true) => has_suffix(file, &["conflist"]),
        (has_type, _) => !has_type,
    };
    let mut list = if is_list { parse::list(object)? } else { parse::single(object)? };
    list.source = Some(file.to_owned());
    if !list.load_only_inlined_plugins {
        // A path is built from the name: `parse` has checked it.
        list.plugins.extend(dropped(&file.with_file_name(&list.name))?);
    }
    list.require_plugins()
}

/// The plugins of a folder, one to a `.conf` file.
fn dropped(dir: &Path) -> Result<Vec<Map<String, Value>>> {
    let files = files(dir)?.into_iter().filter(|file| has_suffix(file, &["conf"]));
    files.map(|file| read_plugin(&file).map_err(|error| error.context(file.display()))).collect()
}

fn read_plugin(file: &Path) -> Result<Map<String, Value>> {
    let text = fs::read(file).map_err(|error| Error::io(error.to_string()))?;
    check_plugin(parse::json(&text)?, "the plugin's configuration")
}

/// The configuration files of a folder, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let in_dir = |error: io::Error| Error::io(format!("{}: {error}", dir.display()));
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(in_dir(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(in_dir)?;
        let is_dir = entry.file_type().map_err(in_dir)?.is_dir();
        if !is_dir && has_suffix(&entry.path(), &["conflist", "conf", "json"]) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn has_suffix(file: &Path, suffixes: &[&str]) -> bool {
    file.extension().is_some_and(|suffix| suffixes.iter().any(|known| suffix == *known))
}
