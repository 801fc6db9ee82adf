//! What `deploy/` has is what an API server takes, and it gives Catena no more rights than it needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use testnode::Node;
use testnode::kubernetes::{ApiServer, Rights, definitions, events, pods};

/// What can be applied with `kubectl apply -k`.
const OVERLAYS: [&str; 4] = [".", "overlays/network", "overlays/secondary", "overlays/thin"];

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn yaml(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The manifests of a kustomization, in order, as kustomize collects them. (The kubectl of the oldest API server has a
/// kustomize that cannot read these.)
fn manifests(dir: &Path) -> Vec<PathBuf> {
    let kustomization = yaml(&dir.join("kustomization.yaml"));
    let [Value::Object(kustomization)] = &kustomization[..] else { panic!("{kustomization:?}") };
    let known = ["apiVersion", "kind", "resources"];
    assert!(kustomization.keys().all(|key| known.contains(&key.as_str())), "{kustomization:?}");
    let resources = kustomization["resources"].as_array().unwrap().iter();
    let paths = resources.map(|resource| dir.join(resource.as_str().unwrap()));
    let files = paths.flat_map(|path| if path.is_dir() { manifests(&path) } else { vec![path] });
    files.map(|file| file.canonicalize().unwrap()).collect()
}

/// The objects of an overlay.
pub fn objects(overlay: &str) -> Vec<Value> {
    manifests(&deploy().join(overlay)).iter().flat_map(|file| yaml(file)).collect()
}

/// The manifests in a folder and below.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) })
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "yaml"))
        .filter(|path| !path.ends_with("kustomization.yaml"))
        .map(|path| path.canonicalize().unwrap())
        .collect()
}

#[test]
fn a_server_takes_every_manifest() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    for overlay in OVERLAYS {
        for file in manifests(&deploy().join(overlay)) {
            let file = file.to_str().unwrap();
            // Fields that it does not know are refused, too.
            let apply = ["apply", "--dry-run=server", "--validate=true", "-f", file];
            let said = api.kubectl(&apply).output().success();
            assert!(said.contains("(server dry run)"), "{overlay}: {said}");
        }
    }
    let text = fs::read_to_string(deploy().join("overlays/thin/daemonset.yaml")).unwrap();
    let wrong = text.replace("hostNetwork: true", "hostNetwrk: true");
    let apply = ["apply", "--dry-run=server", "--validate=true", "-f", "-"];
    api.kubectl(&apply).stdin(wrong).output().failure();
}

#[test]
fn an_overlay_is_applied_and_deleted_as_a_whole() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    let run = |verb: &str, overlay: &str, by_kustomize: bool| {
        let dir = deploy().join(overlay);
        if by_kustomize {
            let kubectl = api.kubectl_with_kustomize(&[verb, "-k", dir.to_str().unwrap()]);
            kubectl.unwrap().output().success();
            return;
        }
        let mut args = vec![verb.to_owned()];
        for file in manifests(&dir) {
            args.extend(["-f".to_owned(), file.to_str().unwrap().to_owned()]);
        }
        api.kubectl(&args.iter().map(String::as_str).collect::<Vec<_>>()).output().success();
    };
    let there = |overlay: &str| -> usize {
        let count = |file: &PathBuf| {
            let file = file.to_str().unwrap();
            let get = ["get", "-f", file, "--ignore-not-found", "--output", "name"];
            api.kubectl(&get).output().success().lines().count()
        };
        manifests(&deploy().join(overlay)).iter().map(count).sum()
    };
    // By its files in any case; and as a user does it with every kubectl that can: that of Kubernetes 1.20 can't.
    let can = api.kubectl_with_kustomize(&[]).is_some();
    for by_kustomize in [false, true].into_iter().take(1 + usize::from(can)) {
        for overlay in OVERLAYS {
            run("apply", overlay, by_kustomize);
            assert_eq!(there(overlay), objects(overlay).len(), "{overlay}");
            run("apply", overlay, by_kustomize);
            run("delete", overlay, by_kustomize);
            assert_eq!(there(overlay), 0, "{overlay}");
        }
    }
}

#[test]
fn every_manifest_is_in_an_overlay() {
    let applied: BTreeSet<_> =
        OVERLAYS.iter().flat_map(|overlay| manifests(&deploy().join(overlay))).collect();
    assert_eq!(applied, files(&deploy()));
}

#[test]
fn definitions_have_the_names_of_the_standard() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    api.deploy(Rights::Thin);
    let object = |name: &str| {
        json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name },
            "spec": { "config": "{}" },
        })
    };
    api.admin().create(&definitions("default"), &object("web"));
    let mut without = object("file");
    without.as_object_mut().unwrap().remove("spec");
    api.admin().create(&definitions("default"), &without);
    assert_eq!(api.admin().list(&definitions("default")).len(), 2);
    let served = api.admin().get("/apis/k8s.cni.cncf.io/v1");
    let kind = &served["resources"][0];
    assert_eq!(kind["name"], "network-attachment-definitions");
    assert_eq!(kind["singularName"], "network-attachment-definition");
    assert_eq!(kind["shortNames"], json!(["nad", "net-attach-def"]));
    let mut wrong = object("wrong");
    wrong["spec"]["config"] = json!({});
    let refused = api.admin().request("POST", &definitions("default"), Some(&wrong));
    assert_eq!(refused.status, 422, "{refused}");
}

/// Asks for what a role allows with each verb; the verbs that are allowed.
fn allowed(
    api: &ApiServer<'_>,
    token: &str,
    collection: &str,
    object: Option<&Value>,
) -> Vec<String> {
    let client = api.client(token);
    let one = format!("{collection}/one");
    let watch = format!("{collection}?watch=true&timeoutSeconds=1");
    let requests = [
        ("get", "GET", one.as_str(), None),
        ("list", "GET", collection, None),
        ("watch", "GET", &watch, None),
        ("create", "POST", collection, object),
        ("update", "PUT", &one, object),
        ("patch", "PATCH", &one, object),
        ("patch status", "PATCH", &format!("{one}/status"), object),
        ("update status", "PUT", &format!("{one}/status"), object),
        ("delete", "DELETE", &one, None),
        ("deletecollection", "DELETE", collection, None),
    ];
    let is_allowed = |(verb, method, path, body): (&str, &str, &str, Option<&Value>)| {
        (client.request(method, path, body).status != 403).then(|| verb.to_owned())
    };
    requests.into_iter().filter_map(is_allowed).collect()
}

#[test]
fn catena_has_the_rights_that_it_needs_and_no_more() {
    let node = Node::new();
    let api = ApiServer::start(&node);
    let object = json!({ "metadata": { "name": "one" } });
    let rights = |token: &str| {
        let collections = [
            pods("default"),
            definitions("default"),
            events("default"),
            "/api/v1/namespaces/default/secrets".to_owned(),
            "/api/v1/nodes".to_owned(),
            "/apis/events.k8s.io/v1/namespaces/default/events".to_owned(),
        ];
        collections.map(|collection| allowed(&api, token, &collection, Some(&object)).join(", "))
    };
    let thin = api.deploy(Rights::Thin);
    assert_eq!(rights(&thin), ["get, patch status", "get", "create", "", "", ""]);
    let daemon = api.deploy(Rights::Daemon);
    let expected = ["get, list, watch, patch status", "get, list, watch", "create", "", "", ""];
    assert_eq!(rights(&daemon), expected);
    let network = api.deploy(Rights::Network);
    let [pods, definitions, events, secrets, nodes, others] = rights(&network);
    assert_eq!(
        [&pods, &definitions, &events, &secrets, &others],
        [expected[0], expected[1], expected[2], "", ""]
    );
    assert_eq!(nodes, "list, watch, patch status");
}

#[test]
fn daemonsets_run_this_version_on_every_node() {
    for overlay in OVERLAYS {
        let sets = objects(overlay);
        let mut sets = sets.iter().filter(|object| object["kind"] == "DaemonSet");
        let set = sets.next().unwrap_or_else(|| panic!("{overlay} has no DaemonSet"));
        assert!(sets.next().is_none(), "{overlay} has two");
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]), "{overlay}");
        assert_eq!(pod["priorityClassName"], "system-node-critical", "{overlay}");
        assert_eq!(pod["hostNetwork"], true, "{overlay}: it comes up before any network does");
        let containers = ["initContainers", "containers"]
            .into_iter()
            .filter_map(|key| pod[key].as_array())
            .flatten();
        for container in containers {
            let image = format!("catena:{}", env!("CARGO_PKG_VERSION"));
            assert_eq!(container["image"], json!(image), "{overlay}");
            let security = &container["securityContext"];
            assert_eq!(security["readOnlyRootFilesystem"], true, "{overlay}");
        }
    }
}
