//! Standard streams as a parent may leave them: closed, or with nobody at the other end.
#![allow(clippy::unwrap_used, reason = "test code")]

use std::{
    fs,
    io::pipe,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::Path,
    process::Command,
};

use serde_json::json;
use testnode::Node;
use testnode::conf::{bridge, conflist};

const CATENA: &str = env!("CARGO_BIN_EXE_catena");

/// What is opened next would have the number of a stream that is closed, and the result would be written into that.
#[test]
fn closed_streams_are_no_files_of_catenas() {
    let node = Node::new();
    let container = node.container("c1");
    let look = Path::new("/run/plugins/look");
    let script = "#!/bin/sh\nreadlink /proc/$PPID/fd/0 /proc/$PPID/fd/1 /proc/$PPID/fd/2 > /run/streams\n\
        sed 's/.*\"prevResult\"://; s/}$//'";
    node.write(look, script);
    fs::set_permissions(look, fs::Permissions::from_mode(0o755)).unwrap();
    let list = conflist("web", &[bridge("cni0", &["10.1.0.0/24"]), json!({ "type": "look" })]);
    node.write("/run/conf", &list.to_string());
    let netns = container.path().display();
    let call = format!("CNI_PATH=/run/plugins {CATENA} add /run/conf {netns} <&- >&- 2>&-");
    node.run(["sh", "-ec", &call]);
    assert_eq!(node.run(["cat", "/run/streams"]), "/dev/null\n".repeat(3));
}

#[test]
fn a_reader_that_has_gone_is_no_reason_to_be_killed() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let status = Command::new(CATENA).arg("--help").stdout(writer).status().unwrap();
    assert_eq!(status.signal(), None, "{status}");
}
