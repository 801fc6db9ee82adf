//! The units of `deploy/systemd` are what systemd takes, and what they start works on a host without Kubernetes.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use testnode::conf::{bridge, conflist, port_and_rates, portmap};
use testnode::{Attachment, Catena, Node, NodeDaemon, Output, Plugins, Runtime, until};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");
const BIN_DIR: &str = "/opt/cni/bin";

/// What gives a service mounts of its own, in which it would miss containers' namespaces, or keep them.
const MOUNTS: [&str; 12] = [
    "BindPaths",
    "DynamicUser",
    "InaccessiblePaths",
    "MountFlags",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivateTmp",
    "ProtectHome",
    "ProtectKernel",
    "ProtectSystem",
    "ReadOnlyPaths",
];

fn units() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd");
    let mut units: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    units.sort();
    units
}

fn unit(name: &str) -> String {
    let path = units().into_iter().find(|path| path.ends_with(name)).unwrap();
    fs::read_to_string(path).unwrap()
}

/// The values of a setting.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let of_key = |line: &'u str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(of_key).collect()
}

/// A node with Catena where the units look for it.
fn node() -> Node {
    let node = Node::new();
    Catena::new(&node, CATENA).cmd(["install"]).output().success();
    node
}

fn verify(node: &Node, unit: &Path) -> Output {
    node.cmd(["systemd-analyze".as_ref(), "verify".as_ref(), unit.as_os_str()]).output()
}

#[test]
fn systemd_takes_every_unit() {
    let node = node();
    let units = units();
    assert!(units.len() >= 2, "{units:?}");
    for unit in &units {
        let said = verify(&node, unit);
        // What it does not know it only mentions.
        assert_eq!((said.code(), said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    }
    let text = unit("catena-repair.service");
    let wrong = node.fresh_path("catena").with_extension("service");
    for (known, other) in [("TimeoutSt", "TimeoutSd"), ("/opt/cni/bin/catena ", "/opt/catena ")] {
        assert!(text.contains(known), "{known}");
        node.write(&wrong, &text.replace(known, other));
        assert_ne!(verify(&node, &wrong).stderr, "", "{other}");
    }
}

#[test]
fn no_unit_has_mounts_of_its_own_or_takes_away_what_outlives_it() {
    for path in units() {
        let unit = fs::read_to_string(&path).unwrap();
        let keys = unit.lines().filter(|line| !line.starts_with(['#', '[']));
        for key in keys.filter_map(|line| line.split_once('=')).map(|(key, _)| key) {
            let is_one = |begin: &&str| key.starts_with(*begin);
            assert!(!MOUNTS.iter().any(is_one), "{}: {key}", path.display());
            assert_ne!(key, "RuntimeDirectory", "{}", path.display());
        }
    }
}

#[test]
fn the_daemon_serves_a_host_without_kubernetes_and_ends_when_it_is_told_to() {
    let node = node();
    let unit = unit("catena.service");
    let [start] = values(&unit, "ExecStart")[..] else { panic!("{unit}") };
    let argv: Vec<_> = start.split(' ').filter(|word| *word != "$CATENA_ARGS").collect();
    let mut daemon = NodeDaemon::begin(&node, node.cmd(argv));
    let container = node.container("c1");
    let plugins = json!({ "type": "catena", "plugins": [bridge("cni0", &["10.1.0.0/24"])] });
    let runtime = Runtime::new(Plugins::new(&node, [BIN_DIR]), conflist("web", &[plugins]));
    let attachment = Attachment::new(&container);
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(daemon.served("ADD", 0), 1);
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let [seconds] = values(&unit, "TimeoutStopSec")[..] else { panic!("{unit}") };
    let patience = std::time::Duration::from_secs(seconds.parse().unwrap());
    assert_eq!(daemon.process.wait(patience), 0, "{}", daemon.log());
    // The mark of the boot has to outlive it.
    assert!(Path::new("/run/catena/boot").exists());
    runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    runtime.del(&attachment).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn the_dhcp_daemon_is_started_by_its_socket() {
    let node = node();
    let (listens, service) = (unit("catena-dhcp.socket"), unit("catena-dhcp.service"));
    let [socket] = values(&listens, "ListenStream")[..] else { panic!("{listens}") };
    let [start] = values(&service, "ExecStart")[..] else { panic!("{service}") };
    let argv: Vec<_> = start.split(' ').filter(|word| *word != "$DHCP_ARGS").collect();
    node.run(["mkdir", "-p", "/run/cni"]);
    let run = node.cmd(["systemd-socket-activate", "--listen", socket]).args(argv);
    let daemon = run.spawn(node.fresh_path("dhcp.log"));
    until("systemd listens", std::time::Duration::from_secs(30), || {
        Path::new(socket).exists().then_some(())
    });
    assert_eq!(daemon.log().matches("serving DHCP").count(), 0, "nobody has asked yet");
    let mut conf = bridge("cni0", &[]);
    conf["ipam"] = json!({ "type": "dhcp" });
    let runtime = Runtime::new(Plugins::new(&node, [BIN_DIR]), conflist("leased", &[conf]));
    runtime.status().unwrap_or_else(|e| panic!("{e}"));
    assert!(daemon.log().contains("serving DHCP"), "{}", daemon.log());
}

#[test]
fn repair_puts_back_what_a_reload_of_the_firewall_takes_away() {
    let node = node();
    let unit = unit("catena-repair.service");
    let [start] = values(&unit, "ExecStart")[..] else { panic!("{unit}") };
    let [reload] = values(&unit, "ExecReload")[..] else { panic!("{unit}") };
    let run = |line: &str| {
        node.cmd(line.trim_start_matches('-').split(' ').collect::<Vec<_>>()).output().success()
    };
    // At boot there is nothing yet.
    run(start);
    let container = node.container("c1");
    let chain = [bridge("cni0", &["10.1.0.0/24"]), portmap()];
    let runtime = Runtime::new(Plugins::new(&node, [BIN_DIR]), conflist("web", &chain));
    let ports = port_and_rates(8080)["portMappings"].clone();
    let attachment = Attachment::new(&container).capability("portMappings", ports);
    runtime.add(&attachment).unwrap_or_else(|e| panic!("{e}"));
    for line in [start, reload] {
        // As /etc/nftables.conf begins.
        node.run(["nft", "flush", "ruleset"]);
        runtime.check(&attachment).unwrap_err();
        assert!(run(line).contains("web"));
        runtime.check(&attachment).unwrap_or_else(|e| panic!("{e}"));
    }
    // Whoever starts the firewall starts the unit, after it, and has it reloaded.
    let firewalls = values(&unit, "After");
    for key in ["PartOf", "ReloadPropagatedFrom"] {
        assert_eq!(values(&unit, key), firewalls, "{key}");
    }
    assert_eq!(values(&unit, "WantedBy")[0], format!("multi-user.target {}", firewalls[0]));
}
