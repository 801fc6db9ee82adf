//! The daemon ends, is killed and replaced by other versions, with the plugin beside it: pods go on and come as ever.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use nix::sys::signal::Signal;
use testnode::{Node, two_versions, until};

use crate::beside::Runtime;
use crate::machines::Wires;
use crate::transfer::Transfer;
use crate::{A, B, CATENA, PATIENCE};

#[test]
fn restart_upgrade_and_roll_back_break_no_pod_and_keep_none_waiting() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let (a, b) = (wires.machine("a", 1, 11), wires.machine("b", 2, 12));
    a.join(&A);
    b.join(&B);
    let versions = two_versions(&node, CATENA);
    let runtime = |machine| {
        let dir = node.fresh_path("folders");
        fs::create_dir_all(dir.join("net.d")).unwrap();
        Runtime::new(machine, dir, &versions[0])
    };
    let (of_a, of_b) = (runtime(&a), runtime(&b));
    let mut daemon = of_a.daemon(&versions[0]);
    let _of_b = of_b.daemon(&versions[0]);
    of_a.await_served();
    of_b.await_served();
    a.await_kept(&B);
    b.await_kept(&A);
    let [from, to, comes, goes] = ["from", "to", "comes", "goes"].map(|name| node.container(name));
    of_a.add(&from);
    let address = of_b.add(&to);
    let transfer = Transfer::start(&from, &to, format!("{address}:9000").parse().unwrap());

    let (over, added) = (AtomicBool::new(false), AtomicUsize::new(0));
    let conflist = of_a.folder("net.d/10-catena.conflist");
    thread::scope(|scope| {
        for pod in [&comes, &goes] {
            let (a, over, added, dir) = (&a, &over, &added, of_a.folder(""));
            let _ = scope.spawn(move || {
                let runtime = Runtime::at(a, dir);
                while !over.load(Ordering::Relaxed) {
                    let address = runtime.add(pod);
                    assert!(address.starts_with("10.1.1."), "{address}");
                    runtime.check_and_del(pod);
                    added.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // More come than were under way.
        let go_on = |what: &str| {
            let before = added.load(Ordering::Relaxed);
            until(&format!("pods come: {what}"), PATIENCE, || {
                (added.load(Ordering::Relaxed) > before + 2).then_some(())
            });
            transfer.assert_goes_on();
        };
        go_on("the first version serves");
        let steps = [
            (Signal::SIGTERM, 0, "a restart"),
            (Signal::SIGKILL, 0, "a restart after a kill"),
            (Signal::SIGTERM, 1, "an upgrade"),
            (Signal::SIGKILL, 0, "a roll-back"),
        ];
        for (signal, version, what) in steps {
            let before = fs::read_to_string(&conflist).unwrap();
            node.run(["kill", &format!("-{}", signal as i32), &daemon.pid().to_string()]);
            daemon.wait(PATIENCE);
            go_on(&format!("nobody serves before {what}"));
            of_a.install(&versions[version]);
            go_on(&format!("the plugin alone has had {what}"));
            // As another version writes it: without the ports, with a key of its own.
            let mut other: serde_json::Value = serde_json::from_str(&before).unwrap();
            other["plugins"].as_array_mut().unwrap().remove(1);
            other["ofVersion"] = what.into();
            let draft = conflist.with_file_name("draft");
            node.write(&draft, &format!("{other:#}\n"));
            fs::rename(draft, &conflist).unwrap();
            daemon = of_a.daemon(&versions[version]);
            of_a.await_served();
            until("the network is this version's", PATIENCE, || {
                (fs::read_to_string(&conflist).unwrap() == before).then_some(())
            });
            go_on(&format!("after {what}"));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read(of_a.folder("bin/catena")).unwrap(), fs::read(&versions[0]).unwrap());
    drop(transfer);
    of_a.check_and_del(&from);
    of_b.check_and_del(&to);
    let left = of_a.folder("state/attachments");
    assert_eq!(crate::beside::files(Path::new(&left)).len(), 0, "no record is left");
}
