//! The page that a trial serves inside the container and fetches through the mapped port, and its like for UDP.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use chain::{Error, Result};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{runtime::Builder, time::timeout};

/// How long a fetch may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(3);

/// Serves the page on every address of the calling thread's namespace, until the process ends. The page tells the
/// client's address as the container sees it.
pub fn serve_http(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("page".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (stream, client) = listener.accept().await?;
                let page = service_fn(move |_: Request<hyper::body::Incoming>| async move {
                    let text = client.ip().to_canonical().to_string();
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
                });
                let connection = hyper::server::conn::http1::Builder::new();
                let served = connection.serve_connection(TokioIo::new(stream), page).await;
                if let Err(error) = served {
                    tracing::debug!("page for {client}: {error}");
                }
            }
            #[allow(unreachable_code, reason = "it types the block")]
            Ok::<_, io::Error>(())
        })
    })?;
    Ok(())
}

/// Fetches the page from the calling thread's namespace; what it says is the client's address as the container saw it.
pub fn fetch_http(server: SocketAddr) -> Result<IpAddr> {
    let failed = |error: String| Error::io(format!("fetch http://{server}/: {error}"));
    let stream =
        TcpStream::connect_timeout(&server, PATIENCE).map_err(|e| failed(e.to_string()))?;
    stream.set_nonblocking(true).map_err(|e| failed(e.to_string()))?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(|e| failed(e.to_string()))?;
    let exchange = async {
        let stream = tokio::net::TcpStream::from_std(stream).map_err(|e| e.to_string())?;
        let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        let connection = tokio::spawn(connection);
        let request = Request::get("/")
            .header(hyper::header::HOST, server.to_string())
            .body(Full::<Bytes>::default())
            .map_err(|e| e.to_string())?;
        let answer = client.send_request(request).await.map_err(|e| e.to_string())?;
        let body = answer.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
        connection.abort();
        Ok::<_, String>(String::from_utf8_lossy(&body).into_owned())
    };
    let fetched = runtime.block_on(async { timeout(PATIENCE, exchange).await });
    let text =
        fetched.map_err(|_| failed(format!("no answer in {PATIENCE:?}")))?.map_err(failed)?;
    text.parse().map_err(|_| failed(format!("somebody else answered: {text:?}")))
}

/// Answers datagrams with the client's address, like the page.
pub fn serve_udp(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?;
    thread::Builder::new().name("datagrams".into()).spawn(move || {
        let mut datagram = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut datagram) {
            let text = client.ip().to_canonical().to_string();
            if let Err(error) = socket.send_to(text.as_bytes(), client) {
                tracing::debug!("datagram for {client}: {error}");
            }
        }
    })?;
    Ok(())
}

/// Asks for a datagram from the calling thread's namespace, as [`fetch_http`] asks for a page.
pub fn fetch_udp(server: SocketAddr) -> Result<IpAddr> {
    let failed = |error: String| Error::io(format!("ask udp://{server}: {error}"));
    let any: SocketAddr =
        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let asked = || {
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(server)?;
        socket.send(b"who am I?")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let text = asked().map_err(|error| failed(error.to_string()))?;
    text.parse().map_err(|_| failed(format!("somebody else answered: {text:?}")))
}
