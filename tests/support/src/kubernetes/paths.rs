//! The paths of collections in the API; an object's own is `<collection>/<name>`.

/// A namespace's pods.
pub fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A namespace's Events.
pub fn events(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/events")
}

/// A namespace's NetworkAttachmentDefinitions.
pub fn definitions(namespace: &str) -> String {
    let group = "/apis/k8s.cni.cncf.io/v1";
    format!("{group}/namespaces/{namespace}/network-attachment-definitions")
}

/// The cluster's nodes.
pub fn nodes() -> String {
    "/api/v1/nodes".to_owned()
}
