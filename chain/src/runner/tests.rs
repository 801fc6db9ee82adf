use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::{ConfList, Version};

struct NoNode;

impl Node for NoNode {
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn discard(&mut self) {}
}

/// What a plugin does here depends on its type.
struct Fake(&'static str);

impl Plugin<NoNode> for Fake {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn oldest_version(&self) -> Version {
        if self.0 == "modern" { Version::V1_0_0 } else { Version::V0_1_0 }
    }

    fn add(&self, call: &Call<'_, NoNode>, node: &mut NoNode) -> Result<CniResult> {
        match self.0 {
            "panics" => panic!("index {} is out of range", 7),
            "delegates" => Ok(call.runner.ipam_add(call, node)?.expect("the test names an IPAM")),
            "fails" => Err(Error::new(Code::TryAgain, "not now")),
            _ => Ok(CniResult::default()),
        }
    }

    fn del(&self, _: &Call<'_, NoNode>, _: &mut NoNode) -> Result<()> {
        Ok(())
    }

    fn check(&self, _: &Call<'_, NoNode>, _: &mut NoNode) -> Result<()> {
        Ok(())
    }
}

const FAKES: &[&dyn Plugin<NoNode>] =
    &[&Fake("panics"), &Fake("delegates"), &Fake("fails"), &Fake("modern"), &Fake("plain")];

fn add(plugin: Value, path: Vec<PathBuf>) -> Result<CniResult> {
    let registry = Registry::new(FAKES);
    let runner = Runner::new(&registry, path);
    let list = json!({ "cniVersion": "0.4.0", "name": "net", "plugins": [plugin] });
    let conf = ConfList::from_value(list)?.delegates(&Map::new())?.remove(0);
    let attachment = Attachment {
        network: "net".into(),
        container_id: "c1".into(),
        ifname: "eth0".into(),
        netns: Some("/run/netns/c1".into()),
        args: Default::default(),
    };
    runner.add(Delegate::of(&conf), &attachment, None, &mut NoNode)
}

#[test]
fn a_panic_is_the_delegates_error() {
    let error = add(json!({ "type": "panics" }), vec![]).unwrap_err();
    assert_eq!(error.code, Code::Internal);
    assert_eq!(error.msg, "panics: panicked, which is a bug in it: index 7 is out of range");
}

#[test]
fn an_error_keeps_its_code_and_names_the_delegate() {
    let error = add(json!({ "type": "fails" }), vec![]).unwrap_err();
    assert_eq!((error.code, error.msg.as_str()), (Code::TryAgain, "fails: not now"));
}

#[test]
fn a_delegate_too_new_for_the_version_is_refused() {
    let error = add(json!({ "type": "modern" }), vec![]).unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
}

#[test]
fn a_panicking_ipam_plugin_fails_the_plugin_that_calls_it() {
    let error =
        add(json!({ "type": "delegates", "ipam": { "type": "panics" } }), vec![]).unwrap_err();
    assert!(error.msg.starts_with("delegates: panics: panicked"), "{error}");
}

#[test]
fn exec_runs_the_executable_even_where_the_type_is_built_in() {
    let error =
        add(json!({ "type": "plain", "exec": true }), vec!["/nonexistent".into()]).unwrap_err();
    assert_eq!(error.code, Code::InvalidConfig);
    assert!(error.msg.contains("CNI_PATH has none of this name: /nonexistent"), "{error}");
    assert!(add(json!({ "type": "plain" }), vec![]).is_ok());
}
