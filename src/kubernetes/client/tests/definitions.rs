//! NetworkAttachmentDefinitions.

use super::*;

#[test]
fn a_definition_is_there_or_absent_or_forbidden() {
    let node = Node::new();
    let server = ApiServer::start(&node);
    server.namespace("blue");
    server.apply(include_str!("../../../../deploy/base/rbac.yaml"));
    let api = own_api(&server);

    // The kind is not known.
    assert_eq!(api.definition("blue", "net").unwrap(), None);
    server.apply(include_str!("../../../../deploy/base/crd.yaml"));
    assert_eq!(api.definition("blue", "net").unwrap(), None);
    assert_eq!(api.definition("red", "net").unwrap(), None);

    let add = |name: &str, annotations: Value, spec: Option<Value>| {
        let mut definition = json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name, "annotations": annotations },
        });
        definition["spec"] = spec.unwrap_or_default();
        server.admin().create(&kubernetes::definitions("blue"), &definition);
    };
    let config = r#"{ "cniVersion": "1.0.0", "type": "macvlan" }"#;
    add(
        "net",
        json!({ "k8s.v1.cni.cncf.io/resourceName": "example.com/nic" }),
        Some(json!({ "config": config })),
    );
    let expected = Definition {
        namespace: "blue".into(),
        name: "net".into(),
        config: config.into(),
        resource: Some("example.com/nic".into()),
    };
    assert_eq!(api.definition("blue", "net").unwrap(), Some(expected));

    // Files on the node have what these do not say.
    for (name, spec) in [("empty", Some(json!({}))), ("bare", None)] {
        add(name, json!({}), spec);
        let definition = api.definition("blue", name).unwrap().unwrap();
        assert_eq!((definition.config.as_str(), definition.resource), ("", None));
    }

    server.admin().delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/catena");
    let error = testnode::until("the right is taken", Duration::from_secs(20), || {
        api.definition("blue", "net").err()
    });
    assert_says(
        &error,
        &[
            "get network-attachment-definitions blue/net",
            "system:serviceaccount:kube-system:catena",
            r#"the verb "get" on "network-attachment-definitions" of API group "k8s.cni.cncf.io""#,
        ],
    );
}
