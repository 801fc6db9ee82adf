//! Reading one request and its descriptor from a connection.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg},
};
use tokio::{io::Interest, net::UnixStream};

use crate::handover::MAX_REQUEST;

/// Reads until the plugin has shut its side down: the request, and the first descriptor that came with it.
pub async fn request(stream: &UnixStream) -> io::Result<(Vec<u8>, Option<File>)> {
    let mut received = Vec::new();
    let mut netns = None;
    let mut chunk = vec![0; 64 << 10];
    loop {
        let (count, descriptors) =
            stream.async_io(Interest::READABLE, || receive(stream, &mut chunk)).await?;
        netns = netns.or_else(|| descriptors.into_iter().next().map(File::from));
        if count == 0 {
            return Ok((received, netns));
        }
        received.extend_from_slice(&chunk[..count]);
        if received.len() > MAX_REQUEST {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("the request is larger than {} MiB", MAX_REQUEST >> 20),
            ));
        }
    }
}

/// One recvmsg(2): how much came, and the descriptors, all owned from here on.
#[allow(unsafe_code, reason = "the kernel hands descriptors over as numbers")]
fn receive(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([i32; 4]);
    let mut into = [IoSliceMut::new(chunk)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut into, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part {
            // SAFETY: the kernel has just opened these in this process, and nobody else knows of them.
            descriptors.extend(numbers.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, descriptors))
}
