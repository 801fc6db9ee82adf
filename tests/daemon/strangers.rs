//! What a daemon does not understand, or cannot do as the plugin would, it leaves to the plugin.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use testnode::{Node, PluginOutput, Scripts};

use super::{Plugin, start};

const SOCKET: &str = "/run/catena/catena.sock";

fn exchange(request: &str) -> String {
    let mut stream = UnixStream::connect(SOCKET).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.trim().to_owned()
}

#[test]
fn a_request_of_another_version_and_nonsense_are_refused() {
    let node = Node::new();
    let daemon = start(&node, &[]);
    for (request, why) in [
        (r#"{"protocol":2,"way":"other"}"#, "the plugin speaks version 2 of the exchange"),
        (r#"{"protocol":1}"#, "cannot be understood"),
        ("", "cannot be understood"),
        ("GET / HTTP/1.1\r\n\r\n", "cannot be understood"),
        (
            r#"{"protocol":1,"version":"","kind":"none","env":{},"stdin":"","node":{}}"#,
            r#"knows no plugin \"none\""#,
        ),
    ] {
        let answer = exchange(request);
        assert!(answer.starts_with(r#"{"refused":"#) && answer.contains(why), "{answer}");
    }
    assert_eq!(daemon.metric("catena_requests_refused_total"), 5);
}

#[test]
fn a_plugin_does_itself_what_is_refused_or_not_answered() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    let plugin = Plugin::new(&node, &scripts, &[]);
    std::fs::create_dir_all("/run/catena").unwrap();
    for (n, (answer, log)) in [
        (r#"{"refused":"other version"}"#, "does not take the call"),
        ("{\"refused\":", "no answer from the daemon"),
        ("", "no answer from the daemon"),
        ("\n\n\nHTTP/1.1 400 Bad Request", "no answer from the daemon"),
    ]
    .into_iter()
    .enumerate()
    {
        let container = node.container(&format!("c{n}"));
        let listener = UnixListener::bind(SOCKET).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                stream.read_to_string(&mut request).unwrap();
                assert!(request.contains(r#""CNI_COMMAND":"ADD""#), "{request}");
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let added = plugin.call("ADD", &container);
            assert!(added.stderr.contains(log), "{added}");
            added.success();
        });
        drop(listener);
        std::fs::remove_file(SOCKET).unwrap();
        plugin.call("CHECK", &container).success();
        plugin.del(&container);
    }
}

#[test]
fn what_a_daemon_has_added_and_not_answered_is_undone_and_done_anew() {
    let node = Node::new();
    let scripts = Scripts::new(&node);
    let plugin = Plugin::new(&node, &scripts, &[]);
    let container = node.container("c1");
    std::fs::create_dir_all("/run/catena").unwrap();
    let listener = UnixListener::bind(SOCKET).unwrap();
    // By a daemon that is killed before it answers.
    let add = |before: &(dyn Fn() + Sync)| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                stream.read_to_end(&mut Vec::new()).unwrap();
                before();
            });
            plugin.call("ADD", &container)
        })
    };
    let added = add(&|| {
        // A call with this variable is handed over to nobody.
        let alone = plugin.cmd("ADD", &container).env("CNI_NETNS_OVERRIDE", "1");
        PluginOutput::from(alone.output()).success();
    });
    assert!(added.stderr.contains("done anew"), "{added}");
    added.success();
    // What was there before is no daemon's of this call.
    node.run([
        "sh",
        "-c",
        r#"find /var/lib/catena -name '*.json' -exec sed -i 's/"created":[0-9]*/"created":1/' {} +"#,
    ]);
    let again = add(&|| {});
    assert!(again.error_text().contains("DEL it first"), "{again}");
    drop(listener);
    std::fs::remove_file(SOCKET).unwrap();
    plugin.call("CHECK", &container).success();
    plugin.del(&container);
}

#[test]
fn only_root_is_served() {
    let node = Node::new();
    let daemon = start(&node, &[]);
    // Even where somebody opens the door.
    node.run(["chmod", "755", "/run/catena"]);
    node.run(["chmod", "666", SOCKET]);
    let by_nobody = ["setpriv", "--reuid", "65534", "--clear-groups"];
    let curl = ["curl", "--silent", "--show-error", "--unix-socket", SOCKET, "http://node/"];
    node.try_run(by_nobody.into_iter().chain(curl)).failure();
    assert!(daemon.log().contains("not root's"), "{}", daemon.log());
}

#[test]
fn a_call_from_elsewhere_is_not_served_here() {
    let node = Node::new();
    let container = node.container("c1");
    let scripts = Scripts::new(&node);
    let plugin = Plugin::new(&node, &scripts, &[]);
    let daemon = start(&node, &[]);
    // What each of these sees is not what the daemon sees.
    for elsewhere in [
        "mount -t tmpfs none /var/lib/catena",
        "ip netns add other; \
         mount --bind /run/netns/other $CNI_NETNS",
    ] {
        let script = format!("{elsewhere}; exec {}", super::CATENA);
        let argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", &script];
        let status: PluginOutput = plugin.cmd_by(&argv, "STATUS", &container).output().into();
        assert!(status.stderr.contains("does not take the call"), "{status}");
        assert_eq!(status.code, 0, "{status}");
    }
    assert_eq!(daemon.served("STATUS", 0), 0);
}

#[test]
fn health_is_told_on_a_socket_and_pages_that_do_not_exist_are_not_found() {
    let node = Node::new();
    let daemon = start(&node, &["--metrics-address", "127.0.0.1:9300"]);
    let get = |page: &str| {
        let mut stream = UnixStream::connect("/run/catena/health.sock").unwrap();
        write!(stream, "GET {page} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    for page in ["/healthz", "/readyz", "/metrics"] {
        assert!(get(page).starts_with("HTTP/1.1 200 OK"), "{}", get(page));
    }
    assert!(get("/etc/passwd").starts_with("HTTP/1.1 404"));
    assert!(daemon.page("metrics").unwrap().contains("catena_build_info{version="));
    let page = node.run(["curl", "--silent", "--noproxy", "*", "http://127.0.0.1:9300/metrics"]);
    assert!(page.contains("catena_build_info{version="), "{page}");
    assert!(Path::new(SOCKET).exists());
}
