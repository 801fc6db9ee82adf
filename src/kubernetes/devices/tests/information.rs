//! The files that tell of a device.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::PathBuf,
};

use serde_json::Value;

use super::*;

const PCI: &str = r#"{"type":"pci","version":"1.1.0","pci":{"pci-address":"0000:03:00.1","rdma-device":"mlx5_3"}}"#;

impl Place {
    /// What a device plugin says of device `a` of `intel.com/vf`.
    fn write_of_plugin(&self, text: &str) {
        let folder = self.devices.devinfo.join("dp");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("intel.com-vf-a-device.json"), text).unwrap();
    }

    fn of_attachment(&self) -> PathBuf {
        self.devices.devinfo.join("cni/blue-fast-c1_net1")
    }
}

fn with_device() -> Network {
    let mut network = network(Some("intel.com/vf"));
    configure(&mut network, "a");
    network
}

#[test]
fn what_the_device_plugin_says_is_there_for_delegates_and_the_status_until_del() {
    let place = Place::new();
    place.write_of_plugin(PCI);
    let mut network = with_device();
    place.devices.prepare(&mut network, "c1");

    let file = place.of_attachment();
    let told: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let pci: Value = serde_json::from_str(PCI).unwrap();
    assert_eq!(told, pci);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o444);
    assert_eq!(network.capability_args["CNIDeviceInfoFile"], file.to_str().unwrap());
    assert_eq!(place.devices.info(&network, "c1"), Some(pci));

    for _ in 0..2 {
        place.devices.remove("blue/fast", "c1", "net1").unwrap();
        assert!(!file.exists());
    }
    assert_eq!(place.devices.info(&network, "c1"), None);
}

#[test]
fn a_delegate_may_tell_where_no_device_plugin_does() {
    let place = Place::new();
    let mut network = with_device();
    place.devices.prepare(&mut network, "c1");
    let memif = r#"{"type":"memif","version":"1.1.0","memif":{"role":"master","path":"/run/a","mode":"ip"}}"#;
    fs::write(network.capability_args["CNIDeviceInfoFile"].as_str().unwrap(), memif).unwrap();
    assert_eq!(place.devices.info(&network, "c1"), serde_json::from_str(memif).unwrap());
}

#[test]
fn every_type_of_device_is_told_with_its_own_object_alone() {
    let place = Place::new();
    for text in [
        PCI,
        r#"{"type":"vdpa","version":"1.1.0","vdpa":{"parent-device":"vdpa0","driver":"vhost","path":"/dev/vhost-vdpa-0","pci-address":"0000:03:00.2","pf-pci-address":"0000:03:00.0","representor-device":"eth3"}}"#,
        r#"{"type":"vhost-user","version":"1.0.0","vhost-user":{"mode":"server","path":"/run/vhost.sock"}}"#,
        r#"{"type":"memif","version":"1.1.0","memif":{}}"#,
    ] {
        place.write_of_plugin(text);
        let mut network = with_device();
        place.devices.prepare(&mut network, "c1");
        let told: Value = serde_json::from_str(text).unwrap();
        assert_eq!(place.devices.info(&network, "c1"), Some(told));
    }
}

#[test]
fn what_is_no_device_information_is_left_out() {
    let place = Place::new();
    for text in [
        "",
        "null",
        "[]",
        r#"{"type":"pci","version":"1.1.0"}"#,
        r#"{"type":"pci","version":"1.1.0","pci":null}"#,
        r#"{"type":"pci","version":"1.1.0","vdpa":{}}"#,
        r#"{"type":"pci","version":"2.0.0","pci":{}}"#,
        r#"{"type":"pci","pci":{}}"#,
        r#"{"type":"nvme","version":"1.1.0","nvme":{}}"#,
        r#"{"type":"pci","version":"1.1.0","pci":{"pci-address":3}}"#,
    ] {
        place.write_of_plugin(text);
        let mut network = with_device();
        place.devices.prepare(&mut network, "c1");
        assert!(!place.of_attachment().exists(), "{text}");
        // By a delegate.
        fs::write(place.of_attachment(), text).unwrap();
        assert_eq!(place.devices.info(&network, "c1"), None, "{text}");
    }
}

#[test]
fn links_and_folders_are_not_followed() {
    let place = Place::new();
    let secret = place.folder.path().join("secret");
    fs::write(&secret, PCI).unwrap();
    fs::create_dir_all(place.devices.devinfo.join("dp")).unwrap();
    symlink(&secret, place.devices.devinfo.join("dp/intel.com-vf-a-device.json")).unwrap();
    let mut network = with_device();
    place.devices.prepare(&mut network, "c1");
    assert!(!place.of_attachment().exists());

    // What is in the attachment's place is replaced, and not what it points to.
    fs::remove_file(place.devices.devinfo.join("dp/intel.com-vf-a-device.json")).unwrap();
    place.write_of_plugin(PCI);
    let precious = place.folder.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, place.of_attachment()).unwrap();
    place.devices.prepare(&mut network, "c1");
    assert!(place.devices.info(&network, "c1").is_some());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn an_attachment_that_was_never_deleted_tells_nothing_of_the_next() {
    let place = Place::new();
    place.write_of_plugin(PCI);
    let mut network = with_device();
    place.devices.prepare(&mut network, "c1");
    fs::remove_dir_all(place.devices.devinfo.join("dp")).unwrap();
    place.devices.prepare(&mut network, "c1");
    assert_eq!(place.devices.info(&network, "c1"), None);
}

#[test]
fn a_network_without_a_device_has_no_file() {
    let place = Place::new();
    let mut network = network(None);
    place.devices.prepare(&mut network, "c1");
    assert_eq!(network.capability_args, Map::new());
    assert!(!place.devices.devinfo.exists());
    // A file of the name is somebody else's.
    fs::create_dir_all(place.devices.devinfo.join("cni")).unwrap();
    fs::write(place.of_attachment(), PCI).unwrap();
    assert_eq!(place.devices.info(&network, "c1"), None);
}

#[test]
fn a_folder_that_cannot_be_written_fails_no_network() {
    let place = Place::new();
    place.write_of_plugin(PCI);
    fs::write(place.devices.devinfo.join("cni"), "in the way").unwrap();
    let mut network = with_device();
    place.devices.prepare(&mut network, "c1");
    assert_eq!(place.devices.info(&network, "c1"), None);
    place.devices.remove("blue/fast", "c1", "net1").unwrap();
}

#[test]
fn a_file_that_cannot_be_removed_is_an_error() {
    let place = Place::new();
    fs::create_dir_all(place.of_attachment()).unwrap();
    let error = place.devices.remove("blue/fast", "c1", "net1").unwrap_err();
    assert_eq!(error.code, Code::Io);
    assert!(error.msg.contains("blue-fast-c1_net1"), "{error}");
}

#[test]
fn no_name_leads_out_of_the_folder_or_is_too_long() {
    let place = Place::new();
    let outside = place.folder.path().join("secret-a-device.json");
    fs::write(&outside, PCI).unwrap();
    let long = "x".repeat(300);
    for resource in ["../../secret", "..", "/etc/passwd", "a\0b", "", &long] {
        for id in ["a", "..", "../../../etc/passwd", "\0", &long] {
            let mut network = network(Some(resource));
            network.name = format!("../../{id}/../{resource}");
            configure(&mut network, id);
            place.devices.prepare(&mut network, "c1");
            assert_eq!(place.devices.info(&network, "c1"), None);
            let file =
                PathBuf::from(network.capability_args["CNIDeviceInfoFile"].as_str().unwrap());
            assert_eq!(file.parent().unwrap(), place.devices.devinfo.join("cni"));
            // A delegate can write it.
            fs::write(&file, PCI).unwrap();
            assert!(place.devices.info(&network, "c1").is_some());
            place.devices.remove(&network.name, "c1", "net1").unwrap();
            assert!(!file.exists());
        }
    }
}
