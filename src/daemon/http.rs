//! `/healthz`, `/readyz` and `/metrics`, over TCP where that is asked for, and always on a socket of the node.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    time::sleep,
};

use super::{health::Health, metrics::Metrics};

/// Where requests come from.
pub enum Door {
    /// The network.
    Tcp(TcpListener),
    /// A socket of the node, for root alone.
    Unix(UnixListener),
}

/// Accepts connections for ever.
pub async fn serve(door: Door, metrics: Arc<Metrics>, health: Arc<Health>) {
    loop {
        let accepted = match &door {
            Door::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(connected(stream, metrics.clone(), health.clone()));
            }),
            Door::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::spawn(connected(stream, metrics.clone(), health.clone()));
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection could not be accepted");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn connected(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &metrics, &health);
        async move { Ok::<_, Infallible>(answer) }
    });
    // Whoever connects and says nothing is cut off.
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke off");
    }
}

fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    health: &Health,
) -> Response<Full<Bytes>> {
    let plain = "text/plain; charset=utf-8";
    let (status, content, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, plain, "ok\n".to_owned()),
        (&Method::GET | &Method::HEAD, "/readyz") => match health.missing().as_slice() {
            [] => (StatusCode::OK, plain, "ok\n".to_owned()),
            missing => {
                (StatusCode::SERVICE_UNAVAILABLE, plain, format!("{}\n", missing.join("\n")))
            }
        },
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, open_metrics, metrics.text())
        }
        (_, "/healthz" | "/readyz" | "/metrics") => {
            (StatusCode::METHOD_NOT_ALLOWED, plain, "GET it\n".to_owned())
        }
        _ => {
            let pages = "here are /healthz, /readyz and /metrics\n".to_owned();
            (StatusCode::NOT_FOUND, plain, pages)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content = hyper::header::HeaderValue::from_static(content);
    response.headers_mut().insert(CONTENT_TYPE, content);
    response
}
