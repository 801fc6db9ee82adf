//! The master: the network of the CNI software that a node has beside Catena, which becomes every pod's cluster network.

use std::path::Path;

use chain::{Code, ConfList, Error, Result};

/// The plugins that carry other networks. A network of theirs is nobody's master: it would carry itself.
pub const CARRIERS: [&str; 3] = ["catena", "multus", "multus-shim"];

/// What the names of generated files begin with. Multus leaves such a file empty where it is killed, or without a
/// network: by its content nobody could tell whose it is.
const GENERATED: [&str; 2] = ["00-catena", "00-multus"];

/// The node's master: the first network of `conf_dir` that is not Catena's or Multus's own, in the order in which
/// runtimes look for their network.
///
/// It is looked for anew at each call, so what is installed, changed or replaced holds from the next pod on. A file that
/// comes first and cannot be read may be the master, half written: the next one is not taken in its place.
///
/// Errors (11): there is none, or it cannot be read.
pub fn find(conf_dir: &Path) -> Result<ConfList> {
    let mut carriers = Vec::new();
    for (file, list) in ConfList::load_dir(conf_dir)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if GENERATED.iter().any(|generated| name.starts_with(generated)) {
            carriers.push(name.into_owned());
            continue;
        }
        match list {
            Ok(list) if carries(&list) => carriers.push(name.into_owned()),
            Ok(list) => return Ok(list),
            Err(error) => {
                return Err(Error::new(
                    Code::TryAgain,
                    format!(
                        "the cluster network: {error}; it is the first configuration of {}, so the others are not taken \
                         in its place: mend it, or name another one as clusterNetwork",
                        conf_dir.display()
                    ),
                ));
            }
        }
    }
    let own = match carriers.is_empty() {
        true => String::new(),
        false => format!(" but {}, which carry other networks", carriers.join(", ")),
    };
    Err(Error::new(
        Code::TryAgain,
        format!(
            "the cluster network: {} has no network{own}: install the cluster's CNI software, or name a network as \
             clusterNetwork",
            conf_dir.display()
        ),
    ))
}

/// A master that is named by its file.
///
/// Errors: 11 where it cannot be read (yet), 7 where it carries other networks itself.
pub fn load(file: &Path) -> Result<ConfList> {
    let list = ConfList::load_file(file)
        .map_err(|error| Error::new(Code::TryAgain, format!("the cluster network: {error}")))?;
    match carries(&list) {
        false => Ok(list),
        true => Err(Error::config(format!(
            "{}: this network carries other networks itself, and would carry itself: name the one of the cluster's CNI \
             software",
            file.display()
        ))),
    }
}

/// Whether a network is one of a plugin that carries others.
fn carries(list: &ConfList) -> bool {
    let kind = |plugin: &serde_json::Map<_, _>| plugin.get("type").cloned();
    list.plugins.iter().filter_map(kind).any(|kind| CARRIERS.iter().any(|carrier| kind == *carrier))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use std::fs;

    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    const BRIDGE: &str = r#"{"cniVersion":"1.0.0","name":"web","plugins":[{"type":"bridge"}]}"#;

    #[test]
    fn it_is_the_first_that_is_no_carriers() {
        let single = r#"{"cniVersion":"0.3.1","name":"single","type":"calico"}"#;
        for carrier in CARRIERS {
            let own = format!(
                r#"{{"cniVersion":"1.0.0","name":"own","plugins":[{{"type":"{carrier}"}}]}}"#
            );
            let dir = folder(&[
                ("05-own.conflist", &own),
                ("10-a.conf", single),
                ("20-b.conflist", BRIDGE),
                ("01-note.txt", "{"),
            ]);
            assert_eq!(find(dir.path()).unwrap().name, "single", "{carrier}");
            fs::remove_file(dir.path().join("10-a.conf")).unwrap();
            assert_eq!(find(dir.path()).unwrap().name, "web", "{carrier}");
        }
    }

    #[test]
    fn files_of_generated_names_are_passed_over_whatever_they_hold() {
        let dir = folder(&[
            ("00-multus.conf", ""),
            ("00-multus.conflist", BRIDGE),
            ("00-catena.conflist", "{"),
            ("10-web.conflist", BRIDGE),
        ]);
        let master = find(dir.path()).unwrap();
        assert_eq!(master.source.unwrap(), dir.path().join("10-web.conflist"));
    }

    #[test]
    fn one_that_cannot_be_read_is_not_replaced_by_the_next() {
        let dir = folder(&[("05-half.conflist", r#"{"name":"#), ("10-web.conflist", BRIDGE)]);
        let error = find(dir.path()).unwrap_err();
        assert_eq!(error.code, Code::TryAgain);
        assert!(error.msg.contains("05-half.conflist"), "{error}");
    }

    #[test]
    fn a_named_one_must_be_there_and_no_carrier() {
        let dir = folder(&[
            ("10-web.conflist", BRIDGE),
            ("20-own.conf", r#"{"cniVersion":"0.3.1","name":"own","type":"multus-shim"}"#),
        ]);
        let load = |name: &str| load(&dir.path().join(name));
        assert_eq!(load("10-web.conflist").unwrap().name, "web");
        assert_eq!(load("20-own.conf").unwrap_err().code, Code::InvalidConfig);
        let missing = load("30-none.conflist").unwrap_err();
        assert_eq!(missing.code, Code::TryAgain);
        assert!(missing.msg.contains("30-none.conflist"), "{missing}");
    }

    #[test]
    fn where_there_is_none_the_error_says_what_is_there() {
        let dir = folder(&[("00-multus.conf", "")]);
        let error = find(dir.path()).unwrap_err();
        assert_eq!(error.code, Code::TryAgain);
        let folder = dir.path().to_str().unwrap();
        assert!(error.msg.contains(folder) && error.msg.contains("00-multus.conf"), "{error}");
        assert_eq!(find(&dir.path().join("missing")).unwrap_err().code, Code::TryAgain);
    }
}
