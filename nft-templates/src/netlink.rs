//! The nf_tables socket: requests, dumps, and batches, which are the transactions.

use std::{io, ops::Range};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{GenAttribute, GenMessage, NfTablesMessage},
    none::ControlMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};

use crate::{error::Error, set_element, stored::Family};

/// Subsystem number of nf_tables in a batch's header (linux/netfilter/nfnetlink.h).
const NFNL_SUBSYS_NFTABLES: u16 = 10;
/// Message type and attribute of a batch that carries the generation it is meant for.
const NFNL_MSG_BATCH_BEGIN: u8 = 16;
const NFNL_BATCH_GENID: u16 = 1;
/// The kernel was changed while it was being dumped: the dump may have gaps.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Type of a message with elements of sets: subsystem and NFT_MSG_NEWSETELEM.
const NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;

/// Answers that may lie unread in the socket. One per element of a batch that fails, and each takes
/// about 1 KiB of the kernel's accounting.
const RECEIVE_BUFFER: usize = 8 << 20;
/// What one read takes: more than the kernel puts into one datagram of a dump (32 KiB).
const BUFFER: usize = 64 << 10;
/// The kernel answers at once; a silence this long means that it never will.
const TIMEOUT_SECONDS: i64 = 10;
/// Requests sent before their answers are read.
const PIPELINE: usize = 256;
/// A dump is begun anew this often when others change what is dumped.
const DUMP_ATTEMPTS: u32 = 50;

/// One message to the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) family: Family,
    pub(crate) flags: u16,
    pub(crate) message: NfTablesMessage,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it was done.
    Done,
    /// The ruleset is of another generation than the one the batch was meant for; nothing was done.
    Stale,
    /// Nothing was done, because of these: index of the request, and why.
    Failed(Vec<(usize, Errno)>),
}

pub(crate) struct Connection {
    socket: Socket,
    sequence: u32,
    /// Transactions that were done.
    commits: u32,
    buffer: Vec<u8>,
}

impl Connection {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw) {
                Some(errno @ (Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT)) => {
                    Error::NoNfTables(errno)
                }
                _ => Error::Io(error),
            }
        })?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Errors come back without the message that they are about.
        socket.set_cap_ack(true)?;
        let timeout = TimeVal::seconds(TIMEOUT_SECONDS);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).map_err(io::Error::from)?;
        // The kernel allows this to CAP_NET_ADMIN of the initial user namespace only; without it large
        // batches that fail are cut off (ENOBUFS), and small ones do not notice.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        Ok(Self { socket, sequence: 0, commits: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    // === requests ===

    /// Asks for single objects, all in one go. The answers are in the order of the requests; an object
    /// that is not there is `Err(ENOENT)`.
    pub(crate) fn get(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<Result<NfTablesMessage, Errno>>, Error> {
        let mut answers = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(PIPELINE) {
            let mut bytes = Vec::new();
            let sequences = self.take_sequences(chunk.len());
            for (request, sequence) in chunk.iter().zip(sequences.clone()) {
                emit(&mut bytes, request, NLM_F_REQUEST, sequence);
            }
            self.send(&bytes)?;
            let mut next = sequences.start;
            while next != sequences.end {
                for (sequence, reply) in self.receive()? {
                    if sequence != next {
                        continue; // of a request that was given up
                    }
                    next += 1;
                    answers.push(match reply {
                        Reply::Message(message) => Ok(*message),
                        // The kernel says this once and reads no further.
                        Reply::Status(Some(Errno::EPERM)) => return Err(Error::NotPermitted),
                        Reply::Status(errno) => Err(errno.unwrap_or(Errno::EPROTO)),
                        Reply::Done { .. } => Err(Errno::EPROTO),
                    });
                }
            }
        }
        // The answer to everything where the subsystem is missing.
        let is_missing = |answer: &Result<NfTablesMessage, Errno>| {
            matches!(answer, Err(Errno::EOPNOTSUPP | Errno::EINVAL))
        };
        match answers.first() {
            Some(Err(errno)) if answers.iter().all(is_missing) => Err(Error::NoNfTables(*errno)),
            _ => Ok(answers),
        }
    }

    /// The generation of the ruleset: a number that changes with every transaction of anyone in this
    /// network namespace.
    pub(crate) fn generation() -> Request {
        let message = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        Request { family: Family::Inet, flags: 0, message }
    }

    /// Reads the answer to [`Self::generation`].
    pub(crate) fn generation_of(
        answer: Option<&Result<NfTablesMessage, Errno>>,
    ) -> Result<u32, Error> {
        if let Some(Ok(NfTablesMessage::NewGen(message))) = answer {
            for attribute in &message.attributes {
                if let GenAttribute::Id(id) = attribute {
                    return Ok(*id);
                }
            }
        }
        Err(Error::Protocol(format!("no generation id in {answer:?}")))
    }

    /// Asks for all objects of a kind, again and again until no one changed them meanwhile. What does not
    /// exist is empty.
    pub(crate) fn dump(&mut self, request: &Request) -> Result<Vec<NfTablesMessage>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut bytes = Vec::new();
            let sequence = self.take_sequences(1).start;
            emit(&mut bytes, request, NLM_F_REQUEST | NLM_F_DUMP, sequence);
            self.send(&bytes)?;
            if let Some(messages) = self.receive_dump(sequence)? {
                return Ok(messages);
            }
        }
        Err(Error::Busy { attempts: DUMP_ATTEMPTS })
    }

    /// `None`: the dump was interrupted by a change. It is read to its end all the same: the kernel does not
    /// begin another one before.
    fn receive_dump(&mut self, wanted: u32) -> Result<Option<Vec<NfTablesMessage>>, Error> {
        let (mut messages, mut interrupted) = (Vec::new(), false);
        loop {
            for (sequence, reply) in self.receive()? {
                if sequence != wanted {
                    continue;
                }
                match reply {
                    Reply::Message(message) => messages.push(*message),
                    Reply::Done { interrupted: again } => {
                        return Ok((!(interrupted || again)).then_some(messages));
                    }
                    Reply::Status(Some(Errno::ENOENT)) => return Ok(Some(Vec::new())),
                    Reply::Status(Some(Errno::EINTR)) => interrupted = true,
                    Reply::Status(Some(Errno::EPERM)) => return Err(Error::NotPermitted),
                    Reply::Status(errno) => {
                        let errno = errno.unwrap_or(Errno::EPROTO);
                        return Err(Error::Rejected { object: "a listing".into(), errno });
                    }
                }
            }
        }
    }

    // === transactions ===

    /// Has the kernel do all the requests together or none. With a generation: only if that is still
    /// the ruleset's.
    pub(crate) fn batch(
        &mut self,
        generation: Option<u32>,
        requests: &[Request],
    ) -> Result<Outcome, Error> {
        let Some(last) = requests.len().checked_sub(1) else { return Ok(Outcome::Done) };
        let sequences = self.take_sequences(requests.len() + 2);
        let first = sequences.start + 1;
        let mut bytes = Vec::new();
        let begin = match generation {
            None => ControlMessage::BatchBegin,
            Some(id) => ControlMessage::Other {
                message_type: NFNL_MSG_BATCH_BEGIN,
                attributes: vec![DefaultNla::new(NFNL_BATCH_GENID, id.to_be_bytes().to_vec())],
            },
        };
        emit_control(&mut bytes, begin, sequences.start);
        for (index, request) in requests.iter().enumerate() {
            // One acknowledgement, of the last, says that the kernel went through all of them. Errors
            // come for each, whether asked for or not.
            let flags = if index == last { NLM_F_REQUEST | NLM_F_ACK } else { NLM_F_REQUEST };
            emit(&mut bytes, request, flags, first + index as u32);
        }
        emit_control(&mut bytes, ControlMessage::BatchEnd, sequences.end - 1);
        self.send(&bytes)?;

        let mut failed = Vec::new();
        let mut refused = None;
        loop {
            for (sequence, reply) in self.receive()? {
                let (true, Reply::Status(errno)) = (sequences.contains(&sequence), reply) else {
                    continue;
                };
                let Some(index) = sequence.checked_sub(first) else {
                    // About the batch as a whole.
                    match errno {
                        Some(Errno::ERESTART) => return Ok(Outcome::Stale),
                        Some(Errno::EPERM) => return Err(Error::NotPermitted),
                        Some(errno @ (Errno::EOPNOTSUPP | Errno::EINVAL)) => {
                            return Err(Error::NoNfTables(errno));
                        }
                        Some(errno) => refused = Some(errno),
                        None => {}
                    }
                    if refused == Some(Errno::ENOMEM) {
                        return Err(transaction_refused(Errno::ENOMEM));
                    }
                    continue;
                };
                let index = index as usize;
                failed.extend(errno.map(|errno| (index, errno)));
                if index == last {
                    return match refused {
                        Some(errno) => Err(transaction_refused(errno)),
                        None if failed.is_empty() => {
                            self.commits += 1;
                            Ok(Outcome::Done)
                        }
                        None => Ok(Outcome::Failed(failed)),
                    };
                }
            }
        }
    }

    /// How many transactions of this connection the kernel has done: each takes the ruleset to the next generation.
    pub(crate) fn commits(&self) -> u32 {
        self.commits
    }

    // === bytes ===

    fn take_sequences(&mut self, count: usize) -> Range<u32> {
        // Starts anew long before it would wrap within one batch; answers are told apart within
        // what is still unread only.
        if self.sequence > u32::MAX / 2 {
            self.sequence = 0;
        }
        let start = self.sequence + 1;
        self.sequence += count as u32;
        start..start + count as u32
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        // The kernel takes a batch as one datagram, and refuses one beyond the socket's send buffer.
        if bytes.len() > 64 << 10 {
            let size = bytes.len() * 2;
            if setsockopt(&self.socket, sockopt::SndBufForce, &size).is_err() {
                let _ = setsockopt(&self.socket, sockopt::SndBuf, &size);
            }
        }
        self.socket.send(bytes, 0)?;
        Ok(())
    }

    /// The replies in the next datagram, with the sequence numbers of what they reply to.
    fn receive(&mut self) -> Result<Vec<(u32, Reply)>, Error> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, 0) {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Io(error)),
            }
        }
        let mut rest = self.buffer.as_slice();
        let mut replies = Vec::new();
        while !rest.is_empty() {
            let unreadable = |error| Error::Protocol(format!("{error}"));
            let header = NetlinkBuffer::new_checked(rest).map_err(unreadable)?;
            let size = (header.length() as usize).next_multiple_of(4).min(rest.len());
            let interrupted = header.flags() & NLM_F_DUMP_INTR != 0;
            let sequence = header.sequence_number();
            if header.message_type() == NEWSETELEM && !interrupted {
                let elements = set_element::parse(header.payload()).map_err(unreadable)?;
                let message = Box::new(NfTablesMessage::NewSetElement(elements));
                replies.push((sequence, Reply::Message(message)));
                rest = &rest[size..];
                continue;
            }
            let message =
                NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(unreadable)?;
            match message.payload {
                NetlinkPayload::InnerMessage(_) if interrupted => {
                    replies.push((sequence, Reply::Status(Some(Errno::EINTR))));
                }
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    inner: NetfilterMessageInner::NfTables(message),
                    ..
                }) => replies.push((sequence, Reply::Message(Box::new(message)))),
                NetlinkPayload::Error(error) => {
                    let errno = error.code.map(|code| Errno::from_raw(code.get().abs()));
                    replies.push((sequence, Reply::Status(errno)));
                }
                NetlinkPayload::Done(_) => replies.push((sequence, Reply::Done { interrupted })),
                _ => {}
            }
            rest = &rest[size..];
        }
        Ok(replies)
    }
}

enum Reply {
    Message(Box<NfTablesMessage>),
    /// An error, or an acknowledgement.
    Status(Option<Errno>),
    Done {
        interrupted: bool,
    },
}

fn transaction_refused(errno: Errno) -> Error {
    Error::Rejected { object: "the whole transaction".into(), errno }
}

fn emit(bytes: &mut Vec<u8>, request: &Request, flags: u16, sequence: u32) {
    let family = match request.family {
        Family::Ip => NetfilterProtoFamily::IPv4,
        Family::Ip6 => NetfilterProtoFamily::IPv6,
        Family::Inet => NetfilterProtoFamily::Inet,
        Family::Bridge => NetfilterProtoFamily::Bridge,
    };
    let header = NetfilterHeader::new(family, 0, 0);
    let message = NetfilterMessage::new(header, request.message.clone());
    emit_message(bytes, message, flags | request.flags, sequence);
}

fn emit_control(bytes: &mut Vec<u8>, message: ControlMessage, sequence: u32) {
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFNL_SUBSYS_NFTABLES);
    emit_message(bytes, NetfilterMessage::new(header, message), NLM_F_REQUEST, sequence);
}

fn emit_message(bytes: &mut Vec<u8>, message: NetfilterMessage, flags: u16, sequence: u32) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}
