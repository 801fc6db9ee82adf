//! The kernel's network configuration, read and written in the words of `ip` and `tc`.
//!
//! A [`Net`] is a route netlink socket in one network namespace. Its calls block: a run of a chain is one thread, and
//! the runtime below belongs to its [`Node`](crate::Node).

pub mod addr;
mod error;
pub mod link;
mod mac;
pub mod netns;
pub mod route;
pub mod sysctl;
pub mod tc;

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc};

use futures_util::{Stream, StreamExt};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use rtnetlink::sys::AsyncSocket;
use tokio::runtime::Runtime;

pub use error::{NetError, Refusal, Result};
pub use mac::Mac;
pub use netns::Netns;
pub use sysctl::Sysctl;

/// How often an interrupted dump is repeated before giving up: each interruption means that someone changed what was
/// being listed.
const DUMP_ATTEMPTS: usize = 16;

/// A route netlink socket in one network namespace.
///
/// It goes on working outside the namespace it was opened in, and keeps that namespace and its devices alive: drop it
/// as soon as it has served.
pub struct Net {
    runtime: Rc<Runtime>,
    handle: rtnetlink::Handle,
    /// The socket's own half, driven only while a call waits: dropping it closes the socket at once.
    connection: RefCell<Pin<Box<dyn Future<Output = ()>>>>,
    place: String,
}

impl Net {
    /// A socket in the caller's namespace.
    pub(crate) fn host(runtime: &Rc<Runtime>) -> Result<Self> {
        let socket = Socket::open(runtime).map_err(NetError::Socket)?;
        Ok(socket.into_net(runtime, "the host".to_owned()))
    }

    /// A socket in a container's namespace.
    pub(crate) fn container(runtime: &Rc<Runtime>, netns: &Netns) -> Result<Self> {
        let shared: &Runtime = runtime;
        let socket = netns.enter(|| Socket::open(shared))?.map_err(NetError::Socket)?;
        Ok(socket.into_net(runtime, netns.path().display().to_string()))
    }

    /// Where this is, for messages: "the host" or the namespace's path.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// `ip link`.
    pub fn link(&self) -> link::Links<'_> {
        link::Links(self)
    }

    /// `ip address`.
    pub fn addr(&self) -> addr::Addresses<'_> {
        addr::Addresses(self)
    }

    /// `ip route`.
    pub fn route(&self) -> route::Routes<'_> {
        route::Routes(self)
    }

    /// `tc`.
    pub fn tc(&self) -> tc::Tc<'_> {
        tc::Tc(self)
    }

    /// Sends one request and returns the kernel's answers to it; `flags` beyond `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub(crate) fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        Ok(self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags)?.messages)
    }

    /// Lists objects; repeated where the listing was interrupted by a change. Only for what is small: the kernel is
    /// given a filter wherever it takes one.
    pub(crate) fn dump(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            let answer = self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP)?;
            if !answer.interrupted {
                return Ok(answer.messages);
            }
        }
        Err(Refusal { errno: Errno::EINTR, reason: "the listing kept changing".to_owned() })
    }

    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> Result<Answer, Refusal> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let closed =
            || Refusal { errno: Errno::EPIPE, reason: "the netlink socket was closed".to_owned() };
        let mut handle = self.handle.clone();
        let replies = handle.request(request).map_err(|_| closed())?;
        self.wait(collect(replies)).ok_or_else(closed)?
    }

    /// Waits for `work`, driving the socket meanwhile; `None` where the socket ended.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut connection = self.connection.borrow_mut();
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = work => Some(outcome),
                () = &mut *connection => None,
            }
        })
    }
}

/// What the kernel answered to one request.
struct Answer {
    messages: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

async fn collect(
    mut replies: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Unpin,
) -> Result<Answer, Refusal> {
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

/// A socket that is not yet a [`Net`]: it is opened on a thread in the namespace and driven on another.
struct Socket {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    handle: rtnetlink::Handle,
}

impl Socket {
    fn open(runtime: &Runtime) -> std::io::Result<Self> {
        let _entered = runtime.enter();
        // Strict checking makes the kernel honour the filters of a listing instead of passing over them.
        let (mut connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { connection: Box::pin(connection), handle })
    }

    fn into_net(self, runtime: &Rc<Runtime>, place: String) -> Net {
        Net {
            runtime: Rc::clone(runtime),
            handle: self.handle,
            connection: RefCell::new(self.connection),
            place,
        }
    }
}
