use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;

use super::*;

fn limits() -> Limits {
    Limits { time: Duration::from_secs(20), output: 64 << 10 }
}

/// Runs a script as a plugin.
fn run(body: &str, limits: Limits) -> Result<Vec<u8>> {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, body);
    exec(&program, limits).run(&request()).map_err(|failure| failure.error)
}

fn script(dir: &TempDir, body: &str) -> PathBuf {
    let file = dir.path().join("plugin");
    let here = dir.path().display();
    fs::write(&file, format!("#!/bin/sh\nHERE={here}\n{body}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn exec(program: &Path, limits: Limits) -> Exec<'_> {
    Exec { program, verb: Verb::Add, attachment: None, path: &[], limits }
}

fn request() -> Map<String, Value> {
    let Value::Object(request) = json!({ "name": "net" }) else { panic!("an object") };
    request
}

/// Waits until a process is gone or a zombie of someone else's.
fn await_end_of(pid: &str) {
    let stat = format!("/proc/{pid}/stat");
    let start = Instant::now();
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(20), "process {pid} lives on");
        std::thread::yield_now();
    }
}

#[test]
fn gets_the_environment_and_the_request() {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, "cat; env | grep ^CNI_ | sort");
    let attachment = Attachment {
        network: "net".into(),
        container_id: "c1".into(),
        ifname: "eth0".into(),
        netns: None,
        args: crate::CniArgs::parse("A=1;B=2").unwrap(),
    };
    let path = [PathBuf::from("/a"), PathBuf::from("/b")];
    let exec = Exec {
        verb: Verb::Del,
        attachment: Some(&attachment),
        path: &path,
        ..exec(&program, limits())
    };
    let stdout = exec.run(&request()).unwrap();
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        "{\"name\":\"net\"}CNI_ARGS=A=1;B=2\nCNI_COMMAND=DEL\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n\
         CNI_NETNS=\nCNI_PATH=/a:/b\n"
    );
}

#[test]
fn an_error_object_is_kept_whole() {
    let error =
        run(r#"echo '{"code":11,"msg":"try later","details":"d"}'; exit 3"#, limits()).unwrap_err();
    assert_eq!(error, Error::new(Code::TryAgain, "try later").with_details("d"));
}

#[test]
fn a_failure_without_an_error_object_is_explained() {
    for (script, expected) in [
        (
            "echo oops >&2; exit 3",
            "exited with status 3 without an error object; its stderr ends: oops",
        ),
        (
            "echo garbage; exit 1",
            "exited with status 1, and printed no error object but \"garbage\"",
        ),
        ("kill -SEGV $$", "was killed by SIGSEGV without an error object"),
    ] {
        let error = run(script, limits()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn one_that_hangs_is_killed_with_its_children() {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, "sleep 1000 & echo $! > $HERE/child; echo working >&2; wait");
    let limits = Limits { time: Duration::from_millis(300), ..limits() };
    let error = exec(&program, limits).run(&request()).unwrap_err().error;
    assert!(error.msg.contains("did not end within 0.3 s and was killed"), "{error}");
    assert_eq!(error.details, "its stderr ends: working");
    let child = fs::read_to_string(dir.path().join("child")).unwrap();
    await_end_of(child.trim());
}

#[test]
fn one_that_floods_is_killed() {
    for (script, stream) in [("exec cat /dev/zero", "stdout"), ("exec cat /dev/zero >&2", "stderr")]
    {
        let error = run(script, limits()).unwrap_err();
        assert!(error.msg.contains(&format!("more than 65536 bytes to {stream}")), "{error}");
    }
}

#[test]
fn a_child_of_it_that_holds_the_pipes_does_not_hold_us() {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, "sleep 1000 & echo $! > $HERE/child; echo '{}'");
    let start = Instant::now();
    assert_eq!(exec(&program, limits()).run(&request()).unwrap(), b"{}\n");
    assert!(start.elapsed() < Duration::from_secs(10));
    let child = fs::read_to_string(dir.path().join("child")).unwrap();
    let child = nix::unistd::Pid::from_raw(child.trim().parse().unwrap());
    nix::sys::signal::kill(child, Signal::SIGKILL).unwrap();
}

#[test]
fn one_that_does_not_read_its_request_is_fine() {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, "echo '{}'");
    let mut request = request();
    request.insert("long".into(), "x".repeat(1 << 20).into());
    assert_eq!(exec(&program, limits()).run(&request).unwrap(), b"{}\n");
}

#[test]
fn a_long_answer_arrives_whole() {
    let stdout = run("head -c 60000 /dev/zero | tr '\\0' x; echo; echo end >&2", limits()).unwrap();
    assert_eq!(stdout.len(), 60_001);
}

#[test]
fn one_that_is_just_being_replaced_is_tried_again() {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, "");
    fs::copy("/bin/true", &program).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&program).unwrap();
    let start = Instant::now();
    let error = exec(&program, limits()).run(&request()).unwrap_err();
    assert!(error.error.msg.contains("could not be run") && !error.unclean, "{}", error.error);
    assert!(start.elapsed() >= Duration::from_millis(900), "it was not tried again");
    drop(writer);
    exec(&program, limits()).run(&request()).unwrap();
}

/// Not a test by itself: the caller that the next one kills.
#[test]
fn caller_of_a_plugin_that_outlives_it() {
    let Some(program) = std::env::var_os("CHAIN_TEST_OUTLIVED") else { return };
    let _ = exec(Path::new(&program), limits()).run(&request());
}

#[test]
fn it_does_not_outlive_its_caller() {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, "echo $$ > $HERE/new; mv $HERE/new $HERE/pid; exec sleep 1000");
    let mut caller = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "foreign::tests::caller_of_a_plugin_that_outlives_it"])
        .env("CHAIN_TEST_OUTLIVED", &program)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let pid = loop {
        if let Ok(pid) = fs::read_to_string(dir.path().join("pid")) {
            break pid;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the plugin was not started");
        std::thread::yield_now();
    };
    caller.kill().unwrap();
    caller.wait().unwrap();
    await_end_of(pid.trim());
}

#[test]
fn versions_are_asked_for() {
    let dir = TempDir::new().unwrap();
    let program = script(
        &dir,
        r#"[ "$CNI_COMMAND" = VERSION ] && echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0"]}'"#,
    );
    let version = Exec { verb: Verb::Version, ..exec(&program, limits()) };
    assert_eq!(version.versions().unwrap(), ["0.4.0", "1.0.0"]);
    script(&dir, r#"echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"#);
    assert_eq!(version.versions().unwrap(), ["0.1.0"]);
}

#[test]
fn a_plugin_is_looked_for_in_order() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let path = [first.path().to_owned(), second.path().to_owned()];
    let error = find("plugin", &path).unwrap_err();
    for dir in &path {
        assert!(error.msg.contains(&dir.display().to_string()), "{error}");
    }
    let program = script(&second, "");
    assert_eq!(find("plugin", &path).unwrap(), program);
    assert_eq!(find("plugin", &[]).unwrap_err().code, Code::InvalidConfig);
    assert_eq!(find("../plugin", &path).unwrap_err().code, Code::InvalidConfig);
}
