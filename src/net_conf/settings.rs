//! Keys that an administrator gives the plugin.

use std::path::{Path, PathBuf};

use chain::{Code, Error, Result};
use serde_json::{Map, Value};

use super::folder::failed;
use crate::{kept_folder::KeptFolder, kubernetes::conf};

/// What is found out, or has a flag.
const NOT_HERE: [&str; 6] =
    ["name", "plugins", "delegates", "clusterNetwork", "masterPlugin", "multusAutoconfigDir"];

/// A file with settings; its folder is held open.
#[derive(Debug)]
pub struct Settings(Option<(KeptFolder, PathBuf)>);

impl Settings {
    /// Opens the file's folder; none: there are no settings.
    pub fn open(file: Option<&Path>) -> Result<Self> {
        let Some(file) = file else { return Ok(Self(None)) };
        let folder = match file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder = KeptFolder::open(folder).map_err(failed("open", folder))?;
        Ok(Self(Some((folder, file.to_owned()))))
    }

    /// The file's folder, wherever this process has its files by now.
    pub fn path(&self) -> Option<PathBuf> {
        self.0.as_ref().map(|(folder, _)| folder.path())
    }

    /// The settings as they are now.
    ///
    /// Errors: 5 where the file cannot be read, 6 where it is no JSON object, 7 where it has a key that is no setting: one that is
    /// misspelt would not be missed.
    pub fn read(&self) -> Result<Map<String, Value>> {
        let Some((folder, file)) = &self.0 else { return Ok(Map::new()) };
        let name = file.file_name().unwrap_or_default();
        let text = folder.read(name).map_err(failed("read", file))?;
        let settings: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Error::new(Code::Decode, format!("{}: {error}", file.display())))?;
        let is_one = |key: &&str| conf::KEYS.contains(key) && !NOT_HERE.contains(key);
        match settings.keys().map(String::as_str).find(|key| !is_one(key)) {
            None => Ok(settings),
            Some(key) => {
                let known: Vec<_> = conf::KEYS.into_iter().filter(|key| is_one(key)).collect();
                Err(Error::config(format!(
                    "{}: {key:?} is no setting; there are {}",
                    file.display(),
                    known.join(", ")
                )))
            }
        }
    }
}
