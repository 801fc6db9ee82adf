//! A device plugin of the kubelet's.

mod connection;

use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::pod_resources::field;

/// Where the kubelet and the plugins find each other, wherever else the kubelet keeps its files.
const FOLDER: &str = "/var/lib/kubelet/device-plugins";

/// For the kubelet's answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A device plugin (`v1beta1`) whose devices are names alone: containers get nothing of them but the assignment, which the
/// kubelet keeps and tells by its pod-resources API.
#[derive(Debug)]
pub struct DevicePlugin {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DevicePlugin {
    /// Tells the node's kubelet, 1.`minor`, of healthy devices with these ids, of the resource `<vendor domain>/<name>`. The kubelet has
    /// let the plugin in when this returns, and adds the devices to its node a little later; the error says why it has not.
    pub(crate) fn start(minor: u32, resource: &str, ids: &[&str]) -> Result<Self, String> {
        let name = format!("{}.sock", resource.replace('/', "-"));
        let device = |id: &&str| field(1, [field(1, id), field(2, "Healthy")].concat());
        let devices = ids.iter().flat_map(device).collect();
        let listener = StdListener::bind(Path::new(FOLDER).join(&name)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = listener.map_err(|e| format!("bind {FOLDER}/{name}: {e}"))?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, devices, minor >= 25) => {}
                }
            });
        });
        let this = Self { stop: Some(stop), thread: Some(thread) };
        let request = [field(1, "v1beta1"), field(2, name), field(3, resource)].concat();
        runtime()
            .block_on(async { timeout(PATIENCE, register(&request)).await })
            .map_err(|_| format!("the kubelet has not let it in within {PATIENCE:?}"))??;
        Ok(this)
    }
}

impl Drop for DevicePlugin {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed.
            let _ = thread.join();
        }
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.unwrap_or_else(|e| panic!("a device plugin's runtime: {e}"))
}

async fn serve(listener: StdListener, devices: Vec<u8>, asks_for_options: bool) {
    let listener = UnixListener::from_std(listener).unwrap_or_else(|e| panic!("listen: {e}"));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let devices = devices.clone();
        // The kubelet's end of a connection is the kubelet's to explain.
        tokio::spawn(async move { connection::serve(stream, &devices, asks_for_options).await });
    }
}

/// Calls the kubelet's `Registration/Register`.
async fn register(message: &[u8]) -> Result<(), String> {
    let socket = Path::new(FOLDER).join("kubelet.sock");
    let stream = UnixStream::connect(&socket);
    let stream = stream.await.map_err(|e| format!("connect to {}: {e}", socket.display()))?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|e| format!("HTTP/2: {e}"))?;
    // It ends with the runtime.
    tokio::spawn(connection);
    let request = Request::post("http://localhost/v1beta1.Registration/Register")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(Bytes::from(connection::message(message))))
        .map_err(|e| e.to_string())?;
    let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|e| e.to_string())?;
    // Where there is no message the status is among the headers.
    let trailers = body.trailers().unwrap_or(&head.headers);
    match trailers.get("grpc-status") {
        Some(status) if status == "0" => Ok(()),
        _ => Err(format!("the kubelet refuses it: {trailers:?}")),
    }
}
