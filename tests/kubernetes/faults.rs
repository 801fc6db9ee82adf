//! What the other tests rely on: the proxy makes the faults that it's asked for, and no others.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use testnode::kubernetes::{ApiServer, Client, Fault, Proxy};
use testnode::{Node, until};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const MAP: &str = "/api/v1/namespaces/default/configmaps/a";
const PATIENCE: Duration = Duration::from_secs(20);

fn object() -> Value {
    json!({ "metadata": { "name": "a" } })
}

/// The status code; `None` where there is no answer.
fn ask(client: &Client, method: &str, path: &str, body: Option<&Value>) -> Option<u16> {
    client.try_request(method, path, body).ok().map(|answer| answer.status)
}

#[test]
fn a_proxy_without_faults_changes_nothing() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    let proxy = Proxy::start(&api);
    let client = proxy.admin();
    let made = client.create(MAPS, &object());
    assert_eq!(client.get(MAP), made);
    assert_eq!(ask(&client, "GET", "/api/v1/namespaces/default/pods/none", None), Some(404));
    let seen = proxy.seen();
    let lines: Vec<_> = seen.iter().map(|s| (s.verb.as_str(), s.path.as_str(), s.status)).collect();
    let none = "/api/v1/namespaces/default/pods/none";
    assert_eq!(
        lines,
        [("POST", MAPS, Some(201)), ("GET", MAP, Some(200)), ("GET", none, Some(404))]
    );

    // A watch's events come when they happen, not at its end.
    let version = made["metadata"]["resourceVersion"].as_str().unwrap();
    let kubeconfig = proxy.admin_kubeconfig();
    let path = format!("{MAPS}?watch=true&resourceVersion={version}");
    let watch = api
        .kubectl(&["get", "--raw", &path])
        .env("KUBECONFIG", kubeconfig)
        .spawn(node.fresh_path("watch"));
    api.admin().patch(MAP, &json!({ "data": { "colour": "blue" } }));
    until("the change is seen", PATIENCE, || watch.log().contains("blue").then_some(()));
    assert_eq!(proxy.seen().last().unwrap().verb, "WATCH");
}

#[test]
fn a_fault_is_for_the_requests_it_names() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    let proxy = Proxy::start(&api);
    let (client, direct) = (proxy.admin(), api.admin());
    direct.create(MAPS, &object());
    let patch = json!({ "data": { "colour": "blue" } });

    proxy.once("PATCH", "configmaps/", Fault::Status(409));
    let refused = client.request("PATCH", MAP, Some(&patch));
    assert_eq!(refused.status, 409);
    let status: Value = serde_json::from_str(&refused.text).unwrap();
    assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("Conflict")));
    assert!(direct.get(MAP)["data"].is_null());
    client.patch(MAP, &patch);

    proxy.times(2, "*", "", Fault::Status(401));
    assert_eq!(ask(&client, "GET", MAP, None), Some(401));
    assert_eq!(ask(&client, "DELETE", MAP, None), Some(401));
    assert_eq!(ask(&client, "GET", MAP, None), Some(200));

    proxy.always("WATCH", "configmaps", Fault::Expired);
    let events = client.request("GET", &format!("{MAPS}?watch=true"), None).events();
    assert_eq!((&events[0]["type"], &events[0]["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(ask(&client, "GET", MAPS, None), Some(200));
    proxy.heal();
    let short = format!("{MAPS}?watch=true&timeoutSeconds=1");
    assert_eq!(client.request("GET", &short, None).events()[0]["type"], "ADDED");
}

#[test]
fn an_answer_may_be_late_or_never_come() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    let proxy = Proxy::start(&api);
    let (client, direct) = (proxy.admin(), api.admin());
    let made = object();

    proxy.once("POST", "configmaps", Fault::Cut);
    assert_eq!(ask(&client, "POST", MAPS, Some(&made)), None);
    assert!(direct.find(MAP).is_none());
    proxy.once("POST", "configmaps", Fault::LoseAnswer);
    assert_eq!(ask(&client, "POST", MAPS, Some(&made)), None);
    assert!(direct.find(MAP).is_some());
    proxy.once("GET", MAP, Fault::Slow(Duration::from_millis(300)));
    assert_eq!(ask(&client, "GET", MAP, None), Some(200));

    proxy.once("GET", MAP, Fault::Hang);
    thread::scope(|scope| {
        let hanging = scope.spawn(|| ask(&client, "GET", MAP, None));
        until("the request is there", PATIENCE, || {
            proxy.seen().last().filter(|seen| seen.status.is_none()).map(|_| ())
        });
        // Others are served meanwhile.
        assert_eq!(ask(&client, "GET", MAPS, None), Some(200));
        assert!(!hanging.is_finished());
        proxy.cut();
        assert_eq!(hanging.join().unwrap(), None);
    });
}

#[test]
fn a_server_may_be_out_of_reach() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    let proxy = Proxy::start(&api);
    let client = proxy.admin();
    proxy.refuse();
    let refused = client.try_request("GET", MAPS, None).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
    proxy.heal();
    assert_eq!(ask(&client, "GET", MAPS, None), Some(200));
    api.stop();
    assert_eq!(ask(&client, "GET", MAPS, None), Some(502));
    api.restart();
    assert_eq!(ask(&client, "GET", MAPS, None), Some(200));
}
