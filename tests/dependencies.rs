//! What is linked into the binary, as `Cargo.lock` has it: for every target, and for the tests as well.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Each locked package's name, with the names of what it depends on.
fn locked() -> BTreeMap<String, Vec<String>> {
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = fs::read_to_string(lock).unwrap();
    let mut packages = BTreeMap::<String, Vec<String>>::new();
    for package in lock.split("[[package]]\n").skip(1) {
        let name = package.strip_prefix("name = \"").unwrap().split_once('"').unwrap().0;
        let (_, list) = package.split_once("dependencies = [\n").unwrap_or_default();
        // ` "name",` or, where there are several, ` "name version",`.
        let names = list.lines().map_while(|line| line.strip_prefix(" \""));
        let names = names.map(|name| name.split([' ', '"']).next().unwrap().to_owned());
        packages.entry(name.to_owned()).or_default().extend(names);
    }
    packages
}

fn who_depends_on(any: &[&str]) -> Vec<String> {
    let packages = locked().into_iter();
    let depends = |(_, on): &(String, Vec<String>)| on.iter().any(|n| any.contains(&n.as_str()));
    packages.filter(depends).map(|(name, _)| name).collect()
}

#[test]
fn the_one_tls_stack_is_rustls_with_ring() {
    let packages = locked();
    assert!(packages.contains_key("rustls") && packages.contains_key("ring"));
    let other_stacks =
        ["aws-lc", "openssl", "native-tls", "boring", "mbedtls", "wolfssl", "graviola"];
    // openssl-probe only knows where certificates are.
    let others = packages.keys().filter(|name| {
        other_stacks.iter().any(|stack| name.starts_with(stack)) && *name != "openssl-probe"
    });
    assert_eq!(others.collect::<Vec<_>>(), [""; 0]);
}

/// A newer pest brings a C compiler in by way of psm: see "What is linked" in ARCHITECTURE.md.
#[test]
fn nothing_but_ring_needs_a_c_compiler() {
    let tools = ["autotools", "bindgen", "cc", "cmake", "nasm-rs", "pkg-config", "vcpkg"];
    assert_eq!(who_depends_on(&tools), ["ring"]);
}

/// A newer idna_adapter brings tables of 130 KB that nobody asks: see "What is linked" in ARCHITECTURE.md.
#[test]
fn no_tables_of_international_names_are_linked() {
    let packages = locked();
    assert!(packages.contains_key("idna_adapter"));
    let tables =
        packages.keys().filter(|name| name.starts_with("icu_") || name.starts_with("unicode-bidi"));
    assert_eq!(tables.collect::<Vec<_>>(), [""; 0]);
}
