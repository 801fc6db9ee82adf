use std::{
    fs,
    os::unix::fs::PermissionsExt,
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{Dirs, files};

fn records() -> (TempDir, Records) {
    let dir = TempDir::new().unwrap();
    let dirs =
        Dirs { state: dir.path().join("state"), run: dir.path().join("run"), ..Dirs::default() };
    (dir, Records::open(&dirs))
}

fn record(network: &str, container_id: &str, ifname: &str, scope: &str) -> Record {
    let Value::Object(conf) = json!({ "name": network, "type": "bridge" }) else {
        panic!("an object")
    };
    let delegate = DelegateRecord {
        conf,
        foreign: false,
        ipam_foreign: true,
        state: State::Planned,
        result: None,
    };
    Record {
        format: Record::FORMAT,
        network: network.into(),
        container_id: container_id.into(),
        ifname: ifname.into(),
        scope: scope.into(),
        instance: String::new(),
        netns: Some("/run/netns/a".into()),
        netns_id: Some(NetnsId { dev: 4, ino: 4_026_531_840 }),
        boot: "boot".into(),
        created: 1_700_000_000,
        cni_version: Version::V1_0_0,
        args: "A=1".into(),
        cni_path: vec!["/opt/cni/bin".into()],
        capability_args: Map::new(),
        disable_check: false,
        prev_result: None,
        delegates: vec![delegate.clone(), delegate],
        result: None,
        complete: false,
        undoing: false,
    }
}

fn result(name: &str) -> CniResult {
    let interface = crate::result::Interface { name: name.into(), ..Default::default() };
    CniResult { interfaces: vec![interface], ..Default::default() }
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let (_dir, records) = records();
    let mut record = record("net", "c1", "eth0", "conflist");
    record.result = Some(result("eth0"));
    record.prev_result = Some(CniResult::default());
    records.write(&record).unwrap();
    assert_eq!(records.read(&record.key()).unwrap().as_ref(), Some(&record));

    let file = records.path(&record.key());
    assert!(file.ends_with("state/attachments/net/c1@eth0:conflist.json"), "{}", file.display());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "no draft stays");

    records.remove(&record.key()).unwrap();
    records.remove(&record.key()).unwrap();
    assert_eq!(records.read(&record.key()).unwrap(), None);
}

#[test]
fn a_journal_says_how_far_add_came() {
    let (_dir, records) = records();
    let mut journal = Journal::begin(&records, record("net", "c1", "eth0", "conflist")).unwrap();
    let read = |journal: &Journal| {
        let record = records.read(&journal.record.key()).unwrap().unwrap();
        assert_eq!(record, journal.record, "what is known and what is written are the same");
        let states: Vec<_> = record.delegates.iter().map(|delegate| delegate.state).collect();
        (states, record.complete)
    };
    assert_eq!(read(&journal), (vec![State::Begun, State::Planned], false));
    journal.proceed(0, &result("a")).unwrap();
    assert_eq!(read(&journal), (vec![State::Added, State::Begun], false));
    journal.finish(1, &result("b")).unwrap();
    assert_eq!(read(&journal), (vec![State::Added, State::Added], true));
    assert_eq!(journal.record.result, Some(result("b")));
}

#[test]
fn a_record_that_cannot_be_understood_is_set_aside() {
    let (_dir, records) = records();
    let record = record("net", "c1", "eth0", "conflist");
    let file = records.path(&record.key());
    for text in ["", "{\"format\":1", "\0\0\0\0", "[]", "{}"] {
        records.write(&record).unwrap();
        fs::write(&file, text).unwrap();
        assert_eq!(records.read(&record.key()).unwrap(), None, "{text:?}");
        assert!(!file.exists());
        let aside = format!("{}.corrupt", file.display());
        assert_eq!(fs::read_to_string(&aside).unwrap(), text);
        fs::remove_file(aside).unwrap();
    }
    assert!(records.list("net").unwrap().is_empty());
}

#[test]
fn a_record_of_a_newer_version_is_left_alone() {
    let (_dir, records) = records();
    let newer = Record { format: 2, ..record("net", "c1", "eth0", "conflist") };
    records.write(&newer).unwrap();
    let error = records.read(&newer.key()).unwrap_err();
    assert!(error.msg.contains("has format 2"), "{error}");
    assert!(records.path(&newer.key()).exists());
    assert!(records.list("net").unwrap().is_empty());
}

#[test]
fn records_are_found_by_network_and_attachment() {
    let (_dir, records) = records();
    let long = "n".repeat(230);
    let container = "c".repeat(300);
    for (network, container, ifname, scope) in [
        ("net", "c1", "eth0", "conflist"),
        ("net", "c1", "eth0", "bridge"),
        ("net", "c1", "eth0.5", "bridge"),
        ("net", "c1", "eth01", "conflist"),
        ("net", container.as_str(), "eth0", "conflist"),
        (long.as_str(), container.as_str(), "eth0", &"s".repeat(250)),
    ] {
        records.write(&record(network, container, ifname, scope)).unwrap();
    }
    assert_eq!(records.list("net").unwrap().len(), 5);
    assert_eq!(records.list("absent").unwrap().len(), 0);
    let mut networks = vec!["net".to_owned(), long.clone()];
    networks.sort();
    assert_eq!(records.networks().unwrap(), networks);
    let scopes = |network: &str, container: &str, ifname: &str| -> Vec<_> {
        let found = records.find(network, container, ifname).unwrap();
        found.into_iter().map(|record| record.scope).collect()
    };
    assert_eq!(scopes("net", "c1", "eth0"), ["bridge", "conflist"]);
    assert_eq!(scopes("net", "c1", "eth0.5"), ["bridge"]);
    assert_eq!(scopes("net", &container, "eth0"), ["conflist"]);
    assert_eq!(scopes(&long, &container, "eth0").len(), 1);
    assert!(scopes("net", "c", "eth0").is_empty());
}

#[test]
fn a_key_has_no_path_in_it() {
    let attachment = |container: &str| Attachment {
        network: "net".into(),
        container_id: container.into(),
        ifname: "eth0".into(),
        netns: None,
        args: CniArgs::default(),
    };
    assert!(Key::new(&attachment("../../etc"), "conflist").is_err());
    assert!(Key::new(&attachment("c1"), "../bridge").is_err());
    assert!(Key::new(&attachment("c1"), "bridge").is_ok());
}

#[test]
fn how_a_delegate_ran_is_kept() {
    let record = record("net", "c1", "eth0", "conflist");
    let mut delegate = record.delegates[0].clone();
    delegate.foreign = true;
    delegate.conf.insert("ipam".into(), json!({ "type": "dhcp" }));
    let conf = delegate.plugin_conf().unwrap();
    assert!(conf.exec && conf.ipam.unwrap().exec);
}

#[test]
fn a_chain_within_a_chain_has_a_scope_of_its_own() {
    let conf = |mtu: u32, runtime: u32| {
        let conf = json!({
            "name": "net", "type": "catena", "mtu": mtu, "runtimeConfig": { "mac": runtime },
        });
        let Value::Object(conf) = conf else { panic!("an object") };
        Key::scope_within(&PluginConf::from_object(conf).unwrap())
    };
    assert_eq!(conf(1, 1), conf(1, 2), "GC has no runtimeConfig");
    assert_ne!(conf(1, 1), conf(2, 1));
    assert!(conf(1, 1).starts_with("catena-") && conf(1, 1).len() == 23);
}

#[test]
fn a_thread_does_not_wait_for_itself() {
    let (_dir, records) = records();
    let key = record("net", "c1", "eth0", "catena").key();
    let lock = records.lock(&key).unwrap();
    let error = records.lock(&key).unwrap_err();
    assert!(error.msg.starts_with("network net contains itself"), "{error}");
    drop(lock);
    records.lock(&key).unwrap();
}

#[test]
fn a_lock_keeps_others_out_also_when_its_file_is_removed() {
    let (_dir, records) = records();
    let key = record("net", "c1", "eth0", "conflist").key();
    let other = record("net", "c1", "eth0", "bridge").key();
    let lock = records.lock(&key).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(records.try_lock(&key).unwrap().is_none()));
    });
    assert!(records.try_lock(&other).unwrap().is_some());
    lock.remove();

    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..50 {
                    let lock = records.lock(&key).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two have the lock");
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    if round % 2 == 0 {
                        lock.remove();
                    }
                }
            });
        }
    });
}

#[test]
fn a_boot_is_the_same_until_its_marker_is_gone() {
    let (dir, records) = records();
    let boot = records.dirs().boot().unwrap();
    assert_eq!(records.dirs().boot().unwrap(), boot);
    assert_eq!(fs::read_dir(dir.path().join("run")).unwrap().count(), 1);
    fs::remove_dir_all(dir.path().join("run")).unwrap();
    assert_ne!(records.dirs().boot().unwrap(), boot);
}

proptest! {
    #[test]
    fn a_torn_journal_is_the_record_as_it_was_before(cut in 0..2000_usize) {
        let (_dir, records) = records();
        let mut journal = Journal::begin(&records, record("net", "c1", "eth0", "conflist")).unwrap();
        let mut states = vec![(journal.record.clone(), 0)];
        let file = records.path(&journal.record.key());
        let length = || usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
        states[0].1 = length();
        journal.proceed(0, &result("a")).unwrap();
        states.push((journal.record.clone(), length()));
        journal.finish(1, &result("b")).unwrap();
        states.push((journal.record.clone(), length()));

        let text = fs::read(&file).unwrap();
        let cut = cut.min(text.len());
        fs::write(&file, &text[..cut]).unwrap();
        // The line's end may be missing: without it the line is whole nevertheless.
        let expected = states.into_iter().rev().find(|(_, length)| length - 1 <= cut);
        let read = records.read(&journal.record.key()).unwrap();
        prop_assert_eq!(read, expected.map(|(record, _)| record));
    }

    #[test]
    fn file_names_are_short_and_differ_where_keys_do(
        keys in proptest::collection::vec(
            ("[a-z0-9][a-z0-9_.-]{0,3}|[a-z]{250}", "[a-z@.%]{1,3}", "[a-z.:@%]{1,3}|[a-z]{250}"), 2
        )
    ) {
        let (_dir, records) = records();
        let [a, b] = &keys[..] else { unreachable!("two") };
        let path = |(id, ifname, scope): &(String, String, String)| {
            records.path(&record("net", id, ifname, scope).key())
        };
        prop_assert_eq!(a == b, path(a) == path(b));
        prop_assert!(path(a).file_name().unwrap().len() <= 240);
    }
}

#[test]
fn what_killed_processes_left_of_records_is_swept_but_for_what_is_at_work() {
    let (dir, records) = records();
    let [kept, dead, busy] =
        ["kept", "dead", "busy"].map(|id| record("net", id, "eth0", "conflist"));
    records.write(&kept).unwrap();
    drop(records.lock(&kept.key()).unwrap());
    let drafts = [&dead, &busy].map(|record| files::draft(&records.path(&record.key())));
    for draft in &drafts {
        fs::write(draft, "").unwrap();
    }
    // Of another network, and of none: an ADD that was killed before it had written anything.
    drop(records.lock(&record("other", "c1", "eth0", "conflist").key()).unwrap());
    drop(records.lock(&dead.key()).unwrap());
    let mark = dir.path().join("run/.boot.x");
    fs::write(&mark, "").unwrap();
    let at_work = records.lock(&busy.key()).unwrap();

    records.sweep("net").unwrap();
    assert_eq!(drafts.map(|draft| draft.exists()), [false, true]);
    assert!(!mark.exists());
    let locks = || fs::read_dir(dir.path().join("run/locks")).unwrap().count();
    assert_eq!(locks(), 2, "those of what is kept, and of what is at work");
    assert_eq!(records.list("net").unwrap(), [kept]);

    drop(at_work);
    records.sweep("net").unwrap();
    assert_eq!(locks(), 1);
}
