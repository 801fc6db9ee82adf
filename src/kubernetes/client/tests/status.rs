//! The annotation network-status.

use super::*;

#[test]
fn a_status_is_written_to_the_pod_it_is_of_and_to_no_other() {
    let node = Node::new();
    let server = cluster(&node);
    let api = own_api(&server);
    let uid = add_pod(&server, "web", &json!({ "kept": "yes" }));
    let pod = api.pod(&id("web", Some(&uid))).unwrap();

    let annotations = || server.admin().get(&path("web"))["metadata"]["annotations"].clone();
    for status in ["[{\n    \"name\": \"a\"\n}]", "[]"] {
        api.publish_status(&pod, status).unwrap();
        assert_eq!(annotations(), json!({ "kept": "yes", NETWORK_STATUS: status }));
    }

    delete_pod(&server, "web");
    let error = api.publish_status(&pod, "[]").unwrap_err();
    assert_says(&error, &["blue/web", &uid, "was deleted meanwhile"]);

    add_pod(&server, "web", &json!({}));
    let error = api.publish_status(&pod, "[]").unwrap_err();
    assert_says(&error, &["blue/web", &uid, "was deleted and made anew meanwhile"]);
    assert_eq!(annotations(), json!(null));
}
