//! Where an API server is, and who asks: a kubeconfig file or a pod's service account.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use chain::{Error, Result};
use hyper::{
    Uri,
    header::HeaderValue,
    rt::{Read, Write},
};
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connection, HttpConnector},
    },
    rt::TokioExecutor,
};
use kube::{
    Client,
    client::ConfigExt,
    config::{
        AuthInfo, Cluster, Config, Context, KubeConfigOptions, Kubeconfig, KubeconfigError,
        NamedAuthInfo, NamedCluster, NamedContext,
    },
};
use secrecy::ExposeSecret;
use tower::{BoxError, Service, ServiceBuilder};

use super::proxy::Proxy;

/// Where a pod has its service account's `token` and `ca.crt`.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// How long a connection may be silent before the kernel asks whether the server is still there, how long it waits for an
/// answer, and how often it asks. A watch sends nothing by itself: it would wait for ever at a connection that ends without a
/// word, as when this node's own address changes.
const SILENCE: Duration = Duration::from_secs(10);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;

/// What says where the API server is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A kubeconfig file; its current context counts.
    Kubeconfig(PathBuf),
    /// The variables `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`, and a folder with `token` and `ca.crt`.
    InCluster {
        /// The address or name.
        host: String,
        /// The port.
        port: String,
        /// The folder, usually [`SERVICE_ACCOUNT`].
        folder: PathBuf,
    },
}

impl Source {
    /// The pod's own cluster by its environment, with the service account in `folder`; `None` outside of pods.
    pub fn in_cluster(folder: &Path) -> Option<Self> {
        Self::of_variables(|name| env::var(name).ok(), folder)
    }

    fn of_variables(variable: impl Fn(&str) -> Option<String>, folder: &Path) -> Option<Self> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        Some(Self::InCluster {
            host: given("KUBERNETES_SERVICE_HOST")?,
            port: given("KUBERNETES_SERVICE_PORT")?,
            folder: folder.to_owned(),
        })
    }

    /// A client, with the URL of its server, as the files say now. Has to be called within a runtime.
    pub(super) async fn client(&self) -> Result<(Client, String)> {
        let failed = |error: KubeconfigError| match error {
            KubeconfigError::CurrentContextNotSet => Error::config(format!(
                "{self}: it is empty, or has no current-context: name the context that is to be used"
            )),
            error => Error::config(format!("{self}: {error}")),
        };
        let kubeconfig = match self {
            Self::Kubeconfig(path) => Kubeconfig::read_from(path).map_err(failed)?,
            Self::InCluster { host, port, folder } => service_account(host, port, folder),
        };
        let own_proxy = own_proxy(&kubeconfig);
        let options = KubeConfigOptions::default();
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
        if config.accept_invalid_certs {
            // None would have the host's certificates read, for nothing.
            config.root_cert.get_or_insert_default();
        }
        if let Self::InCluster { folder, .. } = self {
            config.root_cert_file = Some(folder.join("ca.crt"));
        }
        require_token(&config.auth_info).map_err(|error| error.context(self))?;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let proxy =
            Proxy::to(&config.cluster_url, own_proxy.as_deref(), |name| env::var(name).ok())
                .map_err(|error| error.context(self))?;
        let client =
            client(config, proxy).map_err(|error| Error::config(format!("{self}: {error}")))?;
        Ok((client, url))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig(path) => write!(f, "kubeconfig {}", path.display()),
            Self::InCluster { folder, .. } => write!(f, "service account {}", folder.display()),
        }
    }
}

/// A client as kube makes it of a configuration, but for four things. Its first request is not held back until the end of the
/// handshake is acknowledged, which a server puts off for 40 ms. It does not repeat requests: that is done where their time
/// is limited. A connection that has died in silence is noticed. And the environment says whether the server is behind a proxy, not whether the proxy is.
fn client(config: Config, proxy: Option<Proxy>) -> kube::Result<Client> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    connector.set_keepalive(Some(SILENCE));
    connector.set_keepalive_interval(Some(PROBE_INTERVAL));
    connector.set_keepalive_retries(Some(PROBES));
    match proxy {
        None => client_by(&config, connector),
        Some(proxy) => client_by(&config, proxy.tunnel(connector)),
    }
}

/// `connector` makes the connections that TLS is spoken on.
fn client_by<C>(config: &Config, connector: C) -> kube::Result<Client>
where
    C: Service<Uri, Error: Into<BoxError>, Future: Send> + Clone + Send + Sync + 'static,
    C::Response: Connection + Read + Write + Send + Unpin + 'static,
{
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build(connector));
    Ok(Client::new(service, &config.default_namespace))
}

/// Refuses a token that no request can have: the libraries below would panic over it, or try it again and again.
///
/// Errors (7): it has a line break or another control character in it.
fn require_token(user: &AuthInfo) -> Result<()> {
    let (token, place) = match (&user.token, &user.token_file) {
        (Some(token), _) => (token.expose_secret().to_owned(), "its user's token".to_owned()),
        // One that cannot be read is told of by who reads it, each time anew.
        (None, Some(file)) => {
            let token = fs::read_to_string(file).unwrap_or_default();
            (token.trim().to_owned(), format!("the token in {file}"))
        }
        (None, None) => return Ok(()),
    };
    match HeaderValue::from_str(&token) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::config(format!(
            "{place} has a line break or another control character in it: write it as one word"
        ))),
    }
}

/// The proxy that the current context's cluster names.
fn own_proxy(kubeconfig: &Kubeconfig) -> Option<String> {
    let named =
        |context: &&NamedContext| Some(&context.name) == kubeconfig.current_context.as_ref();
    let context = kubeconfig.contexts.iter().find(named)?.context.as_ref()?;
    let cluster = kubeconfig.clusters.iter().find(|cluster| cluster.name == context.cluster)?;
    cluster.cluster.as_ref()?.proxy_url.clone().filter(|url| !url.is_empty())
}

/// The kubeconfig that a service account amounts to.
fn service_account(host: &str, port: &str, folder: &Path) -> Kubeconfig {
    let file = |name| folder.join(name).to_string_lossy().into_owned();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let name = "in-cluster".to_owned();
    Kubeconfig {
        current_context: Some(name.clone()),
        contexts: vec![NamedContext {
            name: name.clone(),
            context: Some(Context {
                cluster: name.clone(),
                user: Some(name.clone()),
                ..Default::default()
            }),
            other: Default::default(),
        }],
        clusters: vec![NamedCluster {
            name: name.clone(),
            cluster: Some(Cluster {
                server: Some(format!("https://{host}:{port}")),
                certificate_authority: Some(file("ca.crt")),
                ..Default::default()
            }),
            other: Default::default(),
        }],
        auth_infos: vec![NamedAuthInfo {
            name,
            auth_info: Some(AuthInfo { token_file: Some(file("token")), ..Default::default() }),
            other: Default::default(),
        }],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_cluster_needs_both_variables() {
        let source = |host: &'static str, port: &'static str| {
            let variable = move |name: &str| match name {
                "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
                _ => None,
            };
            Source::of_variables(variable, Path::new(SERVICE_ACCOUNT))
        };
        assert!(source("", "443").is_none());
        assert!(source("10.96.0.1", "").is_none());
        assert!(Source::of_variables(|_| None, Path::new(SERVICE_ACCOUNT)).is_none());
        let source = source("10.96.0.1", "443").unwrap();
        assert_eq!(source.to_string(), format!("service account {SERVICE_ACCOUNT}"));
    }

    #[test]
    fn a_token_that_no_request_can_have_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let token_file = Some(file.to_string_lossy().into_owned());
        for (text, inline, read) in [
            ("abc", true, true),
            ("abc\n", false, true),
            ("ab\nc", false, false),
            ("a\0", false, false),
        ] {
            let user = AuthInfo { token: Some(text.to_owned().into()), ..Default::default() };
            assert_eq!(require_token(&user).is_ok(), inline, "{text:?}");
            fs::write(&file, text).unwrap();
            let user = AuthInfo { token_file: token_file.clone(), ..Default::default() };
            assert_eq!(require_token(&user).is_ok(), read, "{text:?}");
        }
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        for (host, url) in [
            ("10.96.0.1", "https://10.96.0.1:443"),
            ("fd00::1", "https://[fd00::1]:443"),
            ("api.example", "https://api.example:443"),
        ] {
            let kubeconfig = service_account(host, "443", Path::new("/account"));
            let cluster = kubeconfig.clusters[0].cluster.as_ref().unwrap();
            assert_eq!(cluster.server.as_deref(), Some(url));
            assert_eq!(cluster.certificate_authority.as_deref(), Some("/account/ca.crt"));
        }
    }
}
