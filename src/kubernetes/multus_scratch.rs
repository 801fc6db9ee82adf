//! What Multus remembers of the pods that it has attached, for those that were running when Catena took its place.
//!
//! It is a file for each pod, `<cniDir>/<container>`: an array of what it has run, in the order of ADD, with the
//! configuration as text in `Bytes`. The result of each is in libcni's cache, `<cniDir>/results`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use chain::{
    Attachment, CniResult, Code, ConfList, Error, Executor, Request, Result,
    files::{self, Found},
};
use delegates::Node;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What Multus has run for a pod.
#[derive(Debug, Deserialize)]
struct Delegate {
    #[serde(rename = "ifnameRequest", default)]
    ifname: String,
    #[serde(rename = "Bytes")]
    conf: String,
}

/// DEL of what Multus has attached, in reverse; all are tried, also where one fails. Its file is removed when all is
/// undone. Returns whether there was one.
pub fn del(
    dir: &Path,
    executor: &Executor<'_, Node>,
    attachment: &Attachment,
    node: &mut Node,
) -> Result<bool> {
    let file = dir.join(&attachment.container_id);
    let Found::Content(text) = files::read(&file).map_err(|error| files::at(&file, &error))? else {
        return Ok(false);
    };
    let unusable = |why: String| {
        Error::new(
            Code::Decode,
            format!(
                "{}: what Multus has attached cannot be understood ({why}): remove the pod's interfaces by hand, then \
                 this file",
                file.display()
            ),
        )
    };
    let delegates: Option<Vec<Delegate>> =
        serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))?;
    let mut errors = Vec::new();
    for (index, delegate) in delegates.unwrap_or_default().iter().enumerate().rev() {
        let ifname = match (delegate.ifname.as_str(), index) {
            ("", 0) => attachment.ifname.clone(),
            ("", index) => format!("net{index}"),
            (ifname, _) => ifname.to_owned(),
        };
        let undone = STANDARD
            .decode(&delegate.conf)
            .map_err(|error| unusable(error.to_string()))
            .and_then(|conf| ConfList::from_slice(&conf))
            .and_then(|list| undo(dir, &list, &ifname, executor, attachment, node));
        undone.unwrap_or_else(|error| errors.push(error.context(ifname)));
    }
    if let Some(error) = Error::join(errors) {
        return Err(error);
    }
    files::remove_file(&file)?;
    Ok(true)
}

fn undo(
    dir: &Path,
    list: &ConfList,
    ifname: &str,
    executor: &Executor<'_, Node>,
    attachment: &Attachment,
    node: &mut Node,
) -> Result<()> {
    let cached =
        dir.join("results").join(format!("{}-{}-{ifname}", list.name, attachment.container_id));
    let attachment =
        Attachment { network: list.name.clone(), ifname: ifname.to_owned(), ..attachment.clone() };
    let capability_args = Map::new();
    executor.del(
        &Request {
            list,
            attachment: &attachment,
            capability_args: &capability_args,
            prev_result: result_in(&cached, list),
            observer: None,
        },
        node,
    )?;
    files::remove_file(&cached)
}

/// The result that libcni has cached. One that cannot be understood counts as none: DEL goes without.
fn result_in(cached: &PathBuf, list: &ConfList) -> Option<CniResult> {
    let text = fs::read(cached).ok()?;
    let mut cache: Value = serde_json::from_slice(&text).ok()?;
    CniResult::from_json(cache.get_mut("result")?.take(), list.cni_version).ok()
}
