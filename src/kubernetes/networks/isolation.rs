//! Namespace isolation: whose networks a pod may take.

use chain::{Error, Result};

use crate::kubernetes::{conf::Conf, selection::Selection};

/// Whether a pod of this namespace may take the network that it asks for. Every way in asks this: the annotation, default-network,
/// and an edit of a running pod's annotation.
///
/// What the node's configuration names is the administrator's own choice, and not asked for.
///
/// Errors (7): `namespaceIsolation` is on, and the network is in a namespace that is neither the pod's nor everyone's.
pub fn permit(conf: &Conf, pod_namespace: &str, selection: &Selection) -> Result<()> {
    let namespace = &selection.namespace;
    if !conf.namespace_isolation
        || namespace == pod_namespace
        || conf.global_namespaces.contains(namespace)
    {
        return Ok(());
    }
    Err(Error::config(format!(
        "namespace isolation enabled, annotation violates permission, pod is in namespace {pod_namespace} but refers to \
         target namespace {namespace} (network {selection}): take a network of {pod_namespace}{}, or have {namespace} \
         added to globalNamespaces",
        match conf.global_namespaces.join(", ") {
            none if none.is_empty() => String::new(),
            global => format!(" or {global}"),
        }
    )))
}
