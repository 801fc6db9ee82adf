use super::*;

/// Two attachments of a container, on networks of their own.
fn attachments(host: &Host) -> [Attachment; 2] {
    ["one", "two"].map(|network| Attachment { network: network.into(), ..host.attachment() })
}

fn named(name: &str, kinds: &[&str]) -> ConfList {
    ConfList { name: name.into(), ..chain(kinds) }
}

/// Attaches both, and begins to delete both.
fn begun(
    host: &Host,
    kinds: [&[&str]; 2],
    world: &mut World,
    before_del: impl FnOnce(&mut World),
) -> (Vec<Undoing>, Vec<Result<bool>>) {
    let attachments = attachments(host);
    let executor = host.executor();
    for (attachment, kinds) in attachments.iter().zip(kinds) {
        let list = named(&attachment.network, kinds);
        executor.add(&request(&list, attachment), world).unwrap();
    }
    before_del(world);
    let mut begun = Vec::new();
    let found = attachments
        .iter()
        .map(|attachment| executor.begin_del(attachment, None, &mut begun, world))
        .collect();
    (begun, found)
}

#[test]
fn what_several_deletions_put_off_is_done_at_once() {
    let (host, mut world) = (Host::new(), World::default());
    let kinds: [&[&str]; 2] = [&["link", "ports"], &["ports"]];
    let (begun, found) = begun(&host, kinds, &mut world, |world| world.flushes = 0);
    assert_eq!(found, [Ok(true), Ok(true)]);
    assert_eq!((world.flushes, world.put_off.len()), (0, 2));
    let records = host.executor().records;
    assert_eq!(records.of_container("c1").unwrap().len(), 2, "they are not undone yet");

    let done = host.executor().finish_del(begun, None, &mut world);
    assert_eq!(done, [Ok(vec!["ports".into(), "link".into()]), Ok(vec!["ports".into()])]);
    assert_eq!(world.flushes, 1);
    assert!(world.made.is_empty());
    assert!(records.of_container("c1").unwrap().is_empty());
}

#[test]
fn each_keeps_its_record_where_that_fails() {
    let (host, mut world) = (Host::new(), World::default());
    let (begun, _) =
        begun(&host, [&["ports"], &["link"]], &mut world, |world| world.no_flush = true);
    let done = host.executor().finish_del(begun, None, &mut world);
    for one in &done {
        assert_eq!(one.as_ref().unwrap_err().msg, "the transaction was refused");
    }
    world.no_flush = false;
    for attachment in attachments(&host) {
        assert_eq!(host.executor().del_recorded(&attachment, None, &mut world), Ok(true));
    }
    assert!(world.made.is_empty(), "{world:?}");
}

#[test]
fn what_was_put_off_before_a_chain_within_is_not_forgotten_with_it() {
    let (host, mut world) = (Host::new(), World::default());
    let (begun, found) = begun(&host, [&["within", "ports"], &["within"]], &mut world, |world| {
        world.no_flush = true;
    });
    assert!(found.iter().all(Result::is_ok), "what fails is told at the end");
    world.no_flush = false;
    let done = host.executor().finish_del(begun, None, &mut world);
    assert!(done.iter().all(Result::is_err), "{done:?}");
    for attachment in attachments(&host) {
        assert_eq!(host.executor().del_recorded(&attachment, None, &mut world), Ok(true));
    }
    assert!(world.made.is_empty(), "{world:?}");
}

#[test]
fn a_foreign_delegate_runs_when_all_before_it_are_undone() {
    let (host, mut world) = (Host::new(), World::default());
    host.script("far", "echo '{\"cniVersion\":\"1.0.0\"}'");
    let (begun, _) = begun(&host, [&["ports"], &["far"]], &mut world, |_| ());
    assert!(world.made.is_empty(), "{world:?}");
    assert!(host.executor().finish_del(begun, None, &mut world).iter().all(Result::is_ok));
}
