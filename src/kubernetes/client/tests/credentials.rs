//! Who asks, and how that changes.

use std::{fs, os::fd::AsRawFd};

use testnode::kubernetes::{Proxy, Seen};

use super::*;

/// A token of Catena's account that has ended.
fn old_token(server: &ApiServer<'_>) -> String {
    server.token_for("kube-system", "catena", Duration::ZERO)
}

/// A kubeconfig as JSON, and the same with changes.
fn changed(kubeconfig: &Path, change: impl FnOnce(&mut Value)) {
    let mut object = serde_json::from_slice(&fs::read(kubeconfig).unwrap()).unwrap();
    change(&mut object);
    fs::write(kubeconfig, object.to_string()).unwrap();
}

/// The tokens of all requests so far, and how they were answered.
fn tokens(proxy: &Proxy<'_>) -> Vec<(String, Option<u16>)> {
    proxy.seen().into_iter().map(|Seen { token, status, .. }| (token, status)).collect()
}

/// An API whose token is refused goes on with what `rotate` makes of it.
#[track_caller]
fn goes_on_with_a_new_token(
    api: &Api,
    proxy: &Proxy<'_>,
    old: &str,
    new: &str,
    rotate: impl Fn(&str),
) {
    let before = proxy.seen().len();
    assert_says(
        &api.pod(&id("web", None)).unwrap_err(),
        &["get pods blue/web", "(401)", "also when read again"],
    );
    rotate(new);
    api.pod(&id("web", None)).unwrap();
    api.pod(&id("web", None)).unwrap();
    let seen = tokens(proxy).split_off(before);
    let expected = [(old, 401), (old, 401), (old, 401), (new, 200), (new, 200)];
    assert_eq!(seen, expected.map(|(token, status)| (token.to_owned(), Some(status))));
}

#[test]
fn a_rotated_token_is_read_again() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    add_pod(&server, "web", &json!({}));
    let (old, new) = (old_token(&server), token(&server));

    // In the kubeconfig itself, as Multus's daemon set writes it.
    let kubeconfig = proxy.kubeconfig(&old);
    let within = api(&kubeconfig);
    goes_on_with_a_new_token(&within, &proxy, &old, &new, |token| {
        changed(&kubeconfig, |config| config["users"][0]["user"]["token"] = token.into());
    });

    // In a file beside it.
    let path = node.dir("account").join("token");
    node.write(&path, &old);
    changed(&kubeconfig, |config| config["users"][0]["user"] = json!({ "tokenFile": path }));
    let beside = api(&kubeconfig);
    goes_on_with_a_new_token(&beside, &proxy, &old, &new, |token| fs::write(&path, token).unwrap());

    // In a pod, whose folder may be known by a descriptor alone.
    let config: Value = serde_json::from_slice(&fs::read(&kubeconfig).unwrap()).unwrap();
    let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
    fs::copy(authority, node.dir("account").join("ca.crt")).unwrap();
    fs::write(&path, &old).unwrap();
    let folder = fs::File::open(node.dir("account")).unwrap();
    let in_cluster = Api::new(
        Source::InCluster {
            host: proxy.address().ip().to_string(),
            port: proxy.address().port().to_string(),
            folder: format!("/proc/self/fd/{}", folder.as_raw_fd()).into(),
        },
        None,
    )
    .unwrap();
    goes_on_with_a_new_token(&in_cluster, &proxy, &old, &new, |token| {
        fs::write(&path, token).unwrap()
    });
}

#[test]
fn credentials_that_cannot_be_read_again_stay_in_use() {
    let node = Node::new();
    let server = cluster(&node);
    let proxy = Proxy::start(&server);
    add_pod(&server, "web", &json!({}));
    let kubeconfig = proxy.kubeconfig(&token(&server));
    let api = api(&kubeconfig);
    fs::write(&kubeconfig, "half a fi: [").unwrap();
    proxy.once("GET", "/web", kubernetes::Fault::Status(401));
    assert_says(&api.pod(&id("web", None)).unwrap_err(), &["(401)"]);
    api.pod(&id("web", None)).unwrap();
}

#[test]
fn a_kubeconfig_that_is_none_is_named() {
    let node = Node::new();
    let refused = |path: &Path| connect(path.to_str(), None).err().unwrap();
    let broken = node.fresh_path("kubeconfig");
    node.write(&broken, "clusters: {");
    let empty = node.fresh_path("kubeconfig");
    node.write(&empty, "");
    for (path, part) in [
        (Path::new("/none/such"), "No such file"),
        (&broken, "YAML"),
        (&empty, "it is empty, or has no current-context"),
    ] {
        let error = refused(path);
        assert_eq!(error.code, Code::InvalidConfig, "{error}");
        assert!(error.msg.contains(&format!("kubeconfig {}", path.display())), "{error}");
        assert!(error.msg.contains(part), "{error}");
    }
}

#[test]
fn a_certificate_counts_unless_it_is_said_not_to() {
    let node = Node::new();
    let server = cluster(&node);
    let other = node.fresh_path("other-authority");
    let key = node.fresh_path("other-key");
    node.cmd([
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=other",
        "-keyout",
    ])
    .args([key.to_str().unwrap(), "-out", other.to_str().unwrap()])
    .output()
    .success();
    let uid = add_pod(&server, "web", &json!({}));
    let kubeconfig = server.kubeconfig(&token(&server));
    let set = |keys: Value| {
        changed(&kubeconfig, |config| {
            let server = config["clusters"][0]["cluster"]["server"].take();
            config["clusters"][0]["cluster"] = keys;
            config["clusters"][0]["cluster"]["server"] = server;
        });
        api(&kubeconfig)
    };
    let api = set(json!({ "certificate-authority": other }));
    let error = api.pod(&id("web", None)).unwrap_err();
    assert_says(&error, &["127.0.0.1:6443", "certificate", "authority in kubeconfig"]);
    assert!(
        !error.msg.contains("tried"),
        "a certificate does not become valid by waiting: {error}"
    );

    let api = set(json!({ "insecure-skip-tls-verify": true }));
    assert_eq!(api.pod(&id("web", None)).unwrap().uid, uid);
}
