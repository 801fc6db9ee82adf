//! What an API server does on bad days.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
};

use testnode::kubernetes::{Fault, Proxy};

use super::*;

/// How the requests so far whose path has `part` were answered.
fn answers(proxy: &Proxy<'_>, part: &str) -> Vec<Option<u16>> {
    let seen = proxy.seen().into_iter().filter(|seen| seen.path.contains(part));
    seen.map(|seen| seen.status).collect()
}

#[test]
fn what_passes_is_waited_for() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    let api = api(&proxy.kubeconfig(&token(&server)));
    for (number, (fault, answer)) in [
        (Fault::Cut, None),
        (Fault::LoseAnswer, None),
        (Fault::Hang, None),
        (Fault::Status(409), Some(409)),
        (Fault::Status(429), Some(429)),
        (Fault::Status(500), Some(500)),
        (Fault::Status(502), Some(502)),
        (Fault::Status(503), Some(503)),
        (Fault::Status(504), Some(504)),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("pod{number}");
        add_pod(&server, &name, &json!({}));
        let part = format!("/{name}/status");
        let pod = api.pod(&id(&name, None)).unwrap();
        proxy.once("PATCH", &part, fault);
        api.publish_status(&pod, "[]").unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(answers(&proxy, &part), [answer, Some(200)], "{fault:?}");
    }
    // A connection that was closed while nobody used it.
    proxy.cut();
    api.pod(&id("pod0", None)).unwrap();
    // A slow answer is one.
    proxy.once("GET", "/pod1", Fault::Slow(Duration::from_secs(2)));
    api.pod(&id("pod1", None)).unwrap();
    assert_eq!(answers(&proxy, "pods/pod1?").len() + answers(&proxy, "pods/pod1").len(), 4);
}

#[test]
fn what_does_not_pass_is_an_error_at_once() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    let api = api(&proxy.kubeconfig(&token(&server)));
    for status in [400, 403, 405, 422] {
        proxy.once("GET", "/web", Fault::Status(status));
        let error = api.pod(&id("web", None)).unwrap_err();
        assert_says(&error, &["get pods blue/web", &format!("({status})")]);
        assert!(!error.msg.contains("tried"), "{error}");
    }
    assert_eq!(answers(&proxy, "/web").len(), 4);
}

#[test]
fn an_api_server_that_does_not_answer_is_an_error_that_says_where_to_look() {
    let node = Node::new();
    let server = cluster(&node);
    let token = token(&server);
    let [hanging, refusing, failing] = [(); 3].map(|()| Proxy::start(&server));
    hanging.always("*", "", Fault::Hang);
    refusing.refuse();
    failing.always("*", "", Fault::Status(503));
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let unreachable = "whether this node reaches the address in kubeconfig";
    let ask = |address: SocketAddr, parts: &[&str]| {
        let api = api(&server.kubeconfig_at(address, &token));
        let error = api.pod(&id("web", None)).unwrap_err();
        let url = format!("https://{address}");
        assert_says(&error, &[&url, "get pods blue/web", "(tried "]);
        assert_says(&error, parts);
        api
    };
    // Side by side, since each takes its time.
    let api = thread::scope(|scope| {
        scope.spawn(|| ask(hanging.address(), &["no answer within", unreachable]));
        scope.spawn(|| ask(failing.address(), &["(503)"]));
        scope.spawn(|| ask(silent.local_addr().unwrap(), &["no answer within", unreachable]));
        ask(refusing.address(), &["Connection refused", unreachable])
    });
    // It goes on where the server comes back.
    refusing.heal();
    add_pod(&server, "web", &json!({}));
    api.pod(&id("web", None)).unwrap();
}
