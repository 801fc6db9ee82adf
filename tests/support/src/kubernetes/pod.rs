//! Pods as objects of the API.

use serde_json::{Value, json};

use super::image::IMAGE;

/// A pod for the node `node_name`, whom no scheduler is asked for: one container that does nothing, ends at once when it is
/// told to, and has no service account. `annotations` is an object of strings.
pub fn pod(name: &str, node_name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "nodeName": node_name,
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{ "operator": "Exists" }],
            "containers": [{ "name": "main", "image": IMAGE, "imagePullPolicy": "Never" }],
        },
    })
}
