//! Multus's own protocol, for its shim: HTTP on `multus.sock`.
//!
//! `POST /cni` has a call in it, and is answered by `{"Result": …}` in the form of CNI 1.0.0, or by status 400 with the error.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ffi::OsString,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chain::{CniResult, Error, Result, Verb, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::{UnixListener, UnixStream},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    server::Server,
    socket::{bind, is_allowed},
};
use crate::{
    handover::MAX_REQUEST,
    multus_shim::{self, DaemonConfig},
    plugin::{Invocation, Served, version_of},
};

/// How long a shim may take to send its request.
const SENDING: Duration = Duration::from_secs(10);

/// Why `POST /delegate` is refused. Its caller writes the pod's status as well: both would do so by turns.
const NO_DELEGATE: &str = "/delegate is not served: catena's daemon attaches running pods to what their annotation asks for \
                           by itself; remove multus-dynamic-networks-controller";

/// A call as Multus's shim sends it.
#[derive(Debug, Deserialize)]
struct Call {
    /// The shim's environment.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Its standard input, in base64.
    #[serde(default)]
    config: String,
}

/// The socket of Multus's shims. Its file goes when this is dropped; connections are served to their end.
pub struct Shims {
    socket: PathBuf,
    accepting: AbortHandle,
}

impl Shims {
    /// Serves shims at the place that `config` says: hands their calls to `server`, with `config` laid over each. To be
    /// called within the runtime.
    pub fn serve(server: Arc<Server>, config: DaemonConfig) -> Result<Self> {
        let dir = config.socket_dir();
        let socket = dir.join("multus.sock");
        let listener = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .and_then(|()| bind(&socket))
            .map_err(|error| Error::io(format!("socket {}: {error}", socket.display())))?;
        let multus = Arc::new(Multus { server, config });
        let accepting = tokio::spawn(multus.accept(listener)).abort_handle();
        Ok(Self { socket, accepting })
    }
}

impl Drop for Shims {
    fn drop(&mut self) {
        self.accepting.abort();
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::debug!(path = %self.socket.display(), %error, "the socket stays");
        }
    }
}

/// Serves Multus's shims.
struct Multus {
    server: Arc<Server>,
    config: DaemonConfig,
}

impl Multus {
    /// Accepts connections for ever.
    async fn accept(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) if is_allowed(&stream) => {
                    tokio::spawn(self.clone().connected(stream));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connected(self: Arc<Self>, stream: UnixStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let own = self.clone();
            async move { Ok::<_, Infallible>(own.answer(request).await) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(30))
            // Go's client shuts nothing down, but others may.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a connection broke off");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::POST, "/healthz" | "/readyz") => {
                respond(StatusCode::OK, String::new())
            }
            (&Method::POST, "/cni") => match self.read(request).await {
                Ok(invocation) => self.serve(invocation).await,
                Err(error) => failed(&Served::failed(&error, Version::LATEST)),
            },
            (_, "/delegate") => {
                failed(&Served::failed(&Error::config(NO_DELEGATE), Version::LATEST))
            }
            (_, "/cni") => respond(StatusCode::METHOD_NOT_ALLOWED, "POST it\n".to_owned()),
            _ => respond(StatusCode::NOT_FOUND, "here are /cni and /healthz\n".to_owned()),
        }
    }

    async fn read(&self, request: Request<Incoming>) -> Result<Invocation> {
        let body = Limited::new(request.into_body(), MAX_REQUEST).collect();
        let body = match timeout(SENDING, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(Error::io(format!("the request: {error}"))),
            Err(_elapsed) => {
                let seconds = SENDING.as_secs();
                return Err(Error::io(format!("no whole request within {seconds} s")));
            }
        };
        let undecodable = |error: &dyn std::fmt::Display| {
            Error::new(chain::Code::Decode, format!("the request: {error}"))
        };
        let call: Call = serde_json::from_slice(&body).map_err(|error| undecodable(&error))?;
        let stdin = BASE64_STANDARD.decode(&call.config).map_err(|error| undecodable(&error))?;
        let get = |name: &str| call.env.get(name).map(OsString::from);
        let command = get("CNI_COMMAND").unwrap_or_default();
        Invocation::read(multus_shim::KIND, &command, get, || Ok(self.config.lay_over(stdin)))
    }

    async fn serve(&self, invocation: Invocation) -> Response<Full<Bytes>> {
        let verb = invocation.verb;
        let version = version_of(&invocation.stdin).unwrap_or(Version::LATEST);
        let served = match self.server.call(invocation).await {
            Ok(served) => served,
            Err(why) => return respond(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        };
        if !served.ok {
            return failed(&served);
        }
        if verb != Verb::Add {
            return respond(StatusCode::OK, String::new());
        }
        match in_version_1(&served, version) {
            Ok(result) => respond(StatusCode::OK, json!({ "Result": result }).to_string()),
            Err(error) => failed(&Served::failed(&error, version)),
        }
    }
}

/// The shim reads the form of 1.0.0, and turns it into that of its configuration itself.
fn in_version_1(served: &Served, version: Version) -> Result<Value> {
    let result: Value = serde_json::from_str(&served.stdout)
        .map_err(|error| Error::internal(format!("the result: {error}")))?;
    CniResult::from_json(result, version)?.to_json(Version::V1_0_0)
}

fn failed(served: &Served) -> Response<Full<Bytes>> {
    respond(StatusCode::BAD_REQUEST, served.stdout.clone())
}

fn respond(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
