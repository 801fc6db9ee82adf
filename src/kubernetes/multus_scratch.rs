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
    Attachment, CniResult, ConfList, Error, Executor, Request, Result,
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
    // Multus does not write it in one step: after a power cut it may be cut off, and then the configuration has to do.
    let delegates = match parse(&text) {
        Ok(delegates) if delegates.is_empty() => {
            files::remove_file(&file)?;
            return Ok(false);
        }
        Ok(delegates) => delegates,
        Err(why) => {
            files::set_aside(&file, &why);
            return Ok(false);
        }
    };
    let mut errors = Vec::new();
    for (index, (ifname, list)) in delegates.iter().enumerate().rev() {
        let ifname = match (ifname.as_str(), index) {
            ("", 0) => attachment.ifname.clone(),
            ("", index) => format!("net{index}"),
            (ifname, _) => ifname.to_owned(),
        };
        undo(dir, list, &ifname, executor, attachment, node)
            .unwrap_or_else(|error| errors.push(error.context(ifname)));
    }
    if let Some(error) = Error::join(errors) {
        return Err(error);
    }
    files::remove_file(&file)?;
    Ok(true)
}

/// The interface that each was asked to make, if it was, and its chain.
fn parse(text: &[u8]) -> Result<Vec<(String, ConfList)>, String> {
    let delegates: Option<Vec<Delegate>> =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let chain = |delegate: Delegate| {
        let conf = STANDARD.decode(&delegate.conf).map_err(|error| error.to_string())?;
        let list = ConfList::from_slice(&conf).map_err(|error| error.to_string())?;
        Ok((delegate.ifname, list))
    };
    delegates.unwrap_or_default().into_iter().map(chain).collect()
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
