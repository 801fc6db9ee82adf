//! What the other tests rely on: the API server is a real one.

use std::time::Duration;

use serde_json::{Value, json};
use testnode::kubernetes::{Answer, ApiServer, Client, nodes, pods};
use testnode::{Node, until};

const ACCOUNTS: &str = "/api/v1/namespaces/blue/serviceaccounts";

/// The namespace `blue` with a service account `reader` that may read pods.
fn readers(api: &ApiServer) {
    api.namespace("blue");
    api.admin().create(ACCOUNTS, &json!({ "metadata": { "name": "reader" } }));
    api.apply(
        r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: reader }
rules: [{ apiGroups: [""], resources: [pods], verbs: [get, list] }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: reader }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: reader }
subjects: [{ kind: ServiceAccount, namespace: blue, name: reader }]
"#,
    );
}

fn config_map(client: &Client, name: &str) -> Value {
    let object = json!({ "metadata": { "name": name } });
    client.create("/api/v1/namespaces/default/configmaps", &object)
}

fn version_of(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

/// What became of the config maps since a version.
fn watch(client: &Client, since: &str) -> Answer {
    let maps = "/api/v1/namespaces/default/configmaps";
    let query = format!("watch=true&timeoutSeconds=1&resourceVersion={since}");
    client.request("GET", &format!("{maps}?{query}"), None)
}

#[test]
fn a_token_has_the_rights_of_its_account_and_no_more() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    readers(&api);
    let token = api.token("blue", "reader");
    let client = api.client(&token);
    assert!(client.list(&pods("blue")).is_empty());
    let refused = client.request("GET", &nodes(), None);
    assert_eq!(refused.status, 403, "{refused}");
    assert!(refused.text.contains("system:serviceaccount:blue:reader"), "{refused}");
    assert_eq!(client.request("DELETE", &format!("{}/a", pods("blue")), None).status, 403);
    assert_eq!(api.client("nobody's").request("GET", &pods("blue"), None).status, 401);

    // The file says the same to a program as the test's own client is told.
    let kubeconfig = api.kubeconfig(&token);
    let kubectl = |args: &[&str]| api.kubectl(args).env("KUBECONFIG", &kubeconfig).output();
    kubectl(&["get", "pods", "--namespace", "blue"]).success();
    assert!(kubectl(&["get", "nodes"]).failure().stderr.contains("Forbidden"));
}

#[test]
fn a_token_ends() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    readers(&api);
    let ask = |token: &str| api.client(token).request("GET", &pods("blue"), None).status;
    let token = api.token_for("blue", "reader", Duration::from_secs(6));
    assert_eq!(ask(&token), 200);
    until("the token has ended", Duration::from_secs(40), || (ask(&token) == 401).then_some(()));
    // One that ended before the server has seen it.
    assert_eq!(ask(&api.token_for("blue", "reader", Duration::ZERO)), 401);
    assert_eq!(ask(&api.token("blue", "reader")), 200);
}

#[test]
fn a_node_has_its_pod_networks() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    api.add_node("worker", &["10.244.3.0/24", "fd00:3::/64"]);
    let worker = api.admin().get(&format!("{}/worker", nodes()));
    assert_eq!(worker["spec"]["podCIDRs"], json!(["10.244.3.0/24", "fd00:3::/64"]));
}

#[test]
fn a_revision_that_is_compacted_away_is_gone() {
    let node = Node::new();
    let api = ApiServer::start_with(&node, &["--watch-cache=false"]);
    let admin = api.admin();
    let first = config_map(&admin, "first");
    config_map(&admin, "second");
    let third = config_map(&admin, "third");
    let events = watch(&admin, version_of(&first)).events();
    let names: Vec<_> = events.iter().map(|event| &event["object"]["metadata"]["name"]).collect();
    assert_eq!(names, ["second", "third"]);

    assert!(api.compact() >= version_of(&third).parse().unwrap());
    let events = watch(&admin, version_of(&first)).events();
    assert_eq!(events[0]["type"], "ERROR", "{events:?}");
    assert_eq!(events[0]["object"]["code"], 410, "{events:?}");
}

#[test]
fn a_restarted_server_has_kept_its_objects() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    api.namespace("blue");
    api.stop();
    let admin = api.admin();
    assert!(admin.try_request("GET", "/readyz", None).is_err());
    api.restart();
    assert!(admin.find("/api/v1/namespaces/blue").is_some());
    assert!(admin.find("/api/v1/namespaces/green").is_none());
}
