//! Several daemons on one machine, told apart by their flags alone.

use std::path::Path;

use testnode::Node;

use crate::beside::{Runtime, files};
use crate::machines::Wires;
use crate::{A, B, C, CATENA, assert_without_nat};

/// What daemons and plugins have where nobody tells them otherwise.
const USUAL: [&str; 5] =
    ["/run/catena", "/var/lib/catena", "/var/lib/cni", "/etc/cni/net.d", "/opt/cni/bin"];

#[test]
fn daemons_of_one_machine_are_told_apart_by_their_flags_alone() {
    let node = Node::new();
    let wires = Wires::new(&node);
    let machines = [("a", 1, 11, A), ("b", 2, 12, B), ("c", 1, 13, C)];
    let machines = machines.map(|(name, link, host, cidrs)| {
        let machine = wires.machine(name, link, host);
        machine.join(&cidrs);
        machine
    });
    let runtimes = machines.each_ref().map(|machine| {
        let dir = node.fresh_path("folders");
        std::fs::create_dir_all(dir.join("net.d")).unwrap();
        Runtime::new(machine, dir, Path::new(CATENA))
    });
    let _daemons = runtimes.each_ref().map(|runtime| runtime.daemon(Path::new(CATENA)));
    for runtime in &runtimes {
        runtime.await_served();
    }
    let pods = ["pod-a", "pod-b", "pod-c"].map(|name| node.container(name));
    let addresses = [0, 1, 2].map(|n| runtimes[n].add(&pods[n]));
    assert_eq!(addresses, ["10.1.1.2", "10.1.2.2", "10.1.3.2"]);
    for (machine, others) in machines.iter().zip([[B, C], [A, C], [A, B]]) {
        machine.await_kept(&[others[0][0], others[1][0], others[0][1], others[1][1]]);
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        assert_without_nat(&pods[from], &addresses[from], &pods[to], &addresses[to]);
    }
    let served = r#"catena_requests_total{verb="ADD",code="0"} 1"#;
    for runtime in &runtimes {
        assert!(runtime.page("metrics").unwrap().contains(served), "by its own daemon");
    }

    // What one removes is its own.
    let before = runtimes.each_ref().map(Runtime::files);
    runtimes[0].check_and_del(&pods[0]);
    let conflist = runtimes[0].folder("net.d/10-catena.conflist");
    runtimes[0].tool(&["gc", "--all", conflist.to_str().unwrap()]).success();
    let folders = [runtimes[0].folder("bin"), runtimes[0].folder("net.d")];
    let [bin, conf] = folders.each_ref().map(|dir| dir.to_str().unwrap());
    runtimes[0].tool(&["uninstall", "--bin-dir", bin, "--conf-dir", conf]).success();
    assert_eq!(folders.map(|dir| files(&dir).len()), [0, 0]);
    assert_eq!(runtimes[1].files(), before[1]);
    assert_eq!(runtimes[2].files(), before[2]);
    // As long as pods of its own live it is refused.
    let [bin, conf] = ["bin", "net.d"].map(|name| runtimes[1].folder(name).display().to_string());
    let refused = runtimes[1].tool(&["uninstall", "--bin-dir", &bin, "--conf-dir", &conf]);
    assert!(refused.failure().stderr.contains("attachments that Catena made still live"));
    for n in [1, 2] {
        runtimes[n].check_and_del(&pods[n]);
    }
    for dir in USUAL {
        assert_eq!(files(Path::new(dir)), files(Path::new("/none")), "{dir}");
    }
}
