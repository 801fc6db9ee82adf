//! The kubelet's own list of the devices that each pod has: its pod-resources API.
//!
//! gRPC over a unix socket, service `v1.PodResourcesLister` (`k8s.io/kubelet/pkg/apis/podresources/v1/api.proto`). The
//! messages are written down here with the fields that are read, so that building needs no `protoc`.

use std::{io::ErrorKind, path::Path, time::Duration};

use chain::{Code, Error, Result};
use hyper::{
    Uri,
    client::conn::http2,
    http::uri::{PathAndQuery, Scheme},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::UnixStream, runtime::Builder, time::timeout};
use tonic::{Request, Status, body::Body, client::Grpc};
use tonic_prost::ProstCodec;

use super::Assigned;

/// The most that an answer may have: what the kubelet's own client takes.
const MAX_ANSWER: usize = 16 << 20;

const LIST: &str = "/v1.PodResourcesLister/List";

#[derive(Clone, PartialEq, prost::Message)]
struct ListRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ListResponse {
    #[prost(message, repeated, tag = "1")]
    pod_resources: Vec<PodResources>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodResources {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(message, repeated, tag = "3")]
    containers: Vec<Container>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Container {
    #[prost(message, repeated, tag = "2")]
    devices: Vec<Devices>,
    #[prost(message, repeated, tag = "5")]
    dynamic_resources: Vec<DynamicResource>,
}

/// Of a device plugin.
#[derive(Clone, PartialEq, prost::Message)]
struct Devices {
    #[prost(string, tag = "1")]
    resource_name: String,
    #[prost(string, repeated, tag = "2")]
    device_ids: Vec<String>,
}

/// Of dynamic resource allocation.
#[derive(Clone, PartialEq, prost::Message)]
struct DynamicResource {
    #[prost(string, tag = "2")]
    claim_name: String,
    #[prost(message, repeated, tag = "4")]
    claim_resources: Vec<ClaimResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ClaimResource {
    #[prost(message, repeated, tag = "1")]
    cdi_devices: Vec<CdiDevice>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CdiDevice {
    /// `vendor.com/class=device`.
    #[prost(string, tag = "1")]
    name: String,
}

/// What the kubelet says that a pod has; `None` where it has no such API here: there is no socket, nobody listens on it,
/// or this version of the API is unknown.
///
/// Errors (11): the kubelet does not answer within `patience`, or with what cannot be used.
pub fn of_pod(
    socket: &Path,
    namespace: &str,
    name: &str,
    patience: Duration,
) -> Result<Option<Assigned>> {
    let failed = |what: String| {
        Error::new(
            Code::TryAgain,
            format!("the kubelet's pod-resources API at {} {what}", socket.display()),
        )
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot be asked: {error}")))?;
    let answer = runtime.block_on(async { timeout(patience, list(socket)).await });
    match answer {
        Ok(Ok(answer)) => Ok(Some(assigned(answer, namespace, name))),
        Ok(Err(Failure::Absent(why))) => {
            tracing::debug!("no pod-resources API at {}: {why}", socket.display());
            Ok(None)
        }
        Ok(Err(Failure::Answer(status))) => {
            Err(failed(format!("failed ({:?}): {}", status.code(), status.message())))
        }
        Ok(Err(Failure::Connection(why))) => Err(failed(format!("cannot be reached: {why}"))),
        Err(_) => Err(failed(format!(
            "has not answered within {patience:?}: see whether the kubelet is well (journalctl -u kubelet)"
        ))),
    }
}

enum Failure {
    /// This kubelet has no such API.
    Absent(String),
    Connection(String),
    Answer(Status),
}

async fn list(socket: &Path) -> Result<ListResponse, Failure> {
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => {
            Failure::Absent(error.to_string())
        }
        _ => Failure::Connection(error.to_string()),
    })?;
    let (sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| Failure::Connection(error.to_string()))?;
    // It ends with the runtime.
    tokio::spawn(connection);
    let service = tower::service_fn(|request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    // Go's gRPC servers want an authority, whatever it is.
    let origin = Uri::builder().scheme(Scheme::HTTP).authority("localhost").path_and_query("/");
    let origin = origin.build().expect("its three parts are valid");
    let mut client = Grpc::with_origin(service, origin).max_decoding_message_size(MAX_ANSWER);
    let codec = ProstCodec::<ListRequest, ListResponse>::default();
    let request = Request::new(ListRequest {});
    match client.unary(request, PathAndQuery::from_static(LIST), codec).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Err(Failure::Absent(status.message().to_owned()))
        }
        Err(status) => Err(Failure::Answer(status)),
    }
}

fn assigned(answer: ListResponse, namespace: &str, name: &str) -> Assigned {
    let mut assigned = Assigned::default();
    let pods = answer.pod_resources.into_iter();
    for pod in pods.filter(|pod| pod.namespace == namespace && pod.name == name) {
        for container in pod.containers {
            for devices in container.devices {
                assigned.add(devices.resource_name, devices.device_ids);
            }
            for resource in container.dynamic_resources {
                let devices = resource.claim_resources.into_iter().flat_map(|r| r.cdi_devices);
                let ids = devices.filter_map(|device| match device.name.split_once('=') {
                    Some((_, id)) if !id.is_empty() && !id.contains('=') => Some(id.to_owned()),
                    _ => {
                        tracing::warn!(
                            "claim {} has a CDI device {:?}, which is no vendor/class=device: it is passed over",
                            resource.claim_name,
                            device.name
                        );
                        None
                    }
                });
                assigned.add(resource.claim_name.clone(), ids);
            }
        }
    }
    assigned
}
