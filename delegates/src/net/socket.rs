//! Requests and answers over a netlink socket.
//!
//! It blocks: the kernel does what it is asked within the call that sends the request, so that there is never anything to wait for,
//! and a request costs two system calls.

use std::{cell::RefCell, fmt::Debug, io, marker::PhantomData};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket as RawSocket, SocketAddr};
use nix::errno::Errno;

use super::{Refusal, Result};

/// How often an interrupted dump is repeated before giving up: each interruption means that someone changed what was
/// being listed.
const DUMP_ATTEMPTS: usize = 16;
/// What one read takes: more than the kernel puts into one datagram of a dump (32 KiB).
const BUFFER: usize = 64 << 10;

/// What came of a request: the kernel's answers to it.
pub(super) type Outcome<T> = Result<Vec<T>, Refusal>;

/// A netlink socket of one protocol. It belongs to the namespace of the thread that opened it.
pub(super) struct Socket<T> {
    socket: RawSocket,
    state: RefCell<State>,
    messages: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct State {
    /// The number of the last request.
    sequence: u32,
    buffer: Vec<u8>,
}

/// What is known of an answer.
struct Answer<T> {
    sequence: u32,
    /// Whether its last answer is an acknowledgement, or that a list is at its end.
    has_end: bool,
    interrupted: bool,
    outcome: Outcome<T>,
}

impl<T> Socket<T>
where
    T: Debug + Clone + NetlinkSerializable + NetlinkDeserializable,
    NetlinkMessage<T>: From<T>,
{
    /// Opens a socket in the calling thread's namespace, with the kernel's words in its refusals.
    pub(super) fn open(
        protocol: isize,
        options: impl FnOnce(&RawSocket) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = RawSocket::new(protocol)?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        options(&socket)?;
        Ok(Self { socket, state: RefCell::default(), messages: PhantomData })
    }

    /// Sends one request with these flags and returns the kernel's answers to it.
    pub(super) fn request(&self, message: T, flags: u16) -> Outcome<T> {
        let mut answers = self.exchange(vec![(message, flags)])?;
        answers.pop().map_or(Ok(Vec::new()), |answer| answer.outcome)
    }

    /// Sends several requests at once, which the kernel does in their order. One that fails does not keep it from the next.
    pub(super) fn requests(&self, requests: Vec<(T, u16)>) -> Result<Vec<Outcome<T>>, Refusal> {
        Ok(self.exchange(requests)?.into_iter().map(|answer| answer.outcome).collect())
    }

    /// Lists objects; repeated where the listing was interrupted by a change.
    pub(super) fn dump(&self, message: T) -> Outcome<T> {
        for _ in 0..DUMP_ATTEMPTS {
            let request = (message.clone(), NLM_F_REQUEST | NLM_F_DUMP);
            match self.exchange(vec![request])?.pop() {
                Some(answer) if !answer.interrupted => return answer.outcome,
                _ => {}
            }
        }
        Err(Refusal { errno: Errno::EINTR, reason: "the listing kept changing".to_owned() })
    }

    fn exchange(&self, requests: Vec<(T, u16)>) -> Result<Vec<Answer<T>>, Refusal> {
        let mut state = self.state.borrow_mut();
        let mut bytes = Vec::new();
        let mut answers = Vec::with_capacity(requests.len());
        for (message, flags) in requests {
            state.sequence = state.sequence.wrapping_add(1);
            let mut request = NetlinkMessage::from(message);
            request.header.flags = flags;
            request.header.sequence_number = state.sequence;
            request.finalize();
            let start = bytes.len();
            bytes.resize(start + request.buffer_len().next_multiple_of(4), 0);
            request.serialize(&mut bytes[start..]);
            answers.push(Answer {
                sequence: state.sequence,
                has_end: flags & (NLM_F_ACK | NLM_F_DUMP) != 0,
                interrupted: false,
                outcome: Ok(Vec::new()),
            });
        }
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).map_err(failed)?;
        let mut whole = 0;
        while whole < answers.len() {
            self.receive(&mut state.buffer)?;
            let mut rest = state.buffer.as_slice();
            while let (false, Some(answer)) = (rest.is_empty(), answers.get_mut(whole)) {
                let (message, next) = split(rest)?;
                whole += usize::from(answer.take(message)?);
                rest = next;
            }
        }
        Ok(answers)
    }

    /// Reads a datagram of the kernel's.
    fn receive(&self, buffer: &mut Vec<u8>) -> Result<(), Refusal> {
        loop {
            buffer.clear();
            buffer.reserve(BUFFER);
            match self.socket.recv_from(buffer, 0) {
                // Other processes may write to the socket, too.
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl<T: NetlinkDeserializable> Answer<T> {
    /// Takes one message in; whether it was the last that there is to come.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let header = NetlinkBuffer::new_checked(bytes).map_err(|error| garbled(&error))?;
        if header.sequence_number() != self.sequence {
            // The end of an answer that nobody waits for any more.
            return Ok(false);
        }
        let flags = header.flags();
        self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
        let is_last = !self.has_end && flags & NLM_F_MULTIPART == 0;
        match NetlinkMessage::<T>::deserialize(bytes).map(|message| message.payload) {
            Ok(NetlinkPayload::InnerMessage(message)) => {
                if let Ok(messages) = &mut self.outcome {
                    messages.push(message);
                }
                Ok(is_last)
            }
            Ok(NetlinkPayload::Error(error)) => {
                if let Some(refusal) = Refusal::from_message(&error) {
                    self.outcome = Err(refusal);
                }
                Ok(true)
            }
            Ok(NetlinkPayload::Done(_)) => Ok(true),
            Ok(_) => Ok(false),
            // One strange object does not hide the others of a list.
            Err(error) if flags & NLM_F_MULTIPART != 0 => {
                tracing::debug!(%error, "an unreadable netlink message is passed over");
                Ok(false)
            }
            Err(error) => {
                self.outcome = Err(garbled(&error));
                Ok(is_last)
            }
        }
    }
}

/// The first message of a datagram, and the others.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let header = NetlinkBuffer::new_checked(bytes).map_err(|error| garbled(&error))?;
    Ok(bytes.split_at((header.length() as usize).next_multiple_of(4).min(bytes.len())))
}

fn failed(error: io::Error) -> Refusal {
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    Refusal { errno, reason: "the netlink socket failed".to_owned() }
}

fn garbled(error: &impl ToString) -> Refusal {
    Refusal { errno: Errno::EBADMSG, reason: error.to_string() }
}
