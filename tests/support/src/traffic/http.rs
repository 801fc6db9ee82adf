//! A page that tells who fetched it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::listener::{Peers, Service, any, plain};
use crate::netns::Netns;

const PATIENCE: Duration = Duration::from_secs(3);

/// An HTTP server in a namespace, on both families. It answers every request with a text and the
/// address that it saw the client under.
#[derive(Debug)]
pub struct HttpServer {
    peers: Peers,
    _service: Service,
}

impl HttpServer {
    /// Serves `text` on `port` of all addresses of `netns`; listens when this returns.
    pub fn start(netns: &Netns, port: u16, text: &str) -> Self {
        Self::start_at(netns, any(port), text)
    }

    /// Serves `text` on one address.
    pub fn start_at(netns: &Netns, address: SocketAddr, text: &str) -> Self {
        let peers = Peers::default();
        let (seen, text) = (peers.clone(), text.to_owned());
        let service = Service::start(
            netns,
            format!("an HTTP server on {address}"),
            move || TcpListener::bind(address),
            move |listener| {
                let Ok((stream, peer)) = listener.accept() else {
                    return;
                };
                let peer = plain(peer);
                seen.push(peer);
                // A client that goes away early is that client's failure.
                let _ = answer(stream, &json!({ "text": text, "from": peer.to_string() }));
            },
        );
        Self { peers, _service: service }
    }

    /// The clients' addresses as the server saw them, in the order they came.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.peers.list()
    }
}

fn answer(mut stream: TcpStream, body: &Value) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(&mut stream);
    let mut line = String::new();
    // The head of the request ends with an empty line; a GET has no more.
    while request.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        line.clear();
    }
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// What an [`HttpServer`] answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// The server's text: which server it was.
    pub text: String,
    /// The address that the server saw the client under.
    pub from: SocketAddr,
}

/// Fetches `url` from an [`HttpServer`] with `curl`, in `from`, within three seconds. An IPv6
/// address in the URL is written in brackets.
///
/// # Errors
/// curl's, with its exit code (7: refused, 28: timed out); an answer of another server.
pub fn http_get(from: &Netns, url: &str) -> anyhow::Result<HttpAnswer> {
    let seconds = PATIENCE.as_secs().to_string();
    let curl = ["curl", "--silent", "--show-error", "--fail", "--globoff", "--noproxy", "*"];
    let output = from.try_run(curl.into_iter().chain(["--max-time", &seconds, url]));
    if !output.is_success() {
        bail!("{} from {}: {output}", url, from.name());
    }
    let answer: Value = serde_json::from_str(&output.stdout)
        .with_context(|| format!("{url} gave something else: {}", output.stdout))?;
    let field = |name: &str| {
        answer[name].as_str().with_context(|| format!("{url} gave {answer}, without {name}"))
    };
    Ok(HttpAnswer { text: field("text")?.to_owned(), from: field("from")?.parse()? })
}
