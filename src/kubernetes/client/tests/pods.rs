//! Which pod is meant, and how long it is waited for.

use std::{thread, time::Duration};

use testnode::{kubernetes::Proxy, until};

use super::*;

#[test]
fn a_pod_is_known_by_its_uid_unless_it_is_static() {
    let node = Node::new();
    let server = cluster(&node);
    let api = own_api(&server);

    let uid = add_pod(&server, "web", &json!({ "k8s.v1.cni.cncf.io/networks": "a,b" }));
    let pod = api.pod(&id("web", Some(&uid))).unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str()), ("blue", "web"));
    assert_eq!(pod.uid, uid);
    assert_eq!(pod.annotations["k8s.v1.cni.cncf.io/networks"], "a,b");
    // Older runtimes do not say it.
    assert_eq!(api.pod(&id("web", None)).unwrap(), pod);

    let error = api.pod(&id("web", Some("another"))).unwrap_err();
    assert_says(&error, &["blue/web", "deleted and made anew", &uid, "another", "127.0.0.1:6443"]);

    // kubelet's mirror of a static pod has the static pod's UID in an annotation.
    let mirror =
        json!({ "kubernetes.io/config.source": "file", "kubernetes.io/config.mirror": "static" });
    let uid = add_pod(&server, "mirror", &mirror);
    assert_eq!(api.pod(&id("mirror", Some("static"))).unwrap().uid, uid);
    assert_eq!(api.pod(&id("mirror", Some(&uid))).unwrap().uid, uid);
    let error = api.pod(&id("mirror", Some("newer"))).unwrap_err();
    assert_says(&error, &["mirror of static pod static", "newer"]);

    // Runtimes before kubelet had that annotation, or other tools that make static pods.
    add_pod(&server, "file", &json!({ "kubernetes.io/config.source": "file" }));
    api.pod(&id("file", Some("static"))).unwrap();
    add_pod(&server, "api", &json!({ "kubernetes.io/config.source": "api" }));
    assert_says(&api.pod(&id("api", Some("static"))).unwrap_err(), &["deleted and made anew"]);
}

#[test]
fn a_pod_that_is_not_there_yet_is_waited_for_but_not_for_long() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    let api = api(&proxy.kubeconfig(&token(&server)));

    let late = thread::scope(|scope| {
        let asking = scope.spawn(|| api.pod(&id("late", None)));
        let asked =
            |seen: &&kubernetes::Seen| seen.path.contains("/late") && seen.status == Some(404);
        until("it is asked for", Duration::from_secs(2), || {
            proxy.seen().iter().find(asked).cloned()
        });
        let uid = add_pod(&server, "late", &json!({}));
        (asking.join().unwrap(), uid)
    });
    assert_eq!(late.0.unwrap().uid, late.1);

    let error = api.pod(&id("never", None)).unwrap_err();
    assert_says(&error, &["there is no pod blue/never", &proxy.address().to_string(), "2.5 s"]);
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    let api = api(&proxy.admin_kubeconfig());
    for name in ["", "..", "a/../b", "a?b", "a%2fb", "A", "a..b", "-a", &"a".repeat(254)] {
        for error in [
            api.pod(&id(name, None)).unwrap_err(),
            api.definition("blue", name).unwrap_err(),
            api.definition(name, "a").unwrap_err(),
        ] {
            assert_eq!(error.code, Code::InvalidConfig, "{error}");
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }
    assert_eq!(proxy.seen(), []);
}
