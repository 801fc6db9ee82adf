//! What the Go plugins made of one container or several.

use serde_json::json;
use testnode::{Attachment, Node, Shared, Snapshot, assert_same, await_same};

use crate::{CHAINED, Switch, attachment, chain, interface, servers, shared};

/// The chained plugins one by one, and all: how many attachments were switched.
fn switch_each(kind: &str) {
    let node = Node::new();
    let all = Switch::new(&node, &chain(kind, &CHAINED));
    let before = all.before();
    let chains = CHAINED.iter().map(std::slice::from_ref).chain([&[][..], &CHAINED]);
    for (switched, others) in chains.enumerate() {
        let switch = all.with(&chain(kind, others));
        let c1 = node.container("c1");
        let inside = Snapshot::of(&c1);
        let attachment = attachment(&c1, 8080);
        switch.add(&attachment);
        switch.check(&attachment);
        if others.contains(&"portmap") {
            let _servers = servers(&c1);
            switch.assert_serves(&c1, 8080, "c1");
        } else {
            c1.ping("192.0.2.254");
            c1.ping("2001:db8::254");
        }
        // Twice, as runtimes do.
        for _ in 0..2 {
            switch.del(&attachment);
            assert_same(&before, &node.snapshot(), &shared());
            assert_same(&inside, &Snapshot::of(&c1), &Shared::none().forwarding());
        }
        c1.delete();
        println!("{kind}: {} attachments switched", switched + 1);
    }
}

#[test]
fn what_bridge_and_the_plugins_after_it_made_is_checked_serves_and_is_deleted_with_nothing_left() {
    switch_each("bridge");
}

#[test]
fn what_ptp_and_the_plugins_after_it_made_is_checked_serves_and_is_deleted_with_nothing_left() {
    switch_each("ptp");
}

#[test]
fn del_of_one_leaves_the_others_as_they_are() {
    for kind in ["bridge", "ptp"] {
        let node = Node::new();
        let switch = Switch::new(&node, &chain(kind, &CHAINED));
        let before = switch.before();
        let containers: Vec<_> = (1..=3).map(|n| node.container(&format!("c{n}"))).collect();
        let attachments: Vec<_> = containers
            .iter()
            .zip([8080, 8180, 8280])
            .map(|(c, port)| attachment(c, port))
            .collect();
        let _servers: Vec<_> = containers.iter().map(servers).collect();
        for attachment in &attachments {
            switch.add(attachment);
        }
        let mut left: Vec<usize> = vec![0, 1, 2];
        for gone in [1, 0, 2] {
            switch.del(&attachments[gone]);
            left.retain(|n| *n != gone);
            for n in &left {
                switch.check(&attachments[*n]);
                switch.assert_serves(
                    &containers[*n],
                    8080 + 100 * *n as u16,
                    containers[*n].name(),
                );
            }
        }
        assert_same(&before, &node.snapshot(), &shared());
    }
}

#[test]
fn del_needs_neither_the_namespace_nor_the_result() {
    for kind in ["bridge", "ptp"] {
        for (with_netns, with_result) in [(false, true), (true, false), (false, false)] {
            let node = Node::new();
            let switch = Switch::new(&node, &chain(kind, &CHAINED));
            let before = switch.before();
            let c1 = node.container("c1");
            let attachment = attachment(&c1, 8080);
            let result = switch.go.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
            if with_result {
                switch.catena.take_over(&attachment, result);
            }
            if !with_netns {
                c1.delete();
            }
            switch.del(&attachment);
            await_same(&before, &node, &shared());
        }
    }
}

/// The reference's chain for masquerading is of the container, and not of one interface.
#[test]
fn del_of_one_interface_leaves_another_of_the_same_container_masqueraded() {
    let node = Node::new();
    let switch = Switch::new(&node, &[interface("ptp")]);
    let before = switch.before();
    let c1 = node.container("c1");
    let first = Attachment::new(&c1);
    let mut beside = interface("ptp");
    beside["ipam"] = json!({ "type": "host-local", "subnet": "10.2.0.0/24" });
    let second = first.clone().ifname("eth1");
    switch.add(&first);
    let beside = switch.with(&[beside]);
    beside.add(&second);
    beside.del(&second);
    switch.check(&first);
    c1.ping("192.0.2.254");
    c1.ping("2001:db8::254");
    switch.del(&first);
    assert_same(&before, &node.snapshot(), &shared());
}
