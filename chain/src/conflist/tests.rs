use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn parse(json: Value) -> Result<ConfList> {
    ConfList::from_slice(json.to_string().as_bytes())
}

fn with(key: &str, value: Value) -> Result<ConfList> {
    let mut list =
        json!({ "cniVersion": "1.0.0", "name": "net", "plugins": [{ "type": "bridge" }] });
    list[key] = value;
    parse(list)
}

fn write(dir: &TempDir, name: &str, text: impl ToString) {
    fs::write(dir.path().join(name), text.to_string()).unwrap();
}

fn list(name: &str, kind: &str) -> Value {
    json!({ "cniVersion": "1.0.0", "name": name, "plugins": [{ "type": kind }] })
}

#[test]
fn a_single_plugin_is_a_chain_of_one() {
    let list =
        parse(json!({ "cniVersion": "0.4.0", "name": "net", "type": "bridge", "mtu": 9000 }))
            .unwrap();
    assert_eq!((list.name.as_str(), list.cni_version), ("net", Version::V0_4_0));
    assert_eq!(list.plugins[0]["mtu"], 9000);
}

#[test]
fn flags_are_booleans_or_their_names() {
    for (value, expected) in
        [(json!(true), true), (json!("True"), true), (json!("false"), false), (json!(null), false)]
    {
        assert_eq!(with("disableCheck", value.clone()).unwrap().disable_check, expected);
        assert_eq!(with("disableGC", value.clone()).unwrap().disable_gc, expected);
        assert_eq!(
            with("loadOnlyInlinedPlugins", value).unwrap().load_only_inlined_plugins,
            expected
        );
    }
    let error = with("disableGC", json!("yes")).unwrap_err();
    assert_eq!(error.msg, "disableGC is \"yes\": it must be true or false");
}

#[test]
fn the_highest_supported_version_is_spoken() {
    for (versions, expected) in [
        (json!(["0.4.0", "1.1.0", "0.3.1"]), Version::V1_1_0),
        (json!(["0.3.1"]), Version::V1_0_0),
        (json!(["1.2.0", "7.0.0"]), Version::V1_0_0),
        (json!([]), Version::V1_0_0),
        (json!(null), Version::V1_0_0),
    ] {
        assert_eq!(with("cniVersions", versions).unwrap().cni_version, expected);
    }
    let none = json!({ "name": "net", "plugins": [{ "type": "bridge" }] });
    assert_eq!(parse(none).unwrap().cni_version, Version::V0_1_0);
    let error = with("cniVersion", json!("1.2.0")).unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
    let newer =
        json!({ "name": "net", "cniVersions": ["2.0.0"], "plugins": [{ "type": "bridge" }] });
    assert_eq!(parse(newer).unwrap_err().code, Code::IncompatibleVersion);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, code, expected) in [
        ("", Code::Decode, "is empty"),
        ("{\n  \"name\": }", Code::Decode, "line 2 column 11"),
        ("[]", Code::Decode, "not a JSON object"),
        (r#"{"name":"net"}"#, Code::InvalidConfig, "neither \"plugins\""),
        (r#"{"plugins":[{"type":"a"}]}"#, Code::InvalidConfig, "no \"name\""),
        (r#"{"name":"../x","plugins":[{"type":"a"}]}"#, Code::InvalidConfig, "network name"),
        (r#"{"name":4,"plugins":[{"type":"a"}]}"#, Code::Decode, "name is 4"),
        (r#"{"name":"net","plugins":[]}"#, Code::InvalidConfig, "missing or empty"),
        (r#"{"name":"net","plugins":{}}"#, Code::Decode, "must be a list"),
        (
            r#"{"name":"net","plugins":[{}]}"#,
            Code::InvalidConfig,
            "plugin 1 of the chain has no type",
        ),
        (r#"{"name":"net","plugins":[7]}"#, Code::Decode, "plugin 1 of the chain is not"),
        (r#"{"name":"net","plugins":[{"type":"../a"}]}"#, Code::InvalidConfig, "not a path"),
    ] {
        let error = ConfList::from_slice(text.as_bytes()).unwrap_err();
        assert_eq!(error.code, code, "{text}");
        assert!(error.msg.contains(expected), "{error}");
    }
}

#[test]
fn a_delegate_gets_what_the_specification_says() {
    let list = parse(json!({
        "cniVersion": "1.0.0", "name": "net",
        "plugins": [
            { "type": "bridge", "name": "other", "keyA": [1], "prevResult": {}, "cni.dev/x": 1,
              "capabilities": { "mac": true, "ips": false } },
            { "type": "portmap", "capabilities": { "portMappings": true }, "runtimeConfig": { "aliases": [] } }
        ]
    }))
    .unwrap();
    let args = json!({ "mac": "m", "ips": [], "portMappings": [8080], "unknown": 1 });
    let Value::Object(args) = args else { panic!("an object") };
    let confs = list.delegates(&args).unwrap();
    let raw: Vec<_> =
        confs.iter().map(|conf| Value::Object(conf.raw.clone()).to_string()).collect();
    assert_eq!(
        raw,
        [
            r#"{"cniVersion":"1.0.0","name":"net","type":"bridge","keyA":[1],"runtimeConfig":{"mac":"m"}}"#,
            r#"{"cniVersion":"1.0.0","name":"net","type":"portmap","runtimeConfig":{"aliases":[],"portMappings":[8080]}}"#,
        ]
    );
    let raw = &list.delegates(&Map::new()).unwrap()[0].raw;
    assert!(!raw.contains_key("runtimeConfig"));
}

#[test]
fn the_first_file_with_the_name_wins_and_a_bad_one_hides_none() {
    let dir = TempDir::new().unwrap();
    write(&dir, "00-broken.conflist", "{");
    write(&dir, "10-a.conf", json!({ "name": "net", "type": "single" }));
    write(&dir, "20-b.conflist", list("net", "first"));
    write(&dir, "30-c.conflist", list("net", "second"));
    write(&dir, "40-d.json", json!({ "name": "alone", "type": "single" }));
    write(&dir, "50-e.txt", "not a configuration");
    fs::create_dir(dir.path().join("60-f.conflist")).unwrap();

    let net = ConfList::load(dir.path(), "net").unwrap();
    assert_eq!(net.plugins[0]["type"], "first", "lists come before single plugins");
    assert_eq!(net.source, Some(dir.path().join("20-b.conflist")));
    assert_eq!(ConfList::load(dir.path(), "alone").unwrap().plugins[0]["type"], "single");

    let error = ConfList::load(dir.path(), "absent").unwrap_err().to_string();
    for part in
        ["no network \"absent\"", "net, net, net, alone", "00-broken.conflist: ", "line 1 column 1"]
    {
        assert!(error.contains(part), "{error}");
    }
    let all = ConfList::load_dir(dir.path()).unwrap();
    let names: Vec<_> =
        all.iter().map(|(_, list)| list.as_ref().ok().map(|l| l.name.as_str())).collect();
    assert_eq!(names, [None, Some("net"), Some("net"), Some("net"), Some("alone")]);

    let nowhere = dir.path().join("nowhere");
    assert!(ConfList::load_dir(&nowhere).unwrap().is_empty());
    assert!(ConfList::load(&nowhere, "net").unwrap_err().msg.contains("has no .conflist"));
}

#[test]
fn plugins_are_added_from_the_folder_of_the_networks_name() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("net")).unwrap();
    write(&dir, "net/20-b.conf", json!({ "type": "tuning" }));
    write(&dir, "net/10-a.conf", json!({ "type": "portmap" }));
    write(&dir, "net/30-c.json", json!({ "type": "ignored" }));
    write(&dir, "a.conflist", list("net", "bridge"));
    write(&dir, "b.conflist", json!({ "name": "net" }));
    let kinds = |file: &str| -> Vec<_> {
        let list = ConfList::load_file(&dir.path().join(file)).unwrap();
        list.plugins.iter().map(|plugin| plugin["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds("a.conflist"), ["bridge", "portmap", "tuning"]);
    assert_eq!(kinds("b.conflist"), ["portmap", "tuning"]);

    let mut inline = list("net", "bridge");
    inline["loadOnlyInlinedPlugins"] = "true".into();
    write(&dir, "a.conflist", inline);
    assert_eq!(kinds("a.conflist"), ["bridge"]);

    write(&dir, "c.conflist", json!({ "name": "net", "loadOnlyInlinedPlugins": true }));
    write(&dir, "d.conflist", json!({ "name": "other" }));
    for file in ["c.conflist", "d.conflist"] {
        let error = ConfList::load_file(&dir.path().join(file)).unwrap_err();
        assert!(error.msg.contains("missing or empty") && error.msg.contains(file), "{error}");
    }
    write(&dir, "net/20-b.conf", "{ \"type\": ");
    write(&dir, "e.conflist", json!({ "name": "net" }));
    let error = ConfList::load_file(&dir.path().join("e.conflist")).unwrap_err();
    assert!(error.msg.contains("net/20-b.conf: the configuration is not valid JSON"), "{error}");
}

#[test]
fn a_file_is_read_as_what_it_holds() {
    let dir = TempDir::new().unwrap();
    write(&dir, "list.conf", list("net", "bridge"));
    write(&dir, "single.conflist", json!({ "name": "net", "type": "bridge" }));
    let both = json!({ "name": "net", "type": "catena", "plugins": [{ "type": "bridge" }] });
    write(&dir, "both.conf", &both);
    write(&dir, "both.conflist", &both);
    for (file, kind) in [
        ("list.conf", "bridge"),
        ("single.conflist", "bridge"),
        ("both.conf", "catena"),
        ("both.conflist", "bridge"),
    ] {
        let list = ConfList::load_file(&dir.path().join(file)).unwrap();
        assert_eq!(list.plugins[0]["type"], kind, "{file}");
    }
}

#[test]
fn a_plugin_is_what_it_was_invoked_as() {
    let conf =
        json!({ "name": "net", "type": "bridge", "exec": true, "ipam": { "type": "host-local" } });
    let Value::Object(conf) = conf else { panic!("an object") };
    let list = ConfList::from_plugin("host-local", conf).unwrap();
    let [conf] = &list.delegates(&Map::new()).unwrap()[..] else { panic!("a chain of one") };
    assert_eq!((conf.kind.as_str(), conf.exec), ("host-local", false));
}
