//! Single requests over HTTP, with or without TLS.

use std::net::SocketAddr;

use anyhow::Context as _;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// Sends `request` over a connection of its own.
pub(super) async fn send<B>(
    address: SocketAddr,
    tls: Option<&TlsConnector>,
    request: Request<B>,
) -> anyhow::Result<Response<Incoming>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.with_context(|| format!("to {address}"))?;
    match tls {
        Some(tls) => {
            let name = ServerName::from(address.ip());
            let stream = tls.connect(name, stream).await.context("the TLS handshake")?;
            over(stream, request).await
        }
        None => over(stream, request).await,
    }
}

async fn over<S, B>(stream: S, request: Request<B>) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the response's body, or when nobody wants that any more.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
