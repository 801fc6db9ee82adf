//! Elements of sets to and from messages of nf_tables.

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL, NlasIterator, Parseable as _};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage, Verdict, VerdictAttribute,
};

use crate::{
    comment::{comment, comment_of},
    netlink::Request,
    owner::Owner,
    stored::{Entry, Family, Place, TABLE, Value},
};

/// Length of what stands before the attributes of each message of netfilter.
const NETFILTER_HEADER: usize = 4;
/// The attribute with the elements (linux/netfilter/nf_tables.h).
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

/// A message about elements of a set.
pub(crate) fn list(set: &str, elements: Vec<Vec<SetElementAttribute>>) -> SetElementMessage {
    let elements = elements.into_iter().map(ListAttribute::Element).collect();
    SetElementMessage {
        attributes: vec![
            SetElementList::Table(TABLE.into()),
            SetElementList::Set(set.into()),
            SetElementList::Elements(elements),
        ],
    }
}

/// Adds an element. `exclusive`: fail if there is one with this key; otherwise an equal one (comments do
/// not count) is left as it is.
pub(crate) fn add(entry: &Entry, exclusive: bool) -> Request {
    Request {
        family: entry.place.family,
        flags: NLM_F_CREATE | if exclusive { NLM_F_EXCL } else { 0 },
        message: NfTablesMessage::NewSetElement(list(entry.place.set, vec![attributes(entry)])),
    }
}

/// Adds a range: its beginning and, unless it is open, its end. The kernel wants both in one message.
pub(crate) fn add_range(range: &[Entry]) -> Option<Request> {
    let Place { family, set, .. } = range.first()?.place;
    let elements = range.iter().map(attributes).collect();
    let message = NfTablesMessage::NewSetElement(list(set, elements));
    Some(Request { family, flags: NLM_F_CREATE | NLM_F_EXCL, message })
}

fn attributes(entry: &Entry) -> Vec<SetElementAttribute> {
    let mut attributes =
        vec![SetElementAttribute::Key(DataAttribute::Value(entry.place.key.clone()))];
    match &entry.value {
        Value::Nothing => {}
        Value::Bytes(bytes) => {
            attributes.push(SetElementAttribute::Data(DataAttribute::Value(bytes.clone())));
        }
        Value::Goto(chain) => {
            attributes.push(SetElementAttribute::Data(DataAttribute::Verdict(vec![
                VerdictAttribute::Code(Verdict::Goto),
                VerdictAttribute::Chain(chain.clone()),
            ])));
        }
        Value::End => attributes.push(SetElementAttribute::Flags(SetElementFlags::IntervalEnd)),
    }
    if !entry.owner.as_str().is_empty() {
        attributes.push(SetElementAttribute::UserData(comment(entry.owner.as_str())));
    }
    attributes
}

/// Removes the element with this key.
pub(crate) fn delete(place: &Place) -> Request {
    let message = NfTablesMessage::DeleteSetElement(by_key(place));
    Request { family: place.family, flags: 0, message }
}

/// Asks for the element with this key.
pub(crate) fn get(place: &Place) -> Request {
    let message = NfTablesMessage::GetSetElement(by_key(place));
    Request { family: place.family, flags: 0, message }
}

/// Asks for all elements of a set.
pub(crate) fn dump(family: Family, set: &str) -> Request {
    let attributes = vec![SetElementList::Table(TABLE.into()), SetElementList::Set(set.into())];
    let message = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
    Request { family, flags: 0, message }
}

/// Removes all elements of a set.
pub(crate) fn flush(family: Family, set: &str) -> Request {
    let attributes = vec![SetElementList::Table(TABLE.into()), SetElementList::Set(set.into())];
    let message = NfTablesMessage::DeleteSetElement(SetElementMessage { attributes });
    Request { family, flags: 0, message }
}

fn by_key(place: &Place) -> SetElementMessage {
    list(place.set, vec![vec![SetElementAttribute::Key(DataAttribute::Value(place.key.clone()))]])
}

/// Reads a message with elements, `payload` being what follows the netlink header.
///
/// Its types' own parser formats the whole list for an error message that it nearly never needs, once per
/// element: half a second for a thousand of them. So the list is taken apart here, and its elements there.
pub(crate) fn parse(payload: &[u8]) -> Result<SetElementMessage, DecodeError> {
    let attributes = payload.get(NETFILTER_HEADER..).unwrap_or_default();
    let attributes = NlasIterator::new(attributes).map(|nla| {
        let nla = nla?;
        if nla.kind() != NFTA_SET_ELEM_LIST_ELEMENTS {
            return SetElementList::parse(&nla);
        }
        let elements = NlasIterator::new(nla.value()).map(|element| {
            let element = element?;
            let attributes = NlasIterator::new(element.value())
                .map(|attribute| SetElementAttribute::parse(&attribute?));
            Ok(ListAttribute::Element(attributes.collect::<Result<_, DecodeError>>()?))
        });
        Ok(SetElementList::Elements(elements.collect::<Result<_, DecodeError>>()?))
    });
    Ok(SetElementMessage { attributes: attributes.collect::<Result<_, DecodeError>>()? })
}

/// The elements in an answer, as elements of `set`.
pub(crate) fn entries(
    family: Family,
    set: &'static str,
    message: &SetElementMessage,
) -> Vec<Entry> {
    let lists = message.attributes.iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    let elements = lists.flatten().filter_map(|element| match element {
        ListAttribute::Element(attributes) => Some(attributes),
        _ => None,
    });
    elements.filter_map(|attributes| entry(family, set, attributes)).collect()
}

fn entry(family: Family, set: &'static str, attributes: &[SetElementAttribute]) -> Option<Entry> {
    let (mut key, mut value, mut owner) = (None, Value::Nothing, None);
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(bytes)) => key = Some(bytes.clone()),
            SetElementAttribute::Data(DataAttribute::Value(bytes)) => {
                value = Value::Bytes(bytes.clone());
            }
            SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => {
                if let Some(chain) = verdict.iter().find_map(|part| match part {
                    VerdictAttribute::Chain(chain) => Some(chain.clone()),
                    _ => None,
                }) {
                    value = Value::Goto(chain);
                }
            }
            SetElementAttribute::Flags(flags) if flags.contains(SetElementFlags::IntervalEnd) => {
                value = Value::End;
            }
            SetElementAttribute::UserData(bytes) => owner = comment_of(bytes),
            _ => {}
        }
    }
    let place = Place { family, set, key: key? };
    Some(Entry { place, value, owner: Owner::from_comment(owner) })
}
