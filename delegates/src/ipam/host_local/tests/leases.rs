//! Who gets which address, and what is said when nobody can.

use super::*;

#[test]
fn addresses_go_round_and_come_with_gateway_routes_and_dns() {
    let disk = Disk::new();
    let resolv_conf = disk.root.path().join("resolv.conf");
    fs::write(&resolv_conf, "nameserver 9.9.9.9\n").unwrap();
    let ipam = json!({
        "ranges": [[{"subnet": "10.1.0.0/29"}], [{"subnet": "fd00::/64", "gateway": "fd00::fe"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "resolvConf": resolv_conf,
    });
    let result = disk.run(disk.conf(&ipam), "c1", "", None, super::super::add).unwrap();
    assert_eq!(
        serde_json::to_value(result).unwrap(),
        json!({
            "ips": [
                {"address": "10.1.0.2/29", "gateway": "10.1.0.1"},
                {"address": "fd00::1/64", "gateway": "fd00::fe"},
            ],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {"nameservers": ["9.9.9.9"]},
        })
    );
    assert_eq!(disk.add(&ipam, "c2").unwrap(), ["10.1.0.3/29", "fd00::2/64"]);
    disk.del("c1").unwrap();
    assert_eq!(disk.holders(), ["10.1.0.3 c2/eth0", "fd00::2 c2/eth0"]);
    assert_eq!(disk.add(&ipam, "c3").unwrap(), ["10.1.0.4/29", "fd00::3/64"], "not c1's at once");
    for (id, address) in [("c4", "10.1.0.5/29"), ("c5", "10.1.0.6/29"), ("c6", "10.1.0.2/29")] {
        assert_eq!(disk.add(&ipam, id).unwrap()[0], address);
    }
}

#[test]
fn a_second_add_names_the_address_that_is_there() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/24");
    disk.add(&ipam, "c1").unwrap();
    assert_eq!(
        message(disk.add(&ipam, "c1")),
        "10.1.0.2 has been allocated to c1/eth0 already: duplicate allocation is not allowed; DEL it before another ADD"
    );
    assert!(message(disk.add_with(&ipam, "c1", "IP=10.1.0.9")).contains("duplicate allocation"));
    assert_eq!(disk.holders(), ["10.1.0.2 c1/eth0"]);
    // Other ranges are another matter, as in the reference.
    assert_eq!(disk.add(&v4("10.2.0.0/24"), "c1").unwrap(), ["10.2.0.2/24"]);
    disk.del("c1").unwrap();
    assert_eq!(disk.holders(), Vec::<String>::new(), "release covers the whole network");
    disk.del("c1").unwrap();
}

#[test]
fn a_full_subnet_says_how_full_and_where() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/24");
    for i in 0..253 {
        disk.add(&ipam, &format!("c{i}")).unwrap();
    }
    let dir = disk.data_dir().join("web");
    let full = format!(
        "subnet 10.1.0.0/24 has no free address: 253 leases in {}; remove attachments that are gone (DEL, GC), or give \
         the network a larger range",
        dir.display()
    );
    assert_eq!(message(disk.add(&ipam, "late")), full);
    let error = disk.status(&ipam).unwrap_err();
    assert_eq!((error.code.number(), error.msg), (50, full));
    disk.del("c77").unwrap();
    disk.status(&ipam).unwrap();
    assert_eq!(disk.add(&ipam, "late").unwrap(), ["10.1.0.79/24"]);

    let small = json!({"ranges": [[{"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.9", "rangeEnd": "10.2.0.9"}]]});
    disk.add(&small, "a").unwrap();
    let error = message(disk.add(&small, "b"));
    assert!(
        error.starts_with("range 10.2.0.9-10.2.0.9 of subnet 10.2.0.0/24 has no free address: 1 "),
        "{error}"
    );
}

#[test]
fn a_failure_over_the_second_set_releases_the_first() {
    let disk = Disk::new();
    let ipam = json!({"ranges": [
        [{"subnet": "10.1.0.0/24"}],
        [{"subnet": "fd00::/64", "rangeStart": "fd00::9", "rangeEnd": "fd00::9"}],
    ]});
    disk.add(&ipam, "c1").unwrap();
    let error = message(disk.add(&ipam, "c2"));
    assert!(error.contains("no free address"), "{error}");
    assert_eq!(disk.holders(), ["10.1.0.2 c1/eth0", "fd00::9 c1/eth0"]);
    assert_eq!(disk.index(), ["c1:eth0"]);
}

#[test]
fn requested_addresses_are_given_or_refused_with_the_reason() {
    let disk = Disk::new();
    let ipam = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    let asked = disk.add_with(&ipam, "c1", "IP=fd00::77").unwrap();
    assert_eq!(asked, ["10.1.0.2/24", "fd00::77/64"]);
    assert_eq!(
        message(disk.add_with(&ipam, "c2", "IP=fd00::77")),
        "requested address fd00::77 is not available: container c1/eth0 has it; ask for another, or none"
    );
    assert!(message(disk.add_with(&ipam, "c2", "IP=10.1.0.1")).contains("is the gateway"));
    let error = message(disk.add_with(&ipam, "c2", "IP=192.0.2.7"));
    assert!(
        error.contains("failed to allocate all requested addresses: 192.0.2.7; each must be in"),
        "{error}"
    );
    let mut conf = disk.conf(&ipam);
    conf["runtimeConfig"] = json!({"ips": ["10.1.0.50/24", "10.1.0.51/24"]});
    let error = message(disk.run(conf, "c2", "", None, super::super::add));
    assert!(error.contains("10.1.0.51; each must be in a range set of its own"), "{error}");
    assert_eq!(disk.leases().len(), 2, "nothing is left of the refused ones");
}

#[test]
fn del_goes_through_with_a_configuration_that_add_refuses() {
    let disk = Disk::new();
    disk.add(&v4("10.1.0.0/24"), "c1").unwrap();
    let broken = json!({"ranges": "none", "routes": 7, "subnet": "10.1.0.7/33"});
    disk.run(disk.conf(&broken), "c1", "IP=x;MAC=y", None, super::super::del).unwrap();
    assert_eq!(disk.holders(), Vec::<String>::new());
    // Nor does it make anything.
    let other = Disk::new();
    other.del("c1").unwrap();
    other.gc(&[]).unwrap();
    assert_eq!(fs::read_dir(other.root.path()).unwrap().count(), 0);
}

#[test]
fn check_wants_a_lease_for_each_address_of_the_result() {
    let disk = Disk::new();
    let ipam = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    disk.add(&ipam, "c1").unwrap();
    disk.check(&ipam, "c1", &["10.1.0.2/24", "fd00::2/64", "192.0.2.1/24"]).unwrap();
    let error = message(disk.check(&ipam, "c1", &["10.1.0.3/24"]));
    assert!(error.contains("c1/eth0 has no lease for 10.1.0.3 of prevResult in"), "{error}");
    fs::remove_file(disk.lease("fd00::2")).unwrap();
    let error = message(disk.check(&ipam, "c1", &["fd00::2/64"]));
    assert!(error.contains("no lease for fd00::2"), "{error}");
    let error = message(disk.check(&ipam, "c2", &[]));
    assert!(error.contains("c2/eth0 has no lease in"), "{error}");
}

#[test]
fn gc_releases_what_is_not_valid_any_more() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/24");
    for id in ["c1", "c2", "c3"] {
        disk.add(&ipam, id).unwrap();
    }
    fs::write(disk.lease("10.1.0.20"), "old1").unwrap();
    fs::write(disk.lease("10.1.0.21"), "old2").unwrap();
    disk.gc(&["c2", "old2"]).unwrap();
    assert_eq!(disk.holders(), ["10.1.0.21 old2", "10.1.0.3 c2/eth0"]);
    assert_eq!(disk.index(), ["c2:eth0", "old2:"]);
    disk.del("old2").unwrap();
    assert_eq!(disk.holders(), ["10.1.0.3 c2/eth0"], "leases of old name the id alone");
}

#[test]
fn status_says_where_leases_cannot_be_written() {
    let disk = Disk::new();
    disk.status(&v4("10.1.0.0/24")).unwrap();
    assert_eq!(fs::read_dir(disk.root.path()).unwrap().count(), 0, "STATUS makes nothing");
    let error = disk.status(&json!({"subnet": "10.1.0.0/24", "dataDir": "/proc/self/nothing"}));
    let error = error.unwrap_err();
    assert_eq!(error.code.number(), 50);
    assert!(error.msg.starts_with("host-local cannot write leases in /proc/self"), "{error}");
}
