//! Reboots, kills and power cuts.

use super::*;

#[test]
fn a_reboot_s_leases_are_reclaimed_when_the_range_is_full() {
    let mut disk = Disk::new();
    let ipam = v4("10.1.0.0/29");
    for id in ["a", "b", "c", "d", "e"] {
        disk.add(&ipam, id).unwrap();
    }
    assert!(message(disk.add(&ipam, "f")).contains("no free address"));
    disk.del("e").unwrap();
    disk.reboot();
    disk.status(&ipam).unwrap();
    assert_eq!(disk.add(&ipam, "f").unwrap(), ["10.1.0.6/29"]);
    assert_eq!(disk.leases().len(), 5, "as long as there is room nothing is reclaimed");
    disk.status(&ipam).unwrap();
    assert_eq!(disk.add(&ipam, "g").unwrap(), ["10.1.0.2/29"]);
    assert_eq!(disk.holders(), ["10.1.0.2 g/eth0", "10.1.0.6 f/eth0"]);
    assert_eq!(disk.index(), ["f:eth0", "g:eth0"]);
    // What comes late for one of before the reboot releases nothing of its successor's.
    disk.del("a").unwrap();
    assert_eq!(disk.leases().len(), 2);
}

#[test]
fn a_container_that_is_started_anew_after_a_reboot_gets_an_address() {
    let mut disk = Disk::new();
    let ipam = v4("10.1.0.0/24");
    disk.add_with(&ipam, "db", "IP=10.1.0.50").unwrap();
    disk.reboot();
    assert_eq!(disk.add_with(&ipam, "db", "IP=10.1.0.50").unwrap(), ["10.1.0.50/24"]);
    disk.reboot();
    assert_eq!(disk.add_with(&ipam, "db2", "IP=10.1.0.50").unwrap(), ["10.1.0.50/24"]);
    assert_eq!(disk.holders(), ["10.1.0.50 db2/eth0"]);
}

#[test]
fn the_reference_s_leases_are_never_reclaimed_for_their_age() {
    let mut disk = Disk::new();
    let ipam = v4("10.1.0.0/30");
    disk.reference("ADD", &ipam, "go", "").unwrap();
    age(&disk.lease("10.1.0.2"));
    for _ in 0..2 {
        let error = message(disk.add(&ipam, "c1"));
        assert!(error.contains("1 leases in"), "{error}");
        disk.reboot();
    }
    assert_eq!(disk.status(&ipam).unwrap_err().code.number(), 50);
    assert!(
        message(disk.add_with(&ipam, "c1", "IP=10.1.0.2")).contains("container go/eth0 has it")
    );
}

#[test]
fn an_empty_lease_file_is_not_lost() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/30");
    disk.add(&ipam, "c0").unwrap();
    disk.del("c0").unwrap();
    for content in ["", "\0\0\0\0\0\0\0\0"] {
        fs::write(disk.lease("10.1.0.2"), content).unwrap();
        // Somebody who does not keep to the lock may be about to write it.
        assert!(message(disk.add(&ipam, "c1")).contains("no free address"));
        age(&disk.lease("10.1.0.2"));
        disk.status(&ipam).unwrap();
        assert_eq!(disk.add(&ipam, "c1").unwrap(), ["10.1.0.2/30"]);
        disk.del("c1").unwrap();
    }
    fs::write(disk.lease("10.1.0.2"), "").unwrap();
    age(&disk.lease("10.1.0.2"));
    disk.gc(&["c9"]).unwrap();
    assert_eq!(disk.leases().len(), 0);
}

#[test]
fn a_kill_between_index_and_lease_loses_nothing() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/24");
    disk.add(&ipam, "c1").unwrap();

    // Before the lease was made:
    fs::remove_file(disk.lease("10.1.0.2")).unwrap();
    assert_eq!(disk.add(&ipam, "c1").unwrap(), ["10.1.0.3/24"]);
    assert_eq!(disk.holders(), ["10.1.0.3 c1/eth0"]);

    // Before the lease was written: it is its owner's, however old.
    fs::write(disk.lease("10.1.0.3"), "").unwrap();
    age(&disk.lease("10.1.0.3"));
    disk.gc(&["c1"]).unwrap();
    assert_eq!(disk.leases().len(), 1);
    disk.del("c1").unwrap();
    assert_eq!(disk.leases().len(), 0);

    // Between release and index:
    disk.add(&ipam, "c2").unwrap();
    let entry = fs::read(disk.index_file("c2:eth0")).unwrap();
    disk.del("c2").unwrap();
    fs::write(disk.index_file("c2:eth0"), entry).unwrap();
    disk.add_with(&ipam, "c3", "IP=10.1.0.4").unwrap();
    disk.del("c2").unwrap();
    assert_eq!(disk.holders(), ["10.1.0.4 c3/eth0"]);
    assert_eq!(disk.index(), ["c3:eth0"]);
}

#[test]
fn a_damaged_or_lost_index_is_made_anew_from_the_leases() {
    let mut disk = Disk::new();
    let ipam = v4("10.1.0.0/29");
    for id in ["a", "b", "c", "d", "e"] {
        disk.add(&ipam, id).unwrap();
    }
    // A power cut leaves an entry empty: it is of a boot that has ended.
    fs::write(disk.index_file("a:eth0"), "").unwrap();
    fs::write(disk.index_file("b:eth0"), "{\"containerID\":").unwrap();
    fs::remove_file(disk.index_file("c:eth0")).unwrap();
    disk.reboot();
    disk.del("a").unwrap();
    assert_eq!(disk.leases().len(), 4);
    disk.add(&ipam, "f").unwrap();
    disk.add(&ipam, "g").unwrap();
    assert_eq!(
        disk.holders(),
        ["10.1.0.2 f/eth0", "10.1.0.3 g/eth0", "10.1.0.4 c/eth0"],
        "c's boot is not known any more"
    );

    fs::remove_dir_all(disk.root.path().join("state")).unwrap();
    disk.del("c").unwrap();
    assert!(message(disk.add(&ipam, "f")).contains("10.1.0.2 has been allocated"));
    assert_eq!(disk.holders(), ["10.1.0.2 f/eth0", "10.1.0.3 g/eth0"]);
}

#[test]
fn a_damaged_entry_of_this_boot_may_be_a_living_container_s() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/29");
    for id in ["a", "b", "c", "d", "e"] {
        disk.add(&ipam, id).unwrap();
    }
    fs::write(disk.index_file("a:eth0"), "{\"containerID\":").unwrap();
    for _ in 0..2 {
        assert!(message(disk.add(&ipam, "f")).contains("no free address"));
    }
    disk.del("a").unwrap();
    assert_eq!(disk.add(&ipam, "f").unwrap(), ["10.1.0.2/29"]);
}

#[test]
fn a_lease_that_is_cut_or_garbled_is_written_again_from_the_index() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/30");
    disk.add(&ipam, "c1").unwrap();
    for content in ["c1\r\net", "c1\r\n", "c", "", "{\"a\":1}", "\u{1}\u{2}", "a b"] {
        fs::write(disk.lease("10.1.0.2"), content).unwrap();
        age(&disk.lease("10.1.0.2"));
        assert!(message(disk.add(&ipam, "c2")).contains("no free address"), "{content:?}");
        disk.gc(&["c1"]).unwrap();
        disk.check(&ipam, "c1", &["10.1.0.2/30"]).unwrap();
        assert_eq!(disk.holders(), ["10.1.0.2 c1/eth0"], "{content:?}");
    }
    fs::write(disk.lease("10.1.0.2"), "c1\r").unwrap();
    disk.del("c1").unwrap();
    assert_eq!(disk.leases().len(), 0);
}
