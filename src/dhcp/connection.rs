//! One plugin at the daemon's socket: Go's `net/rpc` over HTTP's CONNECT.

use std::{convert::Infallible, io, path::PathBuf, sync::Arc, time::Duration};

use delegates::ipam::dhcp::{
    gob::{self, Encoder, Type, Types, Value},
    result, rpc,
};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    ext::ReasonPhrase,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::UnixStream,
    sync::{Mutex, OwnedSemaphorePermit},
    task::JoinSet,
    time::timeout,
};

use super::{call::Asked, keeper::Keeper};

/// How long a plugin may take to send what it has begun, and to take an answer.
const SENDING: Duration = Duration::from_secs(10);
/// How long a plugin that waits for nothing may be silent.
const IDLE: Duration = Duration::from_secs(300);
/// How many calls a plugin may have at work at once.
const AT_ONCE: usize = 32;

/// A plugin that has connected.
pub struct Connection {
    pub keeper: Arc<Keeper>,
    pub host_prefix: PathBuf,
    /// Its place among those that may be connected at once.
    pub _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Serves it until it hangs up.
    pub async fn serve(self: Arc<Self>, stream: UnixStream) {
        let service = service_fn(|request: Request<Incoming>| {
            let answer = self.welcome(request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(SENDING)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%error, "a plugin's connection broke off");
        }
    }

    fn welcome(self: &Arc<Self>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let refused = |status, text: &'static str| {
            let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
            *response.status_mut() = status;
            response
        };
        if request.uri().path() != rpc::PATH {
            return refused(StatusCode::NOT_FOUND, "this is a DHCP daemon's socket\n");
        }
        if request.method() != Method::CONNECT {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "405 must CONNECT\n");
        }
        let this = self.clone();
        tokio::spawn(async move {
            match hyper::upgrade::on(&mut request).await {
                Ok(stream) => this.calls(TokioIo::new(stream)).await,
                Err(error) => tracing::debug!(%error, "a plugin's connection broke off"),
            }
        });
        let mut response = Response::default();
        response.extensions_mut().insert(ReasonPhrase::from_static(rpc::REASON.as_bytes()));
        response
    }

    /// Serves calls until the plugin hangs up. Those that are at work then are broken off.
    async fn calls<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (mut requests, answers) = split(stream);
        let answers = Arc::new(Mutex::new(Answers { to: answers, encoder: Encoder::default() }));
        let mut types = Types::default();
        let mut at_work = JoinSet::new();
        loop {
            let first = match timeout(IDLE, requests.read_u8()).await {
                Ok(first) => first,
                Err(_elapsed) => {
                    while at_work.try_join_next().is_some() {}
                    if at_work.is_empty() {
                        return;
                    }
                    continue;
                }
            };
            let request = async {
                let head = next(&mut requests, &mut types, Some(first?)).await?;
                let body = next(&mut requests, &mut types, None).await?;
                Ok::<_, io::Error>((head, body))
            };
            let (head, body) = match request.await {
                Ok(request) => request,
                Err(error) => {
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        tracing::debug!(%error, "a plugin is hung up on");
                    }
                    return;
                }
            };
            while at_work.try_join_next().is_some() {}
            if at_work.len() >= AT_ONCE {
                tracing::debug!("a plugin with {AT_ONCE} calls at work is hung up on");
                return;
            }
            let (this, answers) = (self.clone(), answers.clone());
            at_work.spawn(async move { this.call(&head, &body, &answers).await });
        }
    }

    async fn call<S: AsyncWrite>(&self, head: &Value, body: &Value, answers: &Mutex<Answers<S>>) {
        let asked = || Asked::read(body, &self.host_prefix);
        let method = head.text("ServiceMethod");
        let mut leased = None;
        let done = match method {
            rpc::ALLOCATE => match asked() {
                Ok(asked) => self.keeper.lease(asked).await.map(|lease| {
                    let value = result::told(&lease.result);
                    leased = Some(lease);
                    value
                }),
                Err(why) => Err(why),
            },
            rpc::RELEASE => match asked() {
                Ok(asked) => {
                    self.keeper.release(&asked.key).await;
                    Ok(Value::Struct(Vec::new()))
                }
                Err(why) => Err(why),
            },
            rpc::STATUS => self.keeper.status().await.map(|()| Value::Struct(Vec::new())),
            _ => Err(rpc::Failure::unknown(method)),
        };
        let of = if leased.is_some() { result::TYPE } else { rpc::NOTHING };
        let answered = answers.lock().await.answer(head, &of, done).await;
        match (answered, leased) {
            // The plugin has it: from now on it is kept.
            (Ok(()), Some(lease)) => lease.delivered(),
            (Ok(()), None) => {}
            // What was leased for this call is given back as it is dropped.
            (Err(error), _) => tracing::debug!(%error, "a plugin did not take its answer"),
        }
    }
}

/// The way back to a plugin.
struct Answers<S> {
    to: WriteHalf<S>,
    encoder: Encoder,
}

impl<S: AsyncWrite> Answers<S> {
    async fn answer(
        &mut self,
        head: &Value,
        of: &Type,
        done: Result<Value, String>,
    ) -> io::Result<()> {
        let (body, error) = match done {
            Ok(body) => (body, String::new()),
            Err(error) => (Value::Struct(Vec::new()), error),
        };
        let response = Value::Struct(vec![
            ("ServiceMethod".to_owned(), Value::String(head.text("ServiceMethod").to_owned())),
            ("Seq".to_owned(), Value::Uint(head.number("Seq"))),
            ("Error".to_owned(), Value::String(error)),
        ]);
        let mut out = Vec::new();
        self.encoder.encode(&mut out, &rpc::RESPONSE, &response)?;
        self.encoder.encode(&mut out, of, &body)?;
        timeout(SENDING, self.to.write_all(&out)).await?
    }
}

/// The next value of a stream, of which the first byte may have been read.
async fn next<S: AsyncRead>(
    from: &mut ReadHalf<S>,
    types: &mut Types,
    mut first: Option<u8>,
) -> io::Result<Value> {
    loop {
        let first = match first.take() {
            Some(first) => first,
            None => timeout(SENDING, from.read_u8()).await??,
        };
        let message = timeout(SENDING, message(from, first)).await??;
        if let Some(value) = types.read(&message)? {
            return Ok(value);
        }
    }
}

async fn message<S: AsyncRead>(from: &mut ReadHalf<S>, first: u8) -> io::Result<Vec<u8>> {
    let length = match gob::length(first)? {
        Ok(length) => length,
        Err(count) => {
            let mut all = [0; 8];
            from.read_exact(&mut all[8 - count..]).await?;
            u64::from_be_bytes(all)
        }
    };
    if length > gob::LONGEST {
        let why = format!("a message of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut message = Vec::new();
    from.take(length).read_to_end(&mut message).await?;
    match message.len() as u64 == length {
        true => Ok(message),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
