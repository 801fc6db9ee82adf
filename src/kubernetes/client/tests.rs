//! Against a real API server, with no other rights than `deploy/` gives.

mod credentials;
mod definitions;
mod events;
mod faults;
mod pods;
mod proxies;
mod status;

use std::path::Path;

use chain::{Code, Error};
use serde_json::{Value, json};
use testnode::{
    Node,
    kubernetes::{self, ApiServer, Rights},
};

use super::*;
use crate::kubernetes::cluster::PodId;

/// An API server with a namespace `blue`, and Catena's account.
fn cluster(node: &Node) -> ApiServer<'_> {
    let server = ApiServer::start(node);
    server.namespace("blue");
    server.deploy(Rights::Thin);
    server
}

/// A token of Catena's account.
fn token(server: &ApiServer<'_>) -> String {
    server.token("kube-system", "catena")
}

/// The API under test by a kubeconfig.
fn api(kubeconfig: &Path) -> Api {
    Api::new(Source::Kubeconfig(kubeconfig.to_owned()), None).unwrap()
}

/// The API under test under its own account.
fn own_api(server: &ApiServer<'_>) -> Api {
    api(&server.kubeconfig(&token(server)))
}

/// A pod in `blue`; its UID.
#[track_caller]
fn add_pod(server: &ApiServer<'_>, name: &str, annotations: &Value) -> String {
    let pod = json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "nodeName": "worker",
            "automountServiceAccountToken": false,
            "containers": [{ "name": "main", "image": "none" }],
        },
    });
    let pod = server.admin().create(&kubernetes::pods("blue"), &pod);
    pod["metadata"]["uid"].as_str().unwrap().to_owned()
}

/// Where a pod of `blue` is.
fn path(name: &str) -> String {
    format!("{}/{name}", kubernetes::pods("blue"))
}

/// Deletes a pod at once, as kubelet does in the end.
#[track_caller]
fn delete_pod(server: &ApiServer<'_>, name: &str) {
    server.admin().delete(&format!("{}?gracePeriodSeconds=0", path(name)));
}

/// The pod as the runtime names it.
fn id(name: &str, uid: Option<&str>) -> PodId {
    PodId { namespace: "blue".into(), name: name.into(), uid: uid.map(str::to_owned) }
}

/// A try-again error whose text has all of `parts`.
#[track_caller]
fn assert_says(error: &Error, parts: &[&str]) {
    assert_eq!(error.code, Code::TryAgain, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}
