//! Debian's host-local and ours on one directory, in turn and at the same time.

use std::{collections::HashSet, os::unix::fs::PermissionsExt, sync::Mutex};

use super::*;

#[test]
fn both_hand_out_release_and_refuse_on_one_directory() {
    let disk = Disk::new();
    let ipam = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:0:0:1::/64"}]]});
    let conf = json!({"subnet": "10.1.0.0/24"});
    assert_eq!(disk.add(&ipam, "ours1").unwrap(), ["10.1.0.2/24", "fd00:0:0:1::2/64"]);
    let theirs = disk.reference("ADD", &ipam, "theirs1", "").unwrap();
    assert_eq!(theirs, ["10.1.0.3/24", "fd00:0:0:1::3/64"]);
    assert_eq!(disk.add(&ipam, "ours2").unwrap(), ["10.1.0.4/24", "fd00:0:0:1::4/64"]);
    disk.reference("ADD", &ipam, "theirs2", "").unwrap();

    let error = message(disk.add(&ipam, "theirs1"));
    assert!(error.starts_with("10.1.0.3 has been allocated to theirs1/eth0"), "{error}");
    let error = message(disk.reference("ADD", &ipam, "ours1", ""));
    assert!(error.contains("10.1.0.2 has been allocated to ours1"), "{error}");

    disk.check(&ipam, "theirs1", &["10.1.0.3/24", "fd00:0:0:1::3/64"]).unwrap();
    disk.reference("CHECK", &ipam, "ours1", "").unwrap();

    disk.del("theirs1").unwrap();
    disk.reference("DEL", &conf, "ours1", "").unwrap();
    assert_eq!(
        disk.holders(),
        [
            "10.1.0.4 ours2/eth0",
            "10.1.0.5 theirs2/eth0",
            "fd00:0:0:1::4 ours2/eth0",
            "fd00:0:0:1::5 theirs2/eth0"
        ]
    );
    assert!(disk.check(&ipam, "ours1", &[]).is_err());
    assert!(disk.reference("CHECK", &ipam, "theirs1", "").is_err());
    disk.gc(&["ours2"]).unwrap();
    disk.reference("DEL", &conf, "ours2", "").unwrap();
    assert_eq!(disk.holders(), Vec::<String>::new());
    disk.add(&ipam, "ours1").unwrap();
    assert_eq!(disk.index(), ["ours1:eth0"], "the index forgets what the reference released");
}

#[test]
fn files_are_the_same_byte_for_byte() {
    let (ours, theirs) = (Disk::new(), Disk::new());
    let ipam = json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8::/32"}]]});
    let asked =
        ["2001:db8:0:0:1::1", "2001:db8::1:0:0:2", "2001:db8:1:2:3:4:5:6", "2001:db8:0:1::"];
    for (i, address) in asked.iter().enumerate() {
        let (id, args) = (format!("c{i}"), format!("IP={address}"));
        let result = ours.add_with(&ipam, &id, &args).unwrap();
        assert_eq!(result, theirs.reference("ADD", &ipam, &id, &args).unwrap());
    }
    let read = |disk: &Disk| {
        let files = fs::read_dir(disk.data_dir().join("web")).unwrap().map(|file| {
            let path = file.unwrap().path();
            (path.file_name().unwrap().to_owned(), fs::read(&path).unwrap())
        });
        files.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(read(&ours), read(&theirs));
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(ours.lease("lock")), mode(theirs.lease("lock")));
    // As the reference does since 1.7; 1.1.1 made them world-readable.
    assert_eq!(mode(ours.lease("10.1.0.2")), 0o600);
}

#[test]
fn racing_processes_never_get_the_same_address() {
    let disk = Disk::new();
    let ipam = v4("10.1.0.0/24");
    let given = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let (disk, ipam, given) = (&disk, &ipam, &given);
            scope.spawn(move || {
                for i in 0..20 {
                    let id = format!("w{worker}i{i}");
                    let addresses = if worker % 3 == 0 {
                        disk.reference("ADD", ipam, &id, "").unwrap()
                    } else {
                        disk.add(ipam, &id).unwrap()
                    };
                    given.lock().unwrap().extend(addresses);
                }
            });
        }
    });
    let given = given.into_inner().unwrap();
    assert_eq!(given.len(), 120);
    assert_eq!(given.iter().collect::<HashSet<_>>().len(), 120);
    std::thread::scope(|scope| {
        for worker in 0..6 {
            let disk = &disk;
            scope.spawn(move || {
                for i in 0..20 {
                    let id = format!("w{}i{i}", 5 - worker);
                    if worker % 3 == 0 {
                        let conf = json!({"subnet": "10.1.0.0/24"});
                        disk.reference("DEL", &conf, &id, "").unwrap();
                    } else {
                        disk.del(&id).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(disk.holders(), Vec::<String>::new());
}
