//! Kubelets that do not answer as they should, and those that have no such API.

use super::*;

const VF: Option<&str> = Some("intel.com/vf");

#[test]
fn a_kubelet_that_hangs_has_its_time() {
    let mut place = Place::new();
    place.devices.patience = Duration::from_millis(200);
    let _kubelet = place.kubelet(Says::Nothing);
    let error = place.assign(&[VF]).unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
    assert!(error.msg.contains("kubelet.sock has not answered within 200ms"), "{error}");
}

#[test]
fn a_kubelet_that_accepts_and_says_nothing_has_its_time() {
    let mut place = Place::new();
    place.devices.patience = Duration::from_millis(200);
    let _listens = std::os::unix::net::UnixListener::bind(&place.devices.pod_resources).unwrap();
    let error = place.assign(&[VF]).unwrap_err();
    assert!(error.msg.contains("has not answered within"), "{error}");
}

#[test]
fn an_answer_may_be_large_but_not_oversized() {
    let place = Place::new();
    let web = || PodDevices::new("blue", "web").devices("intel.com/vf", &["a"]);
    // A name counts for as many bytes as it has, and a few for where it stands.
    let filler = |bytes: usize| PodDevices::new("green", &"x".repeat(bytes));
    {
        let _kubelet = place.kubelet(Says::Pods(vec![filler((16 << 20) - 200), web()]));
        assert_eq!(place.assign(&[VF]).unwrap(), got(&["a"]));
    }
    let _kubelet = place.kubelet(Says::Pods(vec![filler(16 << 20), web()]));
    let error = place.assign(&[VF]).unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
    assert!(error.msg.contains("too large"), "{error}");
}

#[test]
fn nonsense_and_errors_of_the_kubelet_are_told() {
    let place = Place::new();
    for (says, told) in [
        (Says::Bytes(vec![0x0a, 0x7f, 0x01]), "decode"),
        (Says::Bytes(vec![0xff; 64]), "decode"),
        (Says::Status(13, "no such pod sandbox"), "failed (Internal): no such pod sandbox"),
        (Says::Status(7, "forbidden"), "failed (PermissionDenied): forbidden"),
    ] {
        let _kubelet = place.kubelet(says.clone());
        let error = place.assign(&[VF]).unwrap_err();
        assert_eq!(error.code, Code::TryAgain);
        assert!(error.msg.contains(told), "{told:?} is not what {says:?} gives: {error}");
    }
}

#[test]
fn what_is_no_grpc_is_an_error() {
    let place = Place::new();
    let listener = std::os::unix::net::UnixListener::bind(&place.devices.pod_resources).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write as _;
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let error = place.assign(&[VF]).unwrap_err();
        assert_eq!(error.code, Code::TryAgain);
        assert!(error.msg.contains("kubelet.sock"), "{error}");
    });
}

/// A checkpoint as kubelet 1.34 writes it.
fn checkpoint(entries: Value) -> String {
    json!({
        "Data": { "PodDeviceEntries": entries, "RegisteredDevices": { "intel.com/vf": ["a", "b", "c"] } },
        "Checksum": 3271884032_u32,
    })
    .to_string()
}

fn entry(uid: &str, container: &str, ids: Value) -> Value {
    json!({
        "PodUID": uid, "ContainerName": container, "ResourceName": "intel.com/vf", "DeviceIDs": ids,
        "AllocResp": "CgsKBURFVklDRRICYTE=",
    })
}

#[test]
fn without_the_api_the_checkpoint_tells() {
    let place = Place::new();
    let uid = pod().uid;
    place.write_checkpoint(checkpoint(json!([
        entry("another", "app", json!({ "0": ["x", "y"] })),
        entry(&uid, "app", json!({ "1": ["a"], "-1": ["c"] })),
        entry(&uid, "init", json!({ "0": ["c", "b"] })),
        entry(&uid, "none", json!(null)),
    ])));
    let read = || place.assign(&[VF, VF, VF]).unwrap();
    assert_eq!(read(), got(&["a", "b", "c"]), "no socket");

    drop(place.kubelet(Says::Pods(Vec::new())));
    assert!(place.devices.pod_resources.exists());
    assert_eq!(read(), got(&["a", "b", "c"]), "a socket that nobody listens on");

    let _kubelet = place.kubelet(Says::Status(12, "unknown service v1.PodResourcesLister"));
    assert_eq!(read(), got(&["a", "b", "c"]), "a kubelet of before version 1 of the API");
}

#[test]
fn a_kubelet_that_answers_is_believed_over_the_checkpoint() {
    let place = Place::new();
    place.write_checkpoint(checkpoint(json!([entry(&pod().uid, "app", json!({ "0": ["a"] }))])));
    let _kubelet = place.kubelet(Says::Pods(Vec::new()));
    place.assign(&[VF]).unwrap_err();
}

#[test]
fn the_checkpoint_of_an_old_kubelet_lists_its_devices() {
    let place = Place::new();
    place.write_checkpoint(checkpoint(json!([entry(&pod().uid, "app", json!(["b", "a"]))])));
    assert_eq!(place.assign(&[VF, VF]).unwrap(), got(&["a", "b"]));
}

#[test]
fn a_damaged_checkpoint_is_told_by_its_name() {
    let place = Place::new();
    for text in ["", "{", "[]", r#"{"Data":{"PodDeviceEntries":[{"PodUID":1}]}}"#] {
        place.write_checkpoint(text);
        let error = place.assign(&[VF]).unwrap_err();
        assert_eq!(error.code, Code::Decode);
        assert!(error.msg.contains("kubelet_internal_checkpoint"), "{error}");
    }
    place.write_checkpoint(
        r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":0}"#,
    );
    assert!(place.assign(&[VF]).unwrap_err().msg.contains("has none"));
}

#[test]
fn without_a_kubelet_the_error_names_both_ways() {
    let place = Place::new();
    let error = place.assign(&[VF]).unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
    for part in ["kubelet.sock", "kubelet_internal_checkpoint", "blue/web"] {
        assert!(error.msg.contains(part), "{error}");
    }
}
