//! A cluster's keys and certificates, made by openssl.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::exec::Run;

/// What the tokens of service accounts name as their issuer and their audience.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc";

/// How long after its end go-jose, and so the API server, still takes a token.
const LEEWAY: Duration = Duration::from_secs(60);

const CURVE: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// A certificate authority, a server's certificate for the loopback addresses, and the key that signs
/// the tokens of service accounts.
#[derive(Debug, Clone)]
pub(super) struct Keys(PathBuf);

impl Keys {
    /// Makes them in `dir`.
    pub(super) fn make(dir: PathBuf) -> Self {
        let keys = Self(dir);
        keys.certificate("ca", &["-subj", "/CN=testnode CA"]);
        let (authority, key) = (keys.certificate_of("ca"), keys.key_of("ca"));
        let [authority, key] = [authority, key].map(|path| path.display().to_string());
        let signed_by = ["-CA", &authority, "-CAkey", &key, "-subj", "/CN=kube-apiserver"];
        // The last is where a virtual machine finds the node's loopback.
        let names = "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost,IP:10.0.2.2";
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", names];
        keys.certificate("server", &[&signed_by[..], &leaf].concat());
        let key = keys.key_of("accounts");
        let words = ["openssl", "genrsa", "-out"].map(OsStr::new);
        Run::new(words.into_iter().chain([key.as_os_str()])).output().success();
        keys
    }

    fn certificate(&self, name: &str, options: &[&str]) {
        let (key, certificate) = (self.key_of(name), self.certificate_of(name));
        Run::new(["openssl", "req", "-x509", "-days", "2"])
            .args(CURVE)
            .args(options)
            .args([OsStr::new("-keyout"), key.as_os_str()])
            .args([OsStr::new("-out"), certificate.as_os_str()])
            .output()
            .success();
    }

    pub(super) fn authority(&self) -> PathBuf {
        self.certificate_of("ca")
    }

    /// The certificate and the key of `server` or `ca`.
    pub(super) fn certificate_of(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.crt"))
    }

    /// The private key of `server`, `ca` or `accounts`.
    pub(super) fn key_of(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// For clients of the API server.
    pub(super) fn connector(&self) -> TlsConnector {
        connector(&self.authority())
    }

    /// For who answers in the API server's stead.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let path = self.key_of("server");
        let key = PrivateKeyDer::from_pem_file(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap_or_else(|e| panic!("TLS: {e}"))
            .with_no_client_auth()
            .with_single_cert(certificates(&self.certificate_of("server")), key)
            .unwrap_or_else(|e| panic!("the server's certificate: {e}"));
        TlsAcceptor::from(Arc::new(config))
    }

    /// A token of a service account as the API server would issue it, but for any time.
    pub(super) fn sign_token(&self, account: &Value, lifetime: Duration) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = now + lifetime;
        let meta = &account["metadata"];
        let (namespace, name) = (&meta["namespace"], &meta["name"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let claims = json!({
            "iss": ISSUER,
            "aud": [ISSUER],
            "sub": format!("system:serviceaccount:{}:{}", text(namespace), text(name)),
            "iat": (now - 2 * LEEWAY).as_secs(),
            "nbf": (now - 2 * LEEWAY).as_secs(),
            "exp": (end - LEEWAY).as_secs(),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": name, "uid": meta["uid"] },
            },
        });
        let parts = [json!({ "alg": "RS256", "typ": "JWT" }), claims];
        let signed = parts.map(|part| base64url(&part.to_string())).join(".");
        let key = self.key_of("accounts");
        let pipe = format!("openssl dgst -sha256 -sign '{}' | {BASE64URL}", key.display());
        format!("{signed}.{}", shell(&pipe, &signed))
    }
}

/// For clients of a server with a certificate of this authority.
pub(super) fn connector(authority: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority) {
        roots.add(certificate).unwrap_or_else(|e| panic!("the CA's certificate: {e}"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap_or_else(|e| panic!("TLS: {e}"))
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

const BASE64URL: &str = "basenc --base64url --wrap=0 | tr -d =";

fn base64url(text: &str) -> String {
    shell(BASE64URL, text)
}

fn shell(script: &str, stdin: &str) -> String {
    Run::new(["sh", "-ec", script]).stdin(stdin).output().success()
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let pem = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
