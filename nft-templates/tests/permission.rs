//! A process that may not change the ruleset says what it lacks.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;

use nft_templates::{Error, Resolution, Ruleset};
use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Uid, setresuid},
};
use node::{adding, hairpin, owner};

// The only test of its process: it gives its rights away.
#[test]
fn without_cap_net_admin_the_error_says_so() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let nobody = Uid::from_raw(65534);
    setresuid(nobody, nobody, nobody).unwrap();
    let lock = std::env::temp_dir().join(format!("nft-templates-{}", std::process::id()));
    let mut ruleset = Ruleset::open(&lock).unwrap();
    std::fs::remove_file(&lock).unwrap();
    let elements = [hairpin("10.1.0.2")];
    let wanted = [(elements[0].clone(), owner("a"))];
    let adds = ruleset.commit(&adding(&elements, &owner("a")), &mut |_| Resolution::Refuse);
    let checks = ruleset.check(&wanted);
    let lists = ruleset.held();
    assert!(matches!(adds.unwrap_err(), Error::NotPermitted));
    assert!(matches!(checks.unwrap_err(), Error::NotPermitted));
    let error = lists.unwrap_err();
    assert!(error.to_string().contains("CAP_NET_ADMIN"), "{error}");
}
