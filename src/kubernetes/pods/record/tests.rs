use std::fs;

use chain::Code;
use serde_json::json;
use tempfile::TempDir;

use super::*;

fn records() -> (TempDir, PodRecords) {
    let dir = TempDir::new().unwrap();
    let dirs = Dirs { state: dir.path().to_owned(), ..Dirs::default() };
    (dir, PodRecords::open(&dirs))
}

fn pod(container_id: &str) -> PodRecord {
    let record = json!({
        "format": 1, "network": "pods", "containerID": container_id, "ifname": "eth0", "scope": "catena", "netns": null, "netnsID": null,
        "boot": "b", "args": "K8S_POD_NAME=web", "attachments": [],
    });
    serde_json::from_value(record).unwrap()
}

#[test]
fn a_record_is_found_by_its_attachment_until_it_is_removed() {
    let (_dir, records) = records();
    // Also one whose name is too long for a file's.
    for id in ["web", &"a".repeat(200)] {
        let record = pod(id);
        let of = record.attachment(None).unwrap();
        assert_eq!(records.read(&of).unwrap(), None);
        records.write(&record).unwrap();
        assert_eq!(records.read(&of).unwrap(), Some(record.clone()));
        assert_eq!(records.list().unwrap(), [record]);
        records.remove(&of).unwrap();
        records.remove(&of).unwrap();
        assert_eq!(records.list().unwrap(), []);
    }
}

#[test]
fn one_that_cannot_be_understood_counts_as_none_and_is_set_aside() {
    let (_dir, records) = records();
    let record = pod("web");
    let of = record.attachment(None).unwrap();
    records.write(&record).unwrap();
    let path = records.path("pods", "web", "eth0");
    for text in ["", "{", "[]", "null", r#"{"format":1}"#] {
        fs::write(&path, text).unwrap();
        assert_eq!(records.read(&of).unwrap(), None, "{text}");
        assert!(!path.exists(), "{text}");
    }
    // Copied from another pod's.
    fs::write(&path, serde_json::to_string(&pod("db")).unwrap()).unwrap();
    assert_eq!(records.read(&of).unwrap(), None);
}

#[test]
fn a_newer_catenas_is_an_error_and_stays() {
    let (_dir, records) = records();
    let record = PodRecord { format: 2, ..pod("web") };
    records.write(&record).unwrap();
    let of = record.attachment(None).unwrap();
    assert_eq!(records.read(&of).unwrap_err().code, Code::Decode);
    assert!(records.path("pods", "web", "eth0").exists());
    assert_eq!(records.list().unwrap(), []);
}

#[test]
fn what_never_got_its_name_is_known_by_it() {
    let (_dir, records) = records();
    let record = pod("web");
    records.write(&record).unwrap();
    let path = records.path("pods", "web", "eth0");
    fs::rename(&path, files::draft(&path)).unwrap();
    let names = ("pods".to_owned(), "web".to_owned(), "eth0".to_owned());
    assert_eq!(records.unborn().unwrap(), [names]);
    records.remove(&record.attachment(None).unwrap()).unwrap();
    assert_eq!(records.unborn().unwrap(), []);
}

#[test]
fn an_older_record_says_nothing_of_default_routes_and_is_read() {
    let (_dir, records) = records();
    let mut text = serde_json::to_value(pod("web")).unwrap();
    text["attachments"] = json!([{
        "name": "pods", "role": "cluster", "network": "pods", "ifname": "eth0", "conf": {}, "capabilityArgs": {}, "args": "",
    }]);
    let path = records.path("pods", "web", "eth0");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text.to_string()).unwrap();
    let of = pod("web").attachment(None).unwrap();
    let mut read = records.read(&of).unwrap().unwrap();
    assert_eq!(read.attachments[0].loses_default, (false, false));
    read.attachments[0].loses_default = (true, false);
    records.write(&read).unwrap();
    assert_eq!(records.read(&of).unwrap(), Some(read));
}
