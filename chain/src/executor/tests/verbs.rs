use super::*;
use crate::{ValidAttachment, Version};

#[test]
fn del_without_a_record_runs_the_list_and_says_so() {
    let (host, mut world) = (Host::new(), World::default());
    host.del(&chain(&["link", "ports"]), &mut world).unwrap();
    assert_eq!(world.log, ["DEL ports Unknown", "DEL link Unknown"]);
}

#[test]
fn del_goes_by_the_record_whatever_the_list_has_become() {
    let (host, mut world) = (Host::new(), World::default());
    host.add(&chain(&["link", "ports"]), &mut world).unwrap();
    world.log.clear();
    host.del(&chain(&["addr"]), &mut world).unwrap();
    assert_eq!(world.log, ["DEL ports Added", "DEL link Added"]);

    host.add(&chain(&["link"]), &mut world).unwrap();
    assert!(host.executor().del_recorded(&host.attachment(), None, &mut world).unwrap());
    assert!(!host.executor().del_recorded(&host.attachment(), None, &mut world).unwrap());
    assert!(world.made.is_empty());
}

#[test]
fn del_never_enters_a_namespace_that_is_not_the_recorded_one() {
    let (host, mut world) = (Host::new(), World::default());
    host.add(&chain(&["link"]), &mut world).unwrap();
    let [record] = &host.records()[..] else { panic!("one record") };
    let netns =
        |given: &str| record.attachment(Some(&host.path(given)), &record.boot).unwrap().netns;
    assert_eq!(netns("c1"), Some(host.path("c1")));
    std::fs::rename(host.path("c1"), host.path("moved")).unwrap();
    host.make_netns("c1");
    assert_eq!(netns("c1"), None, "another namespace has the path now");
    assert_eq!(netns("moved"), Some(host.path("moved")));
    assert_eq!(record.attachment(None, "another boot").unwrap().netns, None);
}

#[test]
fn check_asks_each_delegate_and_tells_all_that_they_find() {
    let (host, mut world) = (Host::new(), World::default());
    let (mut list, attachment) = (chain(&["link", "addr", "ports"]), host.attachment());
    host.add(&list, &mut world).unwrap();
    host.executor().check(&request(&list, &attachment), &mut world).unwrap();

    world.made.remove("link net c1/eth0");
    world.made.remove("ports net c1/eth0");
    world.log.clear();
    let error = host.executor().check(&request(&list, &attachment), &mut world).unwrap_err();
    assert_eq!(
        error.msg,
        "delegate 1 of 3 failed: link: is missing; delegate 3 of 3 failed: ports: is missing"
    );
    assert_eq!(world.log, ["CHECK link", "CHECK addr", "CHECK ports"]);

    list.disable_check = true;
    host.executor().check(&request(&list, &attachment), &mut world).unwrap();
    list.cni_version = Version::V0_3_1;
    let error = host.executor().check(&request(&list, &attachment), &mut world).unwrap_err();
    assert_eq!(error.code, Code::IncompatibleVersion);
}

/// A meta plugin's caller may speak a version with CHECK where the chain's has none.
#[test]
fn a_chain_that_is_carried_is_checked_whatever_its_version() {
    let (host, mut world) = (Host::new(), World::default());
    let (mut list, attachment) = (chain(&["link", "addr"]), host.attachment());
    list.cni_version = Version::V0_3_1;
    host.add(&list, &mut world).unwrap();
    host.executor().check_carried(&request(&list, &attachment), &mut world).unwrap();
    world.made.remove("addr net c1/eth0");
    let error =
        host.executor().check_carried(&request(&list, &attachment), &mut world).unwrap_err();
    assert_eq!(error.msg, "delegate 2 of 2 failed: addr: is missing");
}

#[test]
fn gc_removes_what_is_not_valid_of_its_own_network_and_scope_only() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link"]);
    let mut other = list.clone();
    other.name = "other".into();
    for (container, network, scope) in [
        ("c1", "net", Key::CHAIN),
        ("c2", "net", Key::CHAIN),
        ("c3", "net", "link"),
        ("c4", "other", Key::CHAIN),
    ] {
        host.make_netns(container);
        let attachment = Attachment {
            network: network.into(),
            container_id: container.into(),
            netns: Some(host.path(container)),
            ..host.attachment()
        };
        let list = if network == "net" { &list } else { &other };
        let executor = Executor { scope: scope.into(), ..host.executor() };
        executor.add(&request(list, &attachment), &mut world).unwrap();
    }
    world.log.clear();
    let valid = [ValidAttachment { container_id: "c1".into(), ifname: "eth0".into() }];
    host.executor().gc("net", &list, &valid, None, &mut world).unwrap();
    assert_eq!(world.log, ["DEL link Added", "GC link 1"]);
    let left: Vec<_> = world.made.iter().map(String::as_str).collect();
    assert_eq!(left, ["link net c1/eth0", "link net c3/eth0", "link other c4/eth0"]);

    let disabled = ConfList { disable_gc: true, ..list.clone() };
    host.executor().gc("net", &disabled, &[], None, &mut world).unwrap();
    assert_eq!(world.made.len(), 3);

    // Before 1.1.0 delegates have no GC, but stale attachments are deleted.
    world.log.clear();
    let old = ConfList { cni_version: Version::V1_0_0, ..list.clone() };
    host.executor().gc("net", &old, &[], None, &mut world).unwrap();
    assert_eq!(world.log, ["DEL link Added"]);
}

#[test]
fn gc_goes_on_over_an_attachment_that_cannot_be_deleted() {
    let (host, mut world) = (Host::new(), World { stubborn: true, ..World::default() });
    let list = chain(&["stubborn"]);
    host.add(&list, &mut world).unwrap();
    let error = host.executor().gc("net", &list, &[], None, &mut world).unwrap_err();
    assert!(error.msg.contains("stale attachment c1/eth0: stubborn: device is busy"), "{error}");
    assert!(world.log.contains(&"GC stubborn 0".to_owned()));
}

#[test]
fn gc_leaves_an_attachment_that_is_at_work_alone() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link"]);
    host.add(&list, &mut world).unwrap();
    let executor = host.executor();
    let lock = executor.records.lock(&host.records()[0].key()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            host.executor().gc("net", &list, &[], None, &mut world).unwrap();
        });
    });
    assert_eq!(world.made.len(), 1);
    drop(lock);
    executor.gc("net", &list, &[], None, &mut world).unwrap();
    assert!(world.made.is_empty());
}

#[test]
fn status_is_the_first_delegates_that_cannot() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link", "fails", "addr"]);
    let error = host.executor().status(&list, None, &mut world).unwrap_err();
    assert_eq!(error.code, Code::NotAvailable);
    assert_eq!(world.log, ["STATUS link", "STATUS fails"]);
    let old = ConfList { cni_version: Version::V1_0_0, ..list };
    host.executor().status(&old, None, &mut world).unwrap();
}

#[test]
fn each_step_is_told() {
    let (host, mut world) = (Host::new(), World::default());
    let (list, attachment) = (chain(&["link", "fails"]), host.attachment());
    let steps = RefCell::new(Vec::new());
    let observer = |step: &Step<'_>| {
        let failed = step.error.is_some();
        steps.borrow_mut().push(format!("{} {} {failed}", step.verb, step.delegate));
    };
    let request = Request { observer: Some(&observer), ..request(&list, &attachment) };
    host.executor().add(&request, &mut world).unwrap_err();
    assert_eq!(
        steps.into_inner(),
        ["ADD link false", "ADD fails true", "DEL link false", "DEL flush false"]
    );
}

#[test]
fn a_plugin_alone_speaks_for_itself() {
    let (host, mut world) = (Host::new(), World::default());
    let object = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "whatever", "exec": true,
        "capabilities": { "mac": true }, "runtimeConfig": { "mac": "02:00:00:00:00:01" },
    });
    let Value::Object(object) = object else { panic!("an object") };
    let list = ConfList::from_plugin("fails", object).unwrap();
    let error = host.add(&list, &mut world).unwrap_err();
    assert_eq!(error.to_string(), "fails: no address is free");
}
