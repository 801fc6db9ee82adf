//! A client of the API for the test itself: verbs, paths and JSON.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Deserializer, Value};
use tokio::runtime;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::http::send;
use super::keys::connector;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The whole body.
    pub text: String,
    request: String,
}

impl Answer {
    /// The body as JSON; panics unless the status is one of success.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(self.is_success(), "{self}");
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self}"))
    }

    /// The events of a watch; panics unless the status is one of success.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        assert!(self.is_success(), "{self}");
        Deserializer::from_str(&self.text)
            .into_iter()
            .map(|event| event.unwrap_or_else(|e| panic!("{e}: {self}")))
            .collect()
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n{}", self.request, self.status, self.text)
    }
}

/// A client with one user's token. It blocks, and uses a connection for each request.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    /// Empty for nobody in particular.
    token: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(address: SocketAddr, tls: Option<TlsConnector>, token: &str) -> Self {
        Self { address, tls, token: token.to_owned() }
    }

    /// The client that a kubeconfig of [`ApiServer`](super::ApiServer) is for.
    ///
    /// # Panics
    /// For one of somebody else's.
    pub fn of_kubeconfig(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let config: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let field = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{text}")).to_owned();
        let cluster = &config["clusters"][0]["cluster"];
        let authority = field(&cluster["certificate-authority"]);
        let server = field(&cluster["server"]);
        let address = server.strip_prefix("https://").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("{server} is no address"));
        let token = field(&config["users"][0]["user"]["token"]);
        Self::new(address, Some(connector(Path::new(&authority))), &token)
    }

    /// The object or list at `path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.request("GET", path, None).json()
    }

    /// The object at `path`, `None` where there is none.
    #[track_caller]
    pub fn find(&self, path: &str) -> Option<Value> {
        let answer = self.request("GET", path, None);
        (answer.status != 404).then(|| answer.json())
    }

    /// The items of the list at `path`.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<Value> {
        self.get(path)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Puts an object into the collection at `path`.
    #[track_caller]
    pub fn create(&self, path: &str, object: &Value) -> Value {
        self.request("POST", path, Some(object)).json()
    }

    /// Merges `patch` into the object at `path`.
    #[track_caller]
    pub fn patch(&self, path: &str, patch: &Value) -> Value {
        self.request("PATCH", path, Some(patch)).json()
    }

    /// Deletes the object at `path`.
    #[track_caller]
    pub fn delete(&self, path: &str) -> Value {
        self.request("DELETE", path, None).json()
    }

    /// Sends a request and returns what came of it, also where the server refuses. A PATCH is a merge
    /// patch. Panics if the server cannot be reached.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let answer = self.try_request(method, path, body);
        answer.unwrap_or_else(|e| panic!("{method} {path} of {}: {e:#}", self.address))
    }

    /// The same for a server that may not be there.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let kind = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", kind);
        let request = match self.token.as_str() {
            "" => request,
            token => request.header("authorization", format!("Bearer {token}")),
        };
        let request =
            request.body(Full::<Bytes>::from(body.map(Value::to_string).unwrap_or_default()))?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (status, body) = runtime.block_on(async {
            let exchange = async {
                let response = send(self.address, self.tls.as_ref(), request).await?;
                let status = response.status().as_u16();
                anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
            };
            timeout(PATIENCE, exchange).await.context("no answer in time")?
        })?;
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status, text, request: format!("{method} {path}") })
    }
}
