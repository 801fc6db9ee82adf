//! Many attachments at once.

use std::collections::HashSet;
use std::thread;

use testnode::dhcp::{Family, Pool, Program};
use testnode::{Container, Node, Output, until};

use crate::PATIENCE;
use crate::lan::{Lan, address, list};

const MANY: u8 = 200;

#[test]
fn two_hundred_attachments_at_once_have_a_lease_each() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Dnsmasq, Pool { addresses: MANY, ..Pool::new(Family::V4) });
    let mut daemon = lan.daemon();
    let list = node.json_file("leased.conflist", &list());
    let pods: Vec<_> = (0..MANY).map(|n| node.container(&format!("pod{n}"))).collect();
    let catena = lan.catena();
    let at_once = |verb: &str| -> Vec<Output> {
        let (catena, list) = (&catena, &list);
        thread::scope(|scope| {
            let run = |pod: &Container| {
                let words = [verb.as_ref(), list.as_os_str(), pod.path().as_os_str()];
                let run = catena.cmd(words);
                scope.spawn(|| run.output())
            };
            let running: Vec<_> = pods.iter().map(run).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    };
    let leased: Vec<_> = at_once("add").into_iter().map(|out| address(&out.json())).collect();
    assert_eq!(leased.iter().collect::<HashSet<_>>().len(), usize::from(MANY));
    // All of them are taken up again.
    daemon.kill();
    let daemon = lan.daemon();
    until("all are confirmed", PATIENCE, || {
        (daemon.log().matches("is confirmed").count() == usize::from(MANY)).then_some(())
    });
    at_once("del").into_iter().for_each(|out| drop(out.success()));
    for address in leased {
        lan.await_released(&address);
    }
}
