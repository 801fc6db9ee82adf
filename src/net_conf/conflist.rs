//! The conflist that leads a runtime to Catena.

use std::{collections::BTreeSet, path::Path};

use chain::{ConfList, PluginConf, Result, Version};
use serde_json::{Map, Value, json};

use crate::{
    kubernetes::conf::{self, Conf},
    meta,
};

/// By this a conflist is known to be written here. Runtimes read no such key.
pub const MARK: &str = r#""writtenBy": "catena""#;

/// The network's name, whatever the master is called: attachments are recorded under it, and the master may be replaced.
const NAME: &str = "catena";

/// The conflist for a master. `named`: the file that it is to be, for good; otherwise it is found anew at each call.
///
/// Errors (6): a setting has the wrong type.
pub fn text(
    master: &ConfList,
    named: Option<&Path>,
    conf_dir: &Path,
    kubeconfig: Option<&Path>,
    settings: Map<String, Value>,
) -> Result<String> {
    let mut plugin = Map::new();
    plugin.insert("type".into(), meta::KIND.into());
    let capabilities = capabilities(master);
    if !capabilities.is_empty() {
        plugin.insert("capabilities".into(), capabilities.into());
    }
    if let Some(file) = named {
        plugin.insert("clusterNetwork".into(), file.to_string_lossy().into());
    }
    if conf_dir != Path::new(conf::NET_DIR) {
        plugin.insert("confDir".into(), conf_dir.to_string_lossy().into());
    }
    if let Some(file) = kubeconfig {
        plugin.insert("kubeconfig".into(), file.to_string_lossy().into());
    }
    if settings.contains_key("confDir") {
        // Without it the plugin would look for the master there.
        plugin.insert("multusAutoconfigDir".into(), conf_dir.to_string_lossy().into());
    }
    plugin.extend(settings);
    let versions = versions(master.cni_version);
    // As the plugin will read it.
    let mut call = plugin.clone();
    call.insert("cniVersion".into(), versions[0].as_str().into());
    call.insert("name".into(), NAME.into());
    Conf::of(meta::KIND, &PluginConf::from_object(call)?)?;
    let list = json!({
        "cniVersion": versions[0].as_str(),
        "cniVersions": versions.iter().map(|version| version.as_str()).collect::<Vec<_>>(),
        "name": NAME,
        "writtenBy": "catena",
        "plugins": [plugin],
    });
    Ok(format!("{list:#}\n"))
}

/// The versions that the conflist is offered in, the oldest first. That one is the master's, since the runtime has understood
/// it until now, but none that a runtime of the time before GC would not understand. One that knows `cniVersions` takes the newest
/// that it speaks, whatever the master's is: results are converted.
fn versions(master: Version) -> Vec<Version> {
    // Before 0.3.1 there is no conflist.
    let oldest = master.clamp(Version::V0_3_1, Version::V1_0_0);
    Version::ALL.into_iter().filter(|version| *version >= oldest).collect()
}

/// What any of the master's plugins is to be passed, sorted.
fn capabilities(master: &ConfList) -> Map<String, Value> {
    let declared =
        master.plugins.iter().filter_map(|plugin| plugin.get("capabilities")?.as_object());
    let passed = declared.flatten().filter(|(_, is_passed)| **is_passed == true);
    let names: BTreeSet<_> = passed.map(|(name, _)| name.clone()).collect();
    names.into_iter().map(|name| (name, true.into())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;

    fn written(master: Value, named: Option<&str>, settings: Value) -> Value {
        let master = ConfList::from_value(master).unwrap();
        let Value::Object(settings) = settings else { panic!("{settings}") };
        let kubeconfig = Path::new("/etc/cni/net.d/catena.d/catena.kubeconfig");
        let conf_dir = Path::new("/etc/cni/net.d");
        let text =
            text(&master, named.map(Path::new), conf_dir, Some(kubeconfig), settings).unwrap();
        assert!(text.contains(MARK), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn capabilities_are_those_that_any_plugin_is_passed() {
        let master = json!({ "cniVersion": "1.0.0", "name": "web", "plugins": [
            { "type": "a", "capabilities": { "ips": true, "mac": false, "odd": "true" } },
            { "type": "b" },
            { "type": "c", "capabilities": { "portMappings": true, "ips": false } },
        ] });
        let list = written(master, None, json!({}));
        let passed = json!({ "ips": true, "portMappings": true });
        assert_eq!(list["plugins"][0]["capabilities"], passed);
        assert_eq!(list["plugins"][0].get("clusterNetwork"), None, "{list}");
    }

    #[test]
    fn a_network_without_capabilities_is_passed_none() {
        let list =
            written(json!({ "cniVersion": "0.3.1", "name": "x", "type": "a" }), None, json!({}));
        assert_eq!(list["plugins"][0].get("capabilities"), None, "{list}");
    }

    #[test]
    fn the_versions_begin_with_the_masters() {
        let of = |version: Value| {
            let list = written(
                json!({ "cniVersion": version, "name": "x", "type": "a" }),
                None,
                json!({}),
            );
            assert_eq!(list["cniVersion"], list["cniVersions"][0]);
            assert_eq!(list["cniVersions"].as_array().unwrap().last().unwrap(), "1.1.0");
            list["cniVersion"].as_str().unwrap().to_owned()
        };
        assert_eq!(of(json!("0.2.0")), "0.3.1");
        assert_eq!(of(json!("0.3.1")), "0.3.1");
        assert_eq!(of(json!("0.4.0")), "0.4.0");
        assert_eq!(of(json!("1.0.0")), "1.0.0");
        assert_eq!(of(json!("1.1.0")), "1.0.0", "older runtimes read it, too");
    }

    #[test]
    fn networks_may_be_in_another_folder_than_the_master() {
        let master = json!({ "cniVersion": "0.3.1", "name": "x", "type": "a" });
        let list = written(master, None, json!({ "confDir": "/etc/cni/multus/net.d" }));
        let plugin = &list["plugins"][0];
        assert_eq!(plugin["confDir"], "/etc/cni/multus/net.d");
        assert_eq!(plugin["multusAutoconfigDir"], "/etc/cni/net.d");
    }

    #[test]
    fn a_master_by_its_name_and_settings_stand_in_the_plugin() {
        let master = json!({ "cniVersion": "0.3.1", "name": "x", "type": "a" });
        let file = "/etc/cni/net.d/10-x.conf";
        let list = written(master, Some(file), json!({ "namespaceIsolation": true }));
        let plugin = &list["plugins"][0];
        assert_eq!(plugin["clusterNetwork"], file);
        assert_eq!(plugin["namespaceIsolation"], true);
        assert_eq!(plugin.get("multusAutoconfigDir"), None);
        assert_eq!((&list["name"], &plugin["type"]), (&json!("catena"), &json!("catena")));
    }
}
