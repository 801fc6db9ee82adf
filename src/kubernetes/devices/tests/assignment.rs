//! Which network gets which device, and what it is told of it.

use super::*;

const VF: Option<&str> = Some("intel.com/vf");

fn web() -> PodDevices {
    PodDevices::new("blue", "web")
}

#[test]
fn networks_get_the_pods_devices_in_their_order() {
    let place = Place::new();
    let others =
        PodDevices::new("green", "web").devices("intel.com/vf", &["0000:00:01.0", "0000:00:02.0"]);
    let web = web()
        .devices("intel.com/vf", &["0000:03:00.2", "0000:03:00.1"])
        .devices("nvidia.com/gpu", &["0"])
        .devices("intel.com/vf", &["0000:03:00.0"]);
    let _kubelet = place.kubelet(Says::Pods(vec![others, web]));
    assert_eq!(
        place.assign(&[VF, VF, VF]).unwrap(),
        got(&["0000:03:00.0", "0000:03:00.1", "0000:03:00.2"])
    );
    let [vf, none, gpu, next] = &place.assign(&[VF, None, Some("nvidia.com/gpu"), VF]).unwrap()[..]
    else {
        panic!("each network has its place");
    };
    assert_eq!([vf.as_deref(), none.as_deref()], [Some("0000:03:00.0"), None]);
    assert_eq!([gpu.as_deref(), next.as_deref()], [Some("0"), Some("0000:03:00.1")]);
}

#[test]
fn two_networks_never_get_one_device() {
    let place = Place::new();
    // An init container's devices go on to the containers after it.
    let web = web().devices("intel.com/vf", &["a"]).devices("intel.com/vf", &["a", "b"]);
    let _kubelet = place.kubelet(Says::Pods(vec![web]));
    assert_eq!(place.assign(&[VF, VF]).unwrap(), got(&["a", "b"]));
    let error = place.assign(&[VF, VF, VF]).unwrap_err();
    assert_eq!(error.code, Code::InvalidConfig);
    for part in ["blue/fast", "intel.com/vf", "blue/web", "has 2,"] {
        assert!(error.msg.contains(part), "{part:?} is not in {error}");
    }
}

#[test]
fn a_network_added_later_gets_none_that_is_held() {
    let place = Place::new();
    let web = web().devices("intel.com/vf", &["a", "b"]).devices("intel.com/pf", &["b"]);
    let _kubelet = place.kubelet(Says::Pods(vec![web]));
    let held = |resource: &str, id: &str| (resource.to_owned(), id.to_owned());
    let mut later = [network(VF)];
    place
        .devices
        .assign(&mut later, &pod(), &[held("intel.com/vf", "a"), held("intel.com/pf", "b")])
        .unwrap();
    assert_eq!(later[0].device_id.as_deref(), Some("b"));
    let all = [held("intel.com/vf", "a"), held("intel.com/vf", "b")];
    place.devices.assign(&mut [network(VF)], &pod(), &all).unwrap_err();
}

#[test]
fn a_pod_without_the_device_is_an_error_that_says_so() {
    let place = Place::new();
    let _kubelet = place.kubelet(Says::Pods(vec![web().devices("intel.com/pf", &["a"])]));
    let error = place.assign(&[VF]).unwrap_err();
    assert!(error.msg.contains("which has none"), "{error}");
}

#[test]
fn every_plugin_knows_the_device_and_the_capability_goes_to_who_declares_it() {
    let place = Place::new();
    let _kubelet = place.kubelet(Says::Pods(vec![web().devices("intel.com/vf", &["a"])]));
    let mut networks = [network(VF), network(None)];
    networks[0].list.plugins[0].insert("deviceID".into(), "of the file".into());
    networks[0].capability_args.insert("deviceID".into(), "asked for".into());
    networks[0].device_id = Some("asked for".into());
    place.devices.assign(&mut networks, &pod(), &[]).unwrap();
    let delegates = networks[0].list.delegates(&networks[0].capability_args).unwrap();
    for delegate in &delegates {
        assert_eq!([&delegate.raw["deviceID"], &delegate.raw["pciBusID"]], ["a", "a"]);
    }
    assert_eq!(delegates[0].raw["runtimeConfig"], json!({ "deviceID": "a" }));
    assert_eq!(delegates[1].raw.get("runtimeConfig"), None);
    assert_eq!(networks[1].list, network(None).list);
}

#[test]
fn nobody_is_asked_for_networks_without_a_resource() {
    assert_eq!(Place::new().assign(&[None, None]).unwrap(), [None, None]);
}

#[test]
fn the_capability_is_not_asked_of_plugins_that_do_not_have_it() {
    let place = Place::new();
    let _kubelet = place.kubelet(Says::Pods(vec![web().devices("intel.com/vf", &["a"])]));
    let mut networks = [network(VF)];
    networks[0].list.plugins[0].shift_remove("capabilities");
    networks[0].capability_args.insert("deviceID".into(), "asked for".into());
    place.devices.assign(&mut networks, &pod(), &[]).unwrap();
    assert_eq!(networks[0].capability_args, Map::new());
}

#[test]
fn a_claims_devices_go_by_the_claims_name() {
    let place = Place::new();
    let web = web()
        .claim("fast-net", &["vendor.com/vf=0000:03:00.1", "nonsense", "vendor.com/vf=", "a=b=c"])
        .claim("fast-net", &["vendor.com/vf=0000:03:00.0"]);
    let _kubelet = place.kubelet(Says::Pods(vec![web]));
    let claim = Some("fast-net");
    assert_eq!(place.assign(&[claim, claim]).unwrap(), got(&["0000:03:00.0", "0000:03:00.1"]));
    place.assign(&[claim, claim, claim]).unwrap_err();
}
