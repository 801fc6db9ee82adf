use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::*;
use crate::record::Journal;

#[test]
fn add_threads_the_result_and_del_undoes_in_reverse() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link", "ports", "addr"]);
    let result = host.add(&list, &mut world).unwrap();
    let names: Vec<_> = result.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["link", "ports", "addr"]);
    assert_eq!(world.made.len(), 3);
    let [record] = &host.records()[..] else { panic!("one record") };
    assert!(record.complete);
    assert_eq!(record.result.as_ref(), Some(&result));

    world.log.clear();
    host.del(&list, &mut world).unwrap();
    assert_eq!(world.log, ["DEL addr Added", "DEL ports Added", "DEL link Added"]);
    assert_eq!(world.prev_names, ["link", "ports", "addr"], "all get the final result");
    assert!(world.made.is_empty());
    assert!(host.records().is_empty());
}

#[test]
fn a_failed_delegate_is_named_and_the_others_are_rolled_back() {
    let (host, mut world) = (Host::new(), World::default());
    let error = host.add(&chain(&["link", "ports", "fails", "addr"]), &mut world).unwrap_err();
    assert_eq!(error.code, Code::TryAgain);
    assert_eq!(error.msg, "delegate 3 of 4 failed: fails: no address is free");
    assert_eq!(error.details, "rolled back: ports, link");
    assert_eq!(
        world.log,
        ["ADD link", "ADD ports", "ADD fails", "DEL ports Added", "DEL link Added"]
    );
    assert!(world.made.is_empty() && world.put_off.is_empty());
    assert_eq!(world.flushed, 0, "what was put off is not done to be undone");
    assert!(host.records().is_empty());
}

#[test]
fn a_panicking_delegate_is_deleted_as_well() {
    let (host, mut world) = (Host::new(), World::default());
    let error = host.add(&chain(&["link", "panics"]), &mut world).unwrap_err();
    assert!(error.msg.contains("panics: panicked"), "{error}");
    assert_eq!(world.log[2..], ["DEL panics Begun", "DEL link Added"]);
    assert!(world.made.is_empty());
}

#[test]
fn a_failed_flush_rolls_everything_back() {
    let (host, mut world) = (Host::new(), World { no_flush: true, ..World::default() });
    let error = host.add(&chain(&["link", "ports"]), &mut world).unwrap_err();
    assert_eq!(error.msg, "the transaction was refused");
    // The flush at the end of rolling back fails too, and the record says what is left.
    assert!(error.details.starts_with("rolling back was not complete"), "{error}");
    assert_eq!(host.records().len(), 1);
    world.no_flush = false;
    host.del(&chain(&["link"]), &mut world).unwrap();
    assert!(world.made.is_empty() && host.records().is_empty());
}

#[test]
fn an_incomplete_roll_back_is_finished_by_the_next_del() {
    let (host, mut world) = (Host::new(), World { stubborn: true, ..World::default() });
    let list = chain(&["link", "stubborn", "fails"]);
    let error = host.add(&list, &mut world).unwrap_err();
    assert!(error.details.contains("delegate 2 of 3 failed: stubborn: device is busy"), "{error}");
    assert_eq!(world.made.len(), 1, "the others are rolled back nevertheless");

    let error = host.del(&list, &mut world).unwrap_err();
    assert_eq!(error.msg, "delegate 2 of 3 failed: stubborn: device is busy");
    world.stubborn = false;
    world.log.clear();
    host.del(&list, &mut world).unwrap();
    assert_eq!(world.log, ["DEL stubborn Added"], "only what was left");
    assert!(world.made.is_empty() && host.records().is_empty());
}

#[test]
fn an_attachment_that_lives_is_not_added_again() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link"]);
    host.add(&list, &mut world).unwrap();
    world.log.clear();
    let error = host.add(&list, &mut world).unwrap_err();
    assert!(error.msg.contains("has interface eth0 on network net already"), "{error}");
    assert!(world.log.is_empty() && world.made.len() == 1 && host.records()[0].complete);
}

#[test]
fn an_attachment_whose_namespace_was_replaced_is_deleted_first() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link"]);
    host.add(&list, &mut world).unwrap();
    // Keeps the old file's number from being used again.
    std::fs::rename(host.path("c1"), host.path("old")).unwrap();
    host.make_netns("c1");
    world.log.clear();
    host.add(&list, &mut world).unwrap();
    assert_eq!(world.log, ["DEL link Added", "ADD link"]);
}

#[test]
fn what_a_killed_add_began_is_deleted_as_begun() {
    let (host, mut world) = (Host::new(), World::default());
    let (list, executor, attachment) =
        (chain(&["link", "addr", "ports"]), host.executor(), host.attachment());
    let request = request(&list, &attachment);
    let confs = list.delegates(no_args()).unwrap();
    let boot = executor.records.dirs().boot().unwrap();
    let key = Key::new(&attachment, Key::CHAIN).unwrap();
    let record = executor.plan(&key, &request, &confs, boot);
    let mut journal = Journal::begin(&executor.records, record).unwrap();
    journal.proceed(0, &CniResult::default()).unwrap();
    drop(journal);

    host.del(&list, &mut world).unwrap();
    assert_eq!(world.log, ["DEL ports Begun", "DEL addr Begun", "DEL link Added"]);
    assert!(host.records().is_empty());
}

#[test]
fn after_another_boot_an_unfinished_add_may_have_begun_everything() {
    let (host, mut world) = (Host::new(), World::default());
    let (list, executor, attachment) =
        (chain(&["link", "addr"]), host.executor(), host.attachment());
    let confs = list.delegates(no_args()).unwrap();
    let key = Key::new(&attachment, Key::CHAIN).unwrap();
    let record = executor.plan(&key, &request(&list, &attachment), &confs, "another boot".into());
    drop(Journal::begin(&executor.records, record).unwrap());
    host.del(&list, &mut world).unwrap();
    assert_eq!(world.log, ["DEL addr Begun", "DEL link Begun"]);
}

#[test]
fn a_chain_that_cannot_be_run_to_its_end_is_not_begun() {
    let (host, mut world) = (Host::new(), World::default());
    let error = host.add(&chain(&["link", "absent"]), &mut world).unwrap_err();
    assert!(error.msg.starts_with("delegate 2 of 2 failed: absent: plugin \"absent\""), "{error}");
    assert!(world.log.is_empty());

    let mut list = chain(&["link", "modern"]);
    list.cni_version = crate::Version::V1_0_0;
    assert_eq!(host.add(&list, &mut world).unwrap_err().code, Code::IncompatibleVersion);
    assert!(world.log.is_empty());
}

/// Runs a verb, and is killed after so many steps; returns whether it got so far. An observer's panic passes through
/// the executor: nothing of it runs after that.
fn killed_after(steps: usize, verb: impl FnOnce(&Observer<'_>)) -> bool {
    let seen = RefCell::new(0);
    let observer = |_: &Step<'_>| {
        *seen.borrow_mut() += 1;
        if *seen.borrow() > steps {
            std::panic::resume_unwind(Box::new("killed"));
        }
    };
    catch_unwind(AssertUnwindSafe(|| verb(&observer))).is_err()
}

fn kinds() -> impl Strategy<Value = Vec<&'static str>> {
    let kind = prop_oneof![
        4 => Just("link"), 4 => Just("addr"), 4 => Just("ports"), 1 => Just("fails"), 1 => Just("panics"),
    ];
    proptest::collection::vec(kind, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_failed_add_leaves_nothing_and_del_undoes_a_good_one(kinds in kinds()) {
        let (host, mut world) = (Host::new(), World::default());
        let list = chain(&kinds);
        let added = host.add(&list, &mut world);
        prop_assert_eq!(added.is_ok(), !kinds.iter().any(|kind| ["fails", "panics"].contains(kind)));
        if added.is_ok() {
            host.del(&list, &mut world).unwrap();
        }
        prop_assert!(world.made.is_empty() && world.put_off.is_empty());
        prop_assert!(host.records().is_empty());
        // Once more: DEL is idempotent.
        host.del(&list, &mut world).unwrap();
    }

    #[test]
    fn killed_at_any_step_the_next_del_leaves_nothing(
        kinds in kinds(), steps in 0..8_usize, in_del in any::<bool>(), again in any::<bool>(),
    ) {
        let (host, mut world) = (Host::new(), World::default());
        let (list, attachment) = (chain(&kinds), host.attachment());
        if in_del {
            let _ = host.add(&list, &mut world);
        }
        killed_after(steps, |observer| {
            let request = Request { observer: Some(observer), ..request(&list, &attachment) };
            let executor = host.executor();
            let _ = if in_del {
                executor.del(&request, &mut world)
            } else {
                executor.add(&request, &mut world).map(drop)
            };
        });
        // What a process has put off dies with it.
        world.discard();
        if again && host.records().iter().all(|record| !record.complete) {
            let _ = host.add(&list, &mut world);
        }
        host.del(&list, &mut world).unwrap();
        prop_assert!(world.made.is_empty(), "{:?}", world);
        prop_assert!(host.records().is_empty());
    }
}

#[test]
fn a_result_that_a_later_delegate_forgets_is_known_to_del() {
    let (host, mut world) = (Host::new(), World::default());
    let list = chain(&["link", "forgets"]);
    let result = host.add(&list, &mut world).unwrap();
    assert_eq!(result.interfaces.len(), 1, "the chain's result is the last delegate's");
    host.del(&list, &mut world).unwrap();
    assert_eq!(world.prev_names, ["link"]);
}
