//! A kubelet's pod-resources API that says what a test wants.

use std::convert::Infallible;
use std::future::pending;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::sync::oneshot;

/// A mock of the kubelet's `v1.PodResourcesLister`, for machines without a device plugin's devices. It speaks gRPC by
/// itself: the messages and their framing are written down here a second time.
///
/// Its socket stays when it is dropped, as a killed kubelet's does.
#[derive(Debug)]
pub struct PodResources {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a [`PodResources`] says when it is asked for its list.
#[derive(Debug, Clone)]
pub enum Says {
    /// These pods have devices.
    Pods(Vec<PodDevices>),
    /// A message of these bytes.
    Bytes(Vec<u8>),
    /// An error of this gRPC status.
    Status(u16, &'static str),
    /// Nothing, for ever.
    Nothing,
}

/// A pod and the devices of its containers, as the message `PodResources`.
#[derive(Debug, Clone)]
pub struct PodDevices(Vec<u8>);

impl PodDevices {
    /// A pod without a container.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self([field(1, name), field(2, namespace)].concat())
    }

    /// Adds a container with these devices of a device plugin's resource.
    #[must_use]
    pub fn devices(mut self, resource: &str, ids: &[&str]) -> Self {
        let ids = ids.iter().map(|id| field(2, id));
        let devices: Vec<u8> = [field(1, resource)].into_iter().chain(ids).flatten().collect();
        self.add_container(field(2, devices));
        self
    }

    /// Adds a container with a claim of dynamic resource allocation, and the CDI devices that it gave.
    #[must_use]
    pub fn claim(mut self, claim: &str, devices: &[&str]) -> Self {
        let devices = devices.iter().map(|name| field(1, field(1, name)));
        let resource = field(4, devices.collect::<Vec<_>>().concat());
        let claim = [field(2, claim), field(3, "default"), resource].concat();
        self.add_container(field(5, claim));
        self
    }

    fn add_container(&mut self, content: Vec<u8>) {
        self.0.extend(field(3, [field(1, "container"), content].concat()));
    }
}

impl PodResources {
    /// Listens on this socket when it returns; one that is left there is replaced.
    pub fn start(socket: impl AsRef<Path>, says: Says) -> Self {
        let socket = socket.as_ref();
        let _ = std::fs::remove_file(socket);
        let listener = StdListener::bind(socket).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = listener.unwrap_or_else(|e| panic!("bind {}: {e}", socket.display()));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap_or_else(|e| panic!("a kubelet's runtime: {e}"));
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, Arc::new(says)) => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for PodResources {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: StdListener, says: Arc<Says>) {
    let listener = UnixListener::from_std(listener).unwrap_or_else(|e| panic!("listen: {e}"));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve_one(stream, Arc::clone(&says)));
    }
}

async fn serve_one(stream: UnixStream, says: Arc<Says>) {
    let service = service_fn(move |request| answer(request, Arc::clone(&says)));
    // A client that goes away early is that client's failure.
    let _ = http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    says: Arc<Says>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_grpc = header("content-type").is_some_and(|kind| kind.starts_with("application/grpc"));
    // Go's server resets a stream that has no authority.
    if !is_grpc || header("te") != Some("trailers") || request.uri().authority().is_none() {
        return Ok(reply(Vec::new(), 3, "this is no gRPC"));
    }
    if request.uri().path() != "/v1.PodResourcesLister/List" {
        return Ok(reply(Vec::new(), 12, "unknown method"));
    }
    let message = match &*says {
        Says::Pods(pods) => pods.iter().flat_map(|pod| field(1, &pod.0)).collect(),
        Says::Bytes(bytes) => bytes.clone(),
        Says::Status(code, message) => return Ok(reply(Vec::new(), *code, message)),
        Says::Nothing => pending().await,
    };
    let length = u32::try_from(message.len()).unwrap_or_else(|e| panic!("an answer's size: {e}"));
    let frame = [&[0][..], &length.to_be_bytes(), &message].concat();
    Ok(reply(frame, 0, ""))
}

fn reply(
    body: Vec<u8>,
    status: u16,
    message: &'static str,
) -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    trailers.insert("grpc-message", HeaderValue::from_static(message));
    let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// A field of a protobuf message that has a length: text, or a message.
pub(crate) fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = vec![number << 3 | 2];
    let mut rest = content.len();
    while rest > 0x7f {
        bytes.push(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.extend(content);
    bytes
}
