//! From Catena to the Go plugins.

use serde_json::json;
use testnode::{Node, Shared, Snapshot, assert_same};

use crate::{CHAINED, Switch, attachment, chain, shared};

/// The way back: what the Go plugins cannot know of stays until Catena's GC, and is in nobody's way.
#[test]
fn what_catena_made_and_the_go_plugins_deleted_is_collected() {
    let node = Node::new();
    let switch = Switch::new(&node, &chain("bridge", &CHAINED));
    let before = switch.before();
    let c1 = node.container("c1");
    let inside = Snapshot::of(&c1);
    let attachment = attachment(&c1, 8080);
    let mut result = switch.catena.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    // The release knows no newer version, and this one adds nothing to a result.
    result["cniVersion"] = json!("1.0.0");
    switch.go.take_over(&attachment, result);
    // It finds no chain of its own, after it has deleted the interface; a runtime calls DEL again then.
    let first = switch.go.del(&attachment).unwrap_err().to_string();
    assert!(first.contains("CNI-2c6f9be3e934eef8de961a98"), "{first}");
    switch.go.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_same(&inside, &Snapshot::of(&c1), &Shared::none().forwarding());
    let left = before.without(&shared()).diff(&node.snapshot().without(&shared()));
    let expected = [
        "inet catena element hostports4 ",
        "inet catena element egress4 ",
        "inet catena element forwarded4 ",
        "bridge catena element macspoofchk ",
        "link ifb",
        "files /var/lib/catena/attachments/web/",
    ];
    for expected in expected {
        assert!(left.contains(expected), "{expected}:\n{left}");
    }
    switch.catena.gc(&[]).unwrap_or_else(|e| panic!("{e}"));
    // firewall's one rule in each of others' chains is for all containers, and goes with uninstall.
    let shared = shared().whole_table("ip filter").whole_table("ip6 filter");
    assert_same(&before, &node.snapshot(), &shared);
}
