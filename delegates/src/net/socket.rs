//! Requests and answers over a netlink socket, one at a time.

use std::{cell::RefCell, fmt::Debug, future::Future, io, pin::Pin, rc::Rc};

use futures_util::{Stream, StreamExt};
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use nix::errno::Errno;
use rtnetlink::{
    proto::{ConnectionHandle, new_connection},
    sys::{AsyncSocket, Socket as RawSocket, SocketAddr},
};
use tokio::runtime::Runtime;

use super::{Refusal, Result};

/// How often an interrupted dump is repeated before giving up: each interruption means that someone changed what was
/// being listed.
const DUMP_ATTEMPTS: usize = 16;

/// A netlink socket of one protocol.
pub(super) struct Socket<T: Debug> {
    runtime: Rc<Runtime>,
    handle: ConnectionHandle<T>,
    /// The socket's own half, driven only while a call waits: dropping it closes the socket at once.
    connection: RefCell<Pin<Box<dyn Future<Output = ()>>>>,
}

/// A socket that is not driven yet: it is opened on a thread in its namespace and used on another.
pub(super) struct Opened<T: Debug> {
    handle: ConnectionHandle<T>,
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<T> Opened<T>
where
    T: Debug + NetlinkSerializable + NetlinkDeserializable + Clone + Unpin + Send + 'static,
{
    /// Opens a socket in the calling thread's namespace, with the kernel's words in its refusals.
    pub(super) fn new(
        runtime: &Runtime,
        protocol: isize,
        options: impl FnOnce(&mut RawSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let _entered = runtime.enter();
        let (mut connection, handle, _) = new_connection(protocol)?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        options(socket)?;
        Ok(Self { handle, connection: Box::pin(connection) })
    }

    /// Makes it usable by the thread of this runtime.
    pub(super) fn driven_by(self, runtime: &Rc<Runtime>) -> Socket<T> {
        Socket {
            runtime: Rc::clone(runtime),
            handle: self.handle,
            connection: RefCell::new(self.connection),
        }
    }
}

/// What the kernel answered to one request.
struct Answer<T> {
    messages: Vec<T>,
    interrupted: bool,
}

impl<T: Debug + Clone> Socket<T>
where
    NetlinkMessage<T>: From<T>,
{
    /// Sends one request with these flags and returns the kernel's answers to it.
    pub(super) fn request(&self, message: T, flags: u16) -> Result<Vec<T>, Refusal> {
        Ok(self.exchange(message, flags)?.messages)
    }

    /// Lists objects; repeated where the listing was interrupted by a change.
    pub(super) fn dump(&self, message: T) -> Result<Vec<T>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            let answer = self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(Refusal { errno: Errno::EINTR, reason: "the listing kept changing".to_owned() })
    }

    fn exchange(&self, message: T, flags: u16) -> Result<Answer<T>, Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let closed =
            || Refusal { errno: Errno::EPIPE, reason: "the netlink socket was closed".to_owned() };
        let replies = self.handle.request(request, SocketAddr::new(0, 0)).map_err(|_| closed())?;
        let mut connection = self.connection.borrow_mut();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                answer = collect(replies) => answer,
                () = &mut *connection => Err(closed()),
            }
        })
    }
}

async fn collect<T>(
    mut replies: impl Stream<Item = NetlinkMessage<T>> + Unpin,
) -> Result<Answer<T>, Refusal> {
    let mut answer = Answer { messages: Vec::new(), interrupted: false };
    while let Some(reply) = replies.next().await {
        answer.interrupted |= reply.header.flags & NLM_F_DUMP_INTR != 0;
        match reply.payload {
            NetlinkPayload::InnerMessage(message) => answer.messages.push(message),
            NetlinkPayload::Error(error) => {
                if let Some(refusal) = Refusal::from_message(&error) {
                    return Err(refusal);
                }
            }
            _ => {}
        }
    }
    Ok(answer)
}
