//! Events on pods.

use testnode::{
    kubernetes::{Fault, Proxy},
    until,
};

use super::*;

fn event(reason: &'static str, message: &str) -> PodEvent {
    PodEvent { warning: reason.starts_with("No"), reason, message: message.into() }
}

/// Type, reason and message of the events in `blue`.
fn events(server: &ApiServer<'_>) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    server
        .admin()
        .list(&kubernetes::events("blue"))
        .iter()
        .map(|event| (text(&event["type"]), text(&event["reason"]), text(&event["message"])))
        .collect()
}

#[test]
fn events_are_shown_with_the_pod_they_are_of() {
    let node = Node::new();
    let server = cluster(&node);
    // As long as a pod's name may be.
    let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
    for name in ["web", &name] {
        add_pod(&server, name, &json!({}));
        let api = own_api(&server);
        let pod = api.pod(&id(name, None)).unwrap();
        api.record(&pod, event("AddedInterface", "Add eth0 [10.1.1.2/24] from cbr0"));
        api.record(&pod, event("AddedInterface", "Add net1 [10.2.1.2/24] from blue/net"));
        api.record(&pod, event("NoNetworkFound", &"ä".repeat(2000)));
        let describe = ["describe", "pod", "--namespace=blue", name];
        let shows = |text: &str, expected: &str| {
            // The third column is the age.
            let words: Vec<_> = expected.split(' ').collect();
            text.lines()
                .any(|line| words.iter().all(|word| line.split(' ').any(|own| own == *word)))
        };
        for expected in [
            "Normal AddedInterface catena Add eth0 [10.1.1.2/24] from cbr0",
            "Normal AddedInterface catena Add net1 [10.2.1.2/24] from blue/net",
            &format!("Warning NoNetworkFound catena {}", "ä".repeat(512)),
        ] {
            until(expected, Duration::from_secs(20), || {
                let text = server.kubectl(&describe).output().success();
                shows(&text, expected).then_some(())
            });
        }
    }
}

#[test]
fn an_event_is_there_once_when_the_process_ends_also_if_an_answer_is_lost() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    let uid = add_pod(&server, "web", &json!({}));
    let api = api(&proxy.kubeconfig(&token(&server)));
    let pod = api.pod(&id("web", Some(&uid))).unwrap();
    proxy.once("POST", "/events", Fault::LoseAnswer);
    api.record(&pod, event("AddedInterface", "Add net1"));
    drop(api);
    assert_eq!(events(&server), [("Normal".into(), "AddedInterface".into(), "Add net1".into())]);
    let posts = proxy.seen().into_iter().filter(|seen| seen.verb == "POST");
    assert_eq!(posts.map(|seen| seen.status).collect::<Vec<_>>(), [None, Some(409)]);
}

#[test]
fn events_do_not_wait_for_each_other_where_the_api_server_is_slow() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    add_pod(&server, "web", &json!({}));
    let api = api(&proxy.kubeconfig(&token(&server)));
    let pod = api.pod(&id("web", None)).unwrap();
    proxy.always("POST", "/events", Fault::Hold);
    for ifname in ["eth0", "net1", "net2"] {
        api.record(&pod, event("AddedInterface", &format!("Add {ifname}")));
    }
    until("all are under way", Duration::from_secs(20), || {
        let seen = proxy.seen().into_iter().filter(|seen| seen.verb == "POST");
        (seen.count() == 3).then_some(())
    });
    proxy.let_go();
    drop(api);
    // One that had waited for another to be given up would be alone.
    let mut messages: Vec<_> = events(&server).into_iter().map(|(.., message)| message).collect();
    messages.sort();
    assert_eq!(messages, ["Add eth0", "Add net1", "Add net2"]);
}

#[test]
fn nobody_waits_long_for_events() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    add_pod(&server, "web", &json!({}));
    let api = api(&proxy.kubeconfig(&token(&server)));
    let pod = api.pod(&id("web", None)).unwrap();
    proxy.always("POST", "/events", Fault::Hang);
    // Were each waited for, the test's own limit would be over.
    for _ in 0..300 {
        api.record(&pod, event("AddedInterface", "Add net1"));
    }
    // Other calls do not wait for them either.
    api.publish_status(&pod, "[]").unwrap();
    drop(api);
    assert_eq!(events(&server), []);
}
