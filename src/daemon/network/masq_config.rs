//! The file of Kubernetes' ip-masq-agent, under whose keys a cluster says what is not masqueraded.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use chain::{Code, Error, Result};
use ipnet::IpNet;
use serde::Deserialize;

use super::yaml;
use crate::kept_folder::KeptFolder;

/// What is not masqueraded unless the file says that it is.
const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];

/// The file, whose folder is held open: it is read on when this process has other files before it, and a ConfigMap's volume
/// changes it by a link in the folder.
#[derive(Debug)]
pub struct MasqConfig {
    folder: KeptFolder,
    file: PathBuf,
}

/// One version of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    inode: u64,
    changed: (i64, i64),
}

/// The keys, in YAML or JSON. One without a value, or null, is as good as none.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Keys {
    #[serde(rename = "nonMasqueradeCIDRs")]
    non_masquerade: Option<Vec<IpNet>>,
    #[serde(rename = "masqLinkLocal")]
    link_local: Option<bool>,
    #[serde(rename = "masqLinkLocalIPv6")]
    link_local_v6: Option<bool>,
    /// The file is looked at in each round.
    #[serde(rename = "resyncInterval")]
    _interval: serde::de::IgnoredAny,
    /// There is no limit.
    #[serde(rename = "cidrLimit")]
    _limit: serde::de::IgnoredAny,
}

impl MasqConfig {
    /// Opens the file's folder; the file may come later.
    ///
    /// Errors (5): there is no such folder.
    pub fn open(file: &Path) -> Result<Self> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let failed = |error: io::Error| {
            Error::io(format!("--masq-config: open {}: {error}", folder.display()))
        };
        Ok(Self { folder: KeptFolder::open(folder).map_err(failed)?, file: file.to_owned() })
    }

    /// Tells the file as it is now from others; `None` where it is not there.
    pub fn version(&self) -> Option<Version> {
        let name = self.file.file_name().unwrap_or_default();
        let file = fs::metadata(self.folder.path().join(name)).ok()?;
        Some(Version { inode: file.ino(), changed: (file.mtime(), file.mtime_nsec()) })
    }

    /// What is not masqueraded by the file as it is now; nothing where it is not there.
    ///
    /// Errors: 5 where it cannot be read, 6 where it is none.
    pub fn read(&self) -> Result<Vec<IpNet>> {
        let name = self.file.file_name().unwrap_or_default();
        match self.folder.read(name) {
            Ok(text) => parse(&text).map_err(|error| {
                Error::new(Code::Decode, format!("{}: {error}", self.file.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io(format!("read {}: {error}", self.file.display()))),
        }
    }
}

fn parse(text: &str) -> std::result::Result<Vec<IpNet>, String> {
    let keys = match text.trim().is_empty() {
        true => Keys::default(),
        false => yaml::parse(text)?,
    };
    let mut nets = keys.non_masquerade.unwrap_or_default();
    for (net, masqueraded) in LINK_LOCAL.iter().zip([keys.link_local, keys.link_local_v6]) {
        nets.extend(
            (!masqueraded.unwrap_or_default())
                .then(|| net.parse::<IpNet>().expect("it is a network")),
        );
    }
    Ok(nets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> std::result::Result<Vec<String>, String> {
        Ok(parse(text)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_agents_file_is_read_in_yaml_and_json() {
        let yaml = "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\n  - fd00::/8\nmasqLinkLocal: true\n\
                    masqLinkLocalIPv6: false\nresyncInterval: 60s\n";
        assert_eq!(texts(yaml).unwrap(), ["10.0.0.0/8", "fd00::/8", "fe80::/10"]);
        let json = r#"{ "nonMasqueradeCIDRs": ["192.168.0.0/16"], "cidrLimit": 128 }"#;
        assert_eq!(texts(json).unwrap(), ["192.168.0.0/16", "169.254.0.0/16", "fe80::/10"]);
        assert_eq!(texts("").unwrap().len(), 2);
    }

    #[test]
    fn keys_without_a_value_say_nothing() {
        let none =
            "nonMasqueradeCIDRs:\nmasqLinkLocal: null\nmasqLinkLocalIPv6: ~\nresyncInterval:\n";
        assert_eq!(texts(none).unwrap(), LINK_LOCAL);
        assert_eq!(texts(r#"{ "nonMasqueradeCIDRs": null }"#).unwrap(), LINK_LOCAL);
    }

    #[test]
    fn an_error_is_one_line() {
        let wrong =
            ["nonMasqueradeCIDRs: [10.0.0.0/33]\n", "- 1\n- 2\n", "nonMasqueradeCIDRs: 5\nb: 1\n"];
        for text in wrong {
            let error = texts(text).unwrap_err();
            assert!(error.contains("line 1"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn what_is_misspelt_is_an_error() {
        assert!(texts("nonMasqueradeCidrs: []").unwrap_err().contains("nonMasqueradeCidrs"));
        assert!(texts("nonMasqueradeCIDRs: [10.0.0.0/33]").is_err());
    }
}
