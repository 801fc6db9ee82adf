//! A daemon that dies over an ADD: whatever it has got by then, the next one or DEL gives back.

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testnode::{Background, Container, Node, until};

use crate::lan::{Daemon, Lan, address, await_address, command, list, program, state};
use crate::{PATIENCE, SOCKET};

const RECORDS: &str = "/var/lib/catena/dhcp/run-cni-dhcp.sock";
/// The server's ACKs do not arrive: its options begin with the kind of its message.
const NO_ACK: &str = "table ip lost { chain said { type filter hook output priority 0;
    udp sport 67 @th,1984,24 0x350105 drop; }; }";

/// Every so many system calls a daemon is killed.
fn step() -> usize {
    std::env::var("KILL_EVERY").map_or(7, |every| every.parse().unwrap())
}

/// An ADD for which the server has leased an address, and whose daemon does not know it.
fn add_that_hears_no_ack(lan: &Lan<'_>, pod: &Container) -> Background {
    lan.server.host().cmd(["nft", "-f", "-"]).stdin(NO_ACK).output().success();
    let list = lan.node.json_file("leased.conflist", &list());
    let words = ["add".as_ref(), list.as_os_str(), pod.path().as_os_str()];
    let add = lan.catena().cmd(words).spawn(lan.node.fresh_path("add.log"));
    until("the server has leased an address", PATIENCE, || {
        (lan.server.leased() == 1).then_some(())
    });
    add
}

fn hear_acks(lan: &Lan<'_>) {
    lan.server.host().run(["nft", "delete", "table", "ip", "lost"]);
}

fn records() -> usize {
    fs::read_dir(RECORDS).map_or(0, |files| {
        files.flatten().filter(|file| !file.file_name().to_string_lossy().starts_with('.')).count()
    })
}

/// Waits until neither the server nor the daemon knows of a lease.
#[track_caller]
fn await_nothing_leased(lan: &Lan<'_>, daemon: &Daemon) {
    let what = format!("nothing is leased, and nothing on record; the daemon:\n{}", daemon.log());
    until(&what, PATIENCE, || (lan.server.leased() == 0 && records() == 0).then_some(()));
}

#[test]
fn what_a_daemon_has_requested_when_it_is_killed_is_given_back_by_the_next_one() {
    let node = Node::new();
    let lan = Lan::new(&node);
    for comes_again in [false, true] {
        let mut daemon = lan.daemon();
        let pod = node.container(&format!("pod{comes_again}"));
        let mut add = add_that_hears_no_ack(&lan, &pod);
        daemon.kill();
        assert_ne!(add.wait(PATIENCE), 0, "{}", add.log());
        hear_acks(&lan);
        let daemon = lan.daemon();
        // What comes at once is not given what is about to be given back.
        if comes_again {
            lan.catena().add(&list(), &pod);
            lan.catena().check(&list(), &pod);
            assert_eq!((lan.server.leased(), records()), (1, 1));
            lan.catena().del(&list(), &pod);
        }
        await_nothing_leased(&lan, &daemon);
    }
}

#[test]
fn what_was_requested_for_a_plugin_that_is_killed_is_given_back_without_an_answer() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let daemon = lan.daemon();
    let pod = node.container("pod");
    let mut add = add_that_hears_no_ack(&lan, &pod);
    add.kill();
    await_nothing_leased(&lan, &daemon);
    hear_acks(&lan);
    lan.catena().add(&list(), &pod);
    assert_eq!((lan.server.leased(), records()), (1, 1));
}

#[test]
fn an_address_that_is_lost_is_off_the_interface_before_it_is_off_the_record() {
    let node = Node::new();
    let mut lan = Lan::new(&node);
    let mut daemon = lan.daemon();
    let pod = node.container("pod");
    let first = address(&lan.catena().add(&list(), &pod));
    daemon.kill();
    lan.server.lease_to_another(&first);
    // The server refuses it to the next daemon, which is killed as soon as it would change the record.
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e"];
    let dies = node.cmd([&strace[..], &["inject=rename:signal=SIGKILL"]].concat());
    let dies = dies.args([program(&node).as_os_str(), "daemon".as_ref()]);
    dies.spawn(node.fresh_path("dies.log")).wait(PATIENCE);
    await_address(&pod, None);
    let _daemon = lan.daemon();
    let second = until("another address is there", PATIENCE, || {
        let addresses = state(&pod, "eth0").0;
        (addresses.len() == 1 && addresses[0] != first).then(|| addresses[0].clone())
    });
    lan.catena().del(&list(), &pod);
    lan.await_released(&second);
}

/// Runs a daemon that is killed at this system call, and an ADD as soon as it listens; whether it came so far.
fn killed_over_an_add(lan: &Lan<'_>, pod: &Container, point: usize) -> bool {
    let node = lan.node;
    let pid = node.fresh_path("daemon.pid");
    let daemon = command(node, program(node), &["-pidfile", pid.to_str().unwrap()]);
    thread::scope(|scope| {
        let daemon = scope.spawn(|| daemon.killed_at(point).is_none());
        let is_there = until("the daemon listens, or is dead", PATIENCE, || {
            let listens = UnixStream::connect(SOCKET).is_ok();
            (listens || daemon.is_finished()).then_some(listens)
        });
        if is_there {
            lan.catena().try_add(&list(), pod);
        }
        // It may have more to do for its dead plugin, and comes to the call by that, or waits.
        if !daemon.is_finished() {
            let pid = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
            kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
        }
        daemon.join().unwrap()
    })
}

#[test]
fn a_daemon_can_be_killed_at_any_point_of_an_add_and_no_lease_is_left() {
    let node = Node::new();
    let lan = Lan::new(&node);
    let (mut point, mut tried) = (1, 0);
    loop {
        let pod = node.container(&format!("pod{point}"));
        let killed = killed_over_an_add(&lan, &pod, point);
        let daemon = lan.daemon();
        // The runtime calls DEL, or forgets the container.
        match tried % 2 {
            0 => lan.catena().del(&list(), &pod),
            _ => pod.delete(),
        }
        await_nothing_leased(&lan, &daemon);
        if !killed {
            break;
        }
        (point, tried) = (point + step(), tried + 1);
    }
    println!("a daemon over an ADD: {tried} kill points of {point} system calls");
    assert!(point > 300, "{point} system calls are too few: what was killed?");
}
