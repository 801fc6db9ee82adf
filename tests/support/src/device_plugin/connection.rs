//! A kubelet's connection to a device plugin: as much of HTTP/2 (RFC 9113) as it takes.
//!
//! hyper can't serve it. Old kubelets (1.20) name the socket's path as the authority, which is none, and hyper resets what
//! has no valid one. What is called is not looked at, since that would take HPACK: a kubelet makes its calls in one order, from
//! 1.25 on `GetDevicePluginOptions`, and every one `ListAndWatch` and then `Allocate`.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::pod_resources::field;

/// `PRI * HTTP/2.0` and so on, which a client begins with.
const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;

/// Of DATA and HEADERS.
const END_STREAM: u8 = 1;
/// Of SETTINGS and PING.
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Answers until the kubelet hangs up: `ListAndWatch` with the devices, and no end; `Allocate` with what gives one container
/// nothing.
pub(super) async fn serve(
    mut stream: UnixStream,
    devices: &[u8],
    asks_for_options: bool,
) -> io::Result<()> {
    let mut calls = if asks_for_options {
        vec![Call::Options, Call::ListAndWatch]
    } else {
        vec![Call::ListAndWatch]
    }
    .into_iter();
    stream.read_exact(&mut [0; PREFACE]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes([s0, s1, s2, s3]);
        let answer = match kind {
            SETTINGS if flags & ACK == 0 => frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(PING, ACK, 0, &payload),
            DATA | HEADERS if flags & END_STREAM != 0 => {
                match calls.next().unwrap_or(Call::Allocate) {
                    Call::Options => whole(id, &[]),
                    Call::ListAndWatch => begin(id, devices),
                    Call::Allocate => whole(id, &field(1, [])),
                }
            }
            _ => continue,
        };
        stream.write_all(&answer).await?;
    }
}

/// A message as gRPC frames it: not compressed, with its length.
pub(super) fn message(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap_or_else(|e| panic!("a message's size: {e}"));
    [&[0][..], &length.to_be_bytes(), content].concat()
}

enum Call {
    Options,
    ListAndWatch,
    Allocate,
}

/// An answer of one message.
fn whole(id: u32, content: &[u8]) -> Vec<u8> {
    let status = literal("grpc-status", "0");
    [begin(id, content), frame(HEADERS, END_HEADERS | END_STREAM, id, &status)].concat()
}

/// The beginning of an answer, with its first message.
fn begin(id: u32, content: &[u8]) -> Vec<u8> {
    // 8 of HPACK's table: `:status: 200`.
    let headers = [vec![0x88], literal("content-type", "application/grpc")].concat();
    let headers = frame(HEADERS, END_HEADERS, id, &headers);
    [headers, frame(DATA, 0, id, &message(content))].concat()
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_else(|e| panic!("a frame's size: {e}"));
    [&length.to_be_bytes()[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// A header field in HPACK, neither indexed nor compressed; both texts are short.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[text.len() as u8][..], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}
