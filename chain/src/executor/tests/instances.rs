//! Plugins that a runtime runs one by one, some of them of one type.

use super::*;
use crate::PluginConf;

/// The configuration of a plugin that a runtime runs.
fn conf(kind: &str, mark: u32, runtime: &str) -> PluginConf {
    let object = json!({
        "cniVersion": "1.0.0", "name": "net", "type": kind, "mark": mark, "runtimeConfig": { "x": runtime },
    });
    let Value::Object(object) = object else { panic!("an object") };
    PluginConf::from_object(object).unwrap()
}

impl Host {
    fn plugin(&self, conf: &PluginConf) -> (Executor<'_, World>, ConfList) {
        let list = ConfList::from_plugin(&conf.kind, conf.raw.clone()).unwrap();
        (self.executor().of_plugin(&conf.kind, conf), list)
    }

    fn add_one(&self, conf: &PluginConf, world: &mut World) -> Result<CniResult> {
        let (executor, list) = self.plugin(conf);
        executor.add(&request(&list, &self.attachment()), world)
    }

    fn del_one(&self, conf: &PluginConf, world: &mut World) -> Result<()> {
        let (executor, list) = self.plugin(conf);
        executor.del(&request(&list, &self.attachment()), world)
    }

    fn check_one(&self, conf: &PluginConf, world: &mut World) -> Result<()> {
        let (executor, list) = self.plugin(conf);
        executor.check(&request(&list, &self.attachment()), world)
    }

    /// The marks that are on record.
    fn marks(&self) -> Vec<Value> {
        self.records().iter().map(|record| record.delegates[0].conf["mark"].clone()).collect()
    }
}

#[test]
fn plugins_of_one_type_each_have_a_record() {
    let (host, mut world) = (Host::new(), World::default());
    let [one, two] = [conf("addr", 1, "add"), conf("addr", 2, "add")];
    host.add_one(&one, &mut world).unwrap();
    host.add_one(&two, &mut world).unwrap();
    for added in [&one, &two] {
        let error = host.add_one(added, &mut world).unwrap_err();
        assert!(error.msg.contains("already"), "{error}");
    }
    // What the runtime injects may have changed.
    let later = [conf("addr", 1, "later"), conf("addr", 2, "later")];
    host.check_one(&later[1], &mut world).unwrap();
    host.del_one(&later[1], &mut world).unwrap();
    assert_eq!(host.marks(), [1]);
    host.del_one(&later[0], &mut world).unwrap();
    assert!(host.records().is_empty());

    host.add_one(&one, &mut world).unwrap();
    host.add_one(&two, &mut world).unwrap();
    host.del_one(&one, &mut world).unwrap();
    assert_eq!(host.marks(), [2]);
    host.del_one(&two, &mut world).unwrap();
    assert!(host.records().is_empty());
}

#[test]
fn a_changed_configuration_still_finds_what_it_made() {
    let (host, mut world) = (Host::new(), World::default());
    let other = conf("link", 7, "");
    for plugin in [&other, &conf("addr", 1, ""), &conf("addr", 2, "")] {
        host.add_one(plugin, &mut world).unwrap();
    }
    let changed = conf("addr", 3, "");
    host.check_one(&changed, &mut world).unwrap();
    world.log.clear();
    host.del_one(&changed, &mut world).unwrap();
    assert_eq!(world.log, ["DEL addr Added", "DEL addr Added"]);
    assert_eq!(host.marks(), [7], "another type is not touched");
}

#[test]
fn gc_of_a_plugin_collects_all_of_its_type() {
    let (host, mut world) = (Host::new(), World::default());
    let [one, two] = [conf("addr", 1, ""), conf("addr", 2, "")];
    for plugin in [&one, &two, &conf("link", 7, "")] {
        host.add_one(plugin, &mut world).unwrap();
    }
    let (executor, list) = host.plugin(&one);
    executor.gc("net", &list, &[], None, &mut world).unwrap();
    assert_eq!(host.marks(), [7]);
}

#[test]
fn what_a_dead_attachment_left_is_removed_whatever_its_configuration_was() {
    let (host, mut world) = (Host::new(), World::default());
    host.add_one(&conf("addr", 1, ""), &mut world).unwrap();
    // Keeps the old file's number from being used again.
    std::fs::rename(host.path("c1"), host.path("old")).unwrap();
    host.make_netns("c1");
    world.log.clear();
    host.add_one(&conf("addr", 2, ""), &mut world).unwrap();
    assert_eq!(world.log, ["DEL addr Added", "ADD addr"]);
    assert_eq!(host.marks(), [2]);
}
