use super::*;

fn repair(host: &Host, dry_run: bool, world: &mut World) -> Vec<Repaired> {
    world.log.clear();
    host.executor().repair(None, dry_run, None, world).unwrap()
}

fn texts(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::to_string).collect()
}

#[test]
fn what_an_attachment_has_lost_is_put_back_and_nothing_else_touched() {
    let (host, mut world) = (Host::new(), World::default());
    host.add(&chain(&["link", "addr", "ports"]), &mut world).unwrap();
    let [well] = &repair(&host, false, &mut world)[..] else { panic!("one attachment") };
    assert_eq!(well.condition, Condition::Well);
    assert_eq!(world.log, ["CHECK link", "CHECK addr", "CHECK ports"]);

    let whole = world.made.clone();
    world.made.remove("addr net c1/eth0");
    world.made.remove("ports net c1/eth0");
    let lost = world.made.clone();
    let [found] = &repair(&host, true, &mut world)[..] else { panic!("one attachment") };
    assert_eq!(found.condition, Condition::Damaged);
    assert_eq!(
        texts(&found.missing),
        ["delegate 2 of 3 failed: addr: is missing", "delegate 3 of 3 failed: ports: is missing"]
    );
    assert_eq!(world.made, lost, "a dry run changes nothing");
    assert!(!world.log.iter().any(|call| call.starts_with("REPAIR")));

    let [done] = &repair(&host, false, &mut world)[..] else { panic!("one attachment") };
    assert_eq!(done.condition, Condition::Repaired);
    assert_eq!((done.missing.len(), done.left.len()), (2, 0));
    assert_eq!(world.made, whole);
    assert_eq!(repair(&host, false, &mut world)[0].condition, Condition::Well);
}

#[test]
fn a_failure_does_not_keep_the_others_from_being_repaired() {
    let (host, mut world) = (Host::new(), World::default());
    host.make_netns("c2");
    let other =
        Attachment { container_id: "c2".into(), netns: Some(host.path("c2")), ..host.attachment() };
    let list = chain(&["stubborn", "addr"]);
    host.add(&list, &mut world).unwrap();
    host.executor().add(&request(&chain(&["link"]), &other), &mut world).unwrap();
    world.made.clear();
    world.stubborn = true;
    let [first, second] = &repair(&host, false, &mut world)[..] else { panic!("two") };
    assert_eq!(first.condition, Condition::Damaged);
    assert_eq!(
        texts(&first.left),
        [
            "delegate 1 of 2 failed: stubborn: device is busy",
            "delegate 1 of 2 failed: stubborn: is missing"
        ]
    );
    assert!(world.made.contains("addr net c1/eth0"), "what comes after it is put back");
    assert_eq!(second.condition, Condition::Repaired);

    world.put_off.push((true, "refused".to_owned()));
    world.made.clear();
    world.no_flush = true;
    let refused = repair(&host, false, &mut world);
    assert!(texts(&refused[1].left).contains(&"the transaction was refused".to_owned()));
}

#[test]
fn only_living_attachments_that_nobody_is_at_work_on_are_looked_at() {
    let (host, mut world) = (Host::new(), World::default());
    let mut list = chain(&["link"]);
    host.add(&list, &mut world).unwrap();
    let [record] = &host.records()[..] else { panic!("one record") };
    let executor = host.executor();
    let of = |network: Option<&str>, world: &mut World| {
        executor.repair(network, false, None, world).unwrap()
    };
    assert_eq!(of(Some("net"), &mut world).len(), 1);
    let other = executor.repair(Some("other"), false, None, &mut world).unwrap_err();
    assert!(other.msg.contains("network \"other\" has no attachment on record, these have: net"));

    world.made.clear();
    let lock = executor.records.lock(&record.key()).unwrap();
    let busy = std::thread::scope(|scope| {
        let look = scope.spawn(|| repair(&host, false, &mut World::default())[0].condition);
        look.join().unwrap()
    });
    assert_eq!(busy, Condition::Busy);
    drop(lock);

    std::fs::rename(host.path("c1"), host.path("moved")).unwrap();
    assert!(of(None, &mut world).is_empty(), "its namespace is gone");
    assert!(world.made.is_empty());
    std::fs::rename(host.path("moved"), host.path("c1")).unwrap();
    host.del(&list, &mut world).unwrap();

    list.disable_check = true;
    host.add(&list, &mut world).unwrap();
    world.made.clear();
    assert_eq!(of(None, &mut world)[0].condition, Condition::Unchecked);
    assert!(world.made.is_empty());
}

#[test]
fn of_an_executable_only_check_is_asked() {
    let (host, mut world) = (Host::new(), World::default());
    host.script(
        "foreign",
        r#"echo $CNI_COMMAND >> $HOST/called
        case $CNI_COMMAND in
        ADD) echo '{"cniVersion":"1.1.0"}' ;;
        CHECK) echo '{"code":999,"msg":"its rule is gone"}'; exit 1 ;;
        esac"#,
    );
    host.add(&chain(&["link", "foreign"]), &mut world).unwrap();
    let [found] = &repair(&host, false, &mut world)[..] else { panic!("one attachment") };
    assert_eq!(found.condition, Condition::Damaged);
    assert_eq!(texts(&found.left), ["delegate 2 of 2 failed: foreign: its rule is gone"]);
    let called = std::fs::read_to_string(host.path("called")).unwrap();
    assert_eq!(called, "ADD\nCHECK\nCHECK\n");
}
