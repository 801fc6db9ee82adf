//! Leases survive the daemon.

use std::fs;

use delegates::ipam::dhcp::rpc;
use testnode::dhcp::Program;
use testnode::{Node, Restart, until};

use crate::PATIENCE;
use crate::lan::{self, Daemon, Lan, address, await_address, command, list, short, state};
use crate::protocol::{self, Client};

const RECORDS: &str = "/var/lib/catena/dhcp/run-cni-dhcp.sock";

fn records() -> Vec<std::path::PathBuf> {
    let files = fs::read_dir(RECORDS).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "json")).collect()
}

#[test]
fn a_daemon_that_was_killed_is_followed_by_one_that_keeps_its_leases() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, short(3600, [2, 3000]));
    let mut daemon = lan.daemon();
    let pods: Vec<_> = (0..3).map(|n| node.container(&format!("pod{n}"))).collect();
    let leased: Vec<_> = pods.iter().map(|pod| address(&lan.catena().add(&list(), pod))).collect();
    daemon.kill();
    // What nobody understands is not in the way of others.
    fs::write(format!("{RECORDS}/odd.json"), "{").unwrap();
    let daemon = lan.daemon();
    for (pod, address) in pods.iter().zip(&leased) {
        let confirmed = format!("{address} is confirmed");
        daemon.await_log(&confirmed);
        // From then on it is renewed as ever.
        lan.await_granted(address, lan.server.granted(address) + 2);
        assert_eq!(state(pod, "eth0").0.join(" "), *address);
    }
    assert!(daemon.log().contains("odd.json cannot be understood"), "{}", daemon.log());
    // Nobody has asked for a new one.
    assert_eq!(lan.server.log().matches("DHCPDISCOVER from").count(), 3);
    for (pod, address) in pods.iter().zip(&leased) {
        lan.catena().del(&list(), pod);
        lan.await_released(address);
    }
    assert_eq!(records().len(), 0);
}

#[test]
fn a_lease_whose_server_is_away_at_a_restart_stays_until_its_end() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(12, [4, 8]));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    lan.server.stop();
    let flags = ["-timeout", "1s"];
    let mut daemon = Daemon::catenas(&node, &flags);
    daemon.await_log(&format!("{first} is not confirmed yet"));
    assert_eq!(state(&pod, "eth0").0.join(" "), first);
    daemon.await_log("it has expired");
    await_address(&pod, None);
    // A daemon that ends without a lease is followed by one that goes on asking.
    daemon.kill();
    let _daemon = Daemon::catenas(&node, &flags);
    lan.server.resume();
    await_address(&pod, Some(&first));
    until("it is on record", PATIENCE, || {
        fs::read_to_string(&records()[0]).unwrap().contains(&first).then_some(())
    });
}

#[test]
fn a_clock_that_jumps_between_two_daemons_ends_no_lease() {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    let preload = node.run(["sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1"]);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    lan.server.stop();
    for offset in ["+20y", "-20y"] {
        let run = command(&node, lan::program(&node), &["-timeout", "1s"]);
        let run = run.env("LD_PRELOAD", preload.trim()).env("FAKETIME", offset);
        let run = run.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let mut daemon = Daemon::run(&node, run);
        daemon.await_log(&format!("{address} is not confirmed yet"));
        let year = daemon.log().get(..4).map(str::to_owned).unwrap();
        assert!(year != node.run(["date", "+%Y"]).trim(), "the clock was not where it was to be");
        assert_eq!(state(&pod, "eth0").0.join(" "), address);
        assert!(!daemon.log().contains("is lost"), "{}", daemon.log());
        daemon.kill();
    }
}

/// Of one from before there were leases of IPv6, that counted seconds by the clock on the wall.
#[test]
fn a_record_of_an_earlier_form_is_read_and_its_lease_has_an_end() {
    let node = Node::new();
    let mut lan = Lan::with(&node, Program::Isc, short(12, [4, 8]));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    lan.server.stop();
    let path = &records()[0];
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let known = record.as_object_mut().unwrap();
    known.retain(|key, _| !key.ends_with("V6"));
    assert!(known["since"].as_u64().unwrap() < 1_700_000_000, "{known:?}");
    known.insert("since".to_owned(), 1_700_000_000.into());
    fs::write(path, record.to_string()).unwrap();
    let daemon = Daemon::catenas(&node, &["-timeout", "1s"]);
    daemon.await_log(&format!("{first} is not confirmed yet"));
    daemon.await_log("it has expired");
    await_address(&pod, None);
    lan.server.resume();
    await_address(&pod, Some(&first));
}

#[test]
fn another_container_under_the_same_path_is_left_alone() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    // The kernel gives its number to nobody else as long as it is there.
    let held = fs::File::open(pod.path()).unwrap();
    pod.delete();
    let other = node.container("pod");
    drop(held);
    other.ip("link add eth0 type bridge\naddr add 10.7.0.99/24 dev eth0\nlink set eth0 up\n");
    let before = other.run(["ip", "addr"]);
    let _daemon = lan.daemon();
    lan.await_released(&first);
    until("the record is gone", PATIENCE, || records().is_empty().then_some(()));
    assert_eq!(other.run(["ip", "addr"]), before);
}

#[test]
fn leases_of_another_boot_are_ended() {
    let node = Node::new();
    {
        let lan = Lan::new(&node);
        let _daemon = lan.daemon();
        lan.catena().add(&list(), &node.container("pod"));
    }
    assert_eq!(records().len(), 1);
    node.restart(Restart::Machine);
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    until("the record is gone", PATIENCE, || records().is_empty().then_some(()));
}

#[test]
fn a_lease_that_cannot_be_recorded_is_given_back_and_add_fails() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    let pod = node.container("pod");
    // Nobody can make a folder of that name.
    let _ = fs::remove_dir_all(RECORDS);
    fs::create_dir_all("/var/lib/catena/dhcp").unwrap();
    fs::write(RECORDS, "").unwrap();
    let text = lan.catena().try_add(&list(), &pod).failure().stderr;
    assert!(text.contains("the lease cannot be recorded") && text.contains(RECORDS), "{text}");
    until("the lease is given back", PATIENCE, || {
        lan.server.log().contains("DHCPRELEASE(eth0)").then_some(())
    });
    fs::remove_file(RECORDS).unwrap();
    lan.catena().add(&list(), &pod);
    assert_eq!(records().len(), 1);
}

/// As a crash of the machine may leave it.
fn damage_the_record() {
    let [record] = &records()[..] else { panic!("{:?}", records()) };
    fs::write(record, "{").unwrap();
}

#[test]
fn a_lease_whose_record_is_damaged_is_got_again() {
    let node = Node::new();
    let lan = Lan::with(&node, Program::Isc, short(3600, [2, 3000]));
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let address = address(&lan.catena().add(&list(), &pod));
    let before = state(&pod, "eth0");
    daemon.kill();
    damage_the_record();
    let daemon = lan.daemon();
    daemon.await_log("was damaged, and is made anew");
    daemon.await_log(&format!("has {address} of 10.7.0.1 now"));
    lan.await_granted(&address, lan.server.granted(&address) + 2);
    assert_eq!(state(&pod, "eth0"), before);
    assert!(!daemon.log().contains("the interface follows"), "{}", daemon.log());
    lan.catena().check(&list(), &pod);
    lan.catena().del(&list(), &pod);
    lan.await_released(&address);
}

#[test]
fn another_lease_in_place_of_one_whose_record_is_damaged_replaces_its_address() {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    damage_the_record();
    lan.server.lease_to_another(&first);
    let _daemon = lan.daemon();
    let second =
        until("another address is there, alone", PATIENCE, || match &state(&pod, "eth0").0[..] {
            [address] if *address != first => Some(address.clone()),
            _ => None,
        });
    pod.ping("10.7.0.1");
    lan.catena().del(&list(), &pod);
    lan.await_released(&second);
}

#[test]
fn a_damaged_record_that_nobody_can_make_anew_is_an_error_in_the_log() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let mut daemon = lan.daemon();
    // Of a plugin that keeps no records.
    let pod = protocol::pod(&node, "veth1");
    let mut client = Client::connect();
    client.begin(1, rpc::ALLOCATE, &pod);
    let leased = client.answer().unwrap().1.unwrap();
    daemon.kill();
    damage_the_record();
    let daemon = lan.daemon();
    daemon.await_log("leased pod/eth0: the record of its lease was damaged");
    assert!(daemon.log().contains("unless a CHECK takes it up again"), "{}", daemon.log());
    // As CHECK asks.
    let mut client = Client::connect();
    client.begin(1, rpc::ALLOCATE, &pod);
    assert_eq!(client.answer().unwrap().1.unwrap(), leased);
}

#[test]
fn status_says_that_leases_cannot_be_recorded() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let _daemon = lan.daemon();
    lan.catena().status(&list()).success();
    let refused = |why: &str| {
        let output = testnode::PluginOutput::from(lan.catena().status(&list()));
        assert_eq!(output.error_code(), 50, "{output}");
        let text = output.error_text();
        assert!(text.contains("leases cannot be recorded") && text.contains(why), "{text}");
    };
    node.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", RECORDS]);
    lan.catena().status(&list()).success();
    let full = format!("{RECORDS}/full");
    fs::write(&full, [0; 1 << 20]).unwrap_err();
    refused("No space left on device");
    fs::remove_file(&full).unwrap();
    lan.catena().status(&list()).success();
    node.run(["mount", "-o", "remount,ro", RECORDS]);
    refused("Read-only file system");
}
