//! Messages of route netlink, as they are sent and read here.

use netlink_packet_core::{
    DecodeError, NetlinkDeserializable, NetlinkHeader, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::libc;

use super::link;

/// A message; of devices only what is looked at is read.
#[derive(Clone, Debug)]
pub(super) struct RouteMessage(pub(super) RouteNetlinkMessage);

impl NetlinkSerializable for RouteMessage {
    fn message_type(&self) -> u16 {
        self.0.message_type()
    }

    fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        self.0.serialize(buffer);
    }
}

impl NetlinkDeserializable for RouteMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self(match header.message_type {
            libc::RTM_NEWLINK => RouteNetlinkMessage::NewLink(link::read(payload)?),
            _ => RouteNetlinkMessage::deserialize(header, payload)?,
        }))
    }
}

impl From<RouteMessage> for NetlinkPayload<RouteMessage> {
    fn from(message: RouteMessage) -> Self {
        Self::InnerMessage(message)
    }
}
