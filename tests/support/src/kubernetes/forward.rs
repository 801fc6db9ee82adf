//! One connection of a proxy: each request is passed on, or given its fault.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::faults::{Book, Fault, Seen};
use super::http::send;
use super::keys::Keys;

type Body = BoxBody<Bytes, hyper::Error>;

/// How a proxy serves its clients.
#[derive(Clone)]
pub(super) struct Forward {
    server: SocketAddr,
    connector: TlsConnector,
    acceptor: TlsAcceptor,
    book: Arc<Book>,
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the proxy closes the connection")
    }
}

impl std::error::Error for Closed {}

impl Forward {
    pub(super) fn new(server: SocketAddr, keys: &Keys, book: Arc<Book>) -> Self {
        Self { server, connector: keys.connector(), acceptor: keys.acceptor(), book }
    }

    pub(super) async fn connection(&self, stream: TcpStream) {
        // A client that does not trust the certificate, or goes away, sees that itself.
        let Ok(stream) = self.acceptor.accept(stream).await else {
            return;
        };
        let service = service_fn(|request| self.answer(request));
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Closed> {
        let (number, fault) = self.book.note(seen(&request));
        let response = match fault {
            None => self.pass_on(request).await,
            Some(Fault::Slow(time)) => {
                sleep(time).await;
                self.pass_on(request).await
            }
            Some(Fault::Hold) => {
                self.book.held().await;
                self.pass_on(request).await
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Cut) => return Err(Closed),
            Some(Fault::LoseAnswer) => {
                // Done when the whole answer is there.
                let _ = self.pass_on(request).await.into_body().collect().await;
                return Err(Closed);
            }
            Some(Fault::Status(code)) => json_response(code, &status(code)),
            Some(Fault::Expired) => {
                let event = json!({ "type": "ERROR", "object": status(410) });
                json_response(200, &event)
            }
        };
        self.book.note_status(number, response.status().as_u16());
        Ok(response)
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Response<Body> {
        match send(self.server, Some(&self.connector), request).await {
            Ok(response) => response.map(|body| body.boxed()),
            Err(e) => {
                let mut status = status(502);
                status["message"] = json!(format!("the API server does not answer: {e:#}"));
                json_response(502, &status)
            }
        }
    }
}

fn seen(request: &Request<Incoming>) -> Seen {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
    let query = request.uri().query().unwrap_or_default();
    let is_watch = query.split('&').any(|part| part == "watch=true" || part == "watch=1");
    let verb = if is_watch { "WATCH" } else { request.method().as_str() }.to_owned();
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = token.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    Seen { verb, path, token: token.to_owned(), status: None }
}

/// An error as the API server words it.
fn status(code: u16) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "Unknown",
    };
    let message = format!("the proxy of the test answers {reason}");
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

fn json_response(code: u16, body: &Value) -> Response<Body> {
    let full = Full::<Bytes>::from(format!("{body}\n")).map_err(|never: Infallible| match never {});
    Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json")
        .body(full.boxed())
        .unwrap_or_else(|e| panic!("an answer with the status {code}: {e}"))
}
