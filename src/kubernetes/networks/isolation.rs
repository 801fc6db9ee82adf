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
    let others = conf.global_namespaces.iter().filter(|global| *global != pod_namespace);
    let open: Vec<_> = std::iter::once(pod_namespace).chain(others.map(String::as_str)).collect();
    Err(Error::config(format!(
        "namespace isolation enabled, annotation violates permission, pod is in namespace {pod_namespace} but refers to \
         target namespace {namespace} (network {selection}): take a network of {}, or have {namespace} added to \
         globalNamespaces",
        open.join(" or ")
    )))
}

#[cfg(test)]
mod tests {
    use chain::PluginConf;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_error_names_each_namespace_that_is_open_once() {
        for (global, open) in [
            ("default", "take a network of default, or have"),
            ("tools,default", "take a network of default or tools, or have"),
            (",", "take a network of default, or have"),
        ] {
            let conf = json!({
                "cniVersion": "1.0.0", "name": "pods", "type": "catena",
                "namespaceIsolation": true, "globalNamespaces": global,
            });
            let conf = PluginConf::from_object(conf.as_object().unwrap().clone()).unwrap();
            let conf = Conf::of("catena", &conf).unwrap();
            let asked =
                Selection { namespace: "blue".into(), name: "a".into(), ..Selection::default() };
            let error = permit(&conf, "default", &asked).unwrap_err();
            assert!(error.msg.contains(open), "{error}");
        }
    }
}
