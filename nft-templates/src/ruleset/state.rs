//! What the kernel holds of what a change is about, read at one generation.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, TableAttribute, TableMessage,
};
use nix::errno::Errno;

use super::Ruleset;
use crate::{
    error::Error,
    netlink::{Connection, Request},
    set_element,
    stored::{Entry, Family, Place, TABLE, Value},
    templates,
};

/// How a table is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    Absent,
    /// It is this program's.
    Current,
    /// It is of another version, or damaged.
    Other,
}

/// What was read.
pub(super) struct State {
    /// The generation that it was read at, or before: a transaction for this generation is sure of it.
    pub(super) generation: u32,
    pub(super) tables: BTreeMap<Family, Found>,
    pub(super) entries: HashMap<Place, Entry>,
    /// Chains that exist, of those asked for.
    pub(super) chains: BTreeSet<String>,
}

impl Ruleset {
    /// Reads single elements and chains by name, in one go.
    pub(super) fn read<'a>(
        &mut self,
        families: &BTreeSet<Family>,
        places: impl Iterator<Item = &'a Place>,
        chains: impl Iterator<Item = &'a String>,
    ) -> Result<State, Error> {
        let (places, chains): (Vec<_>, Vec<_>) = (places.collect(), chains.collect());
        let mut requests = vec![Connection::generation()];
        for family in families {
            requests.push(get_table(*family));
            requests.push(set_element::get(&templates::version_place(*family)));
        }
        requests.extend(places.iter().map(|place| set_element::get(place)));
        requests.extend(chains.iter().map(|chain| get_chain(Family::Inet, chain)));

        let answers = self.connection.get(&requests)?;
        let mut answers = answers.into_iter();
        let generation = Connection::generation_of(answers.next().as_ref())?;
        let mut tables = BTreeMap::new();
        for family in families {
            let (table, version) = (answers.next(), answers.next());
            let found = match (table, version) {
                // Somebody's set of this name has other types.
                (Some(Ok(_)), Some(Err(Errno::EINVAL))) => Found::Other,
                (Some(Ok(_)), Some(version)) => {
                    let place = templates::version_place(*family);
                    let is = element_of(&place, version)?.map(|entry| entry.value);
                    let wanted = Value::Bytes(templates::version_bytes(*family));
                    if is == Some(wanted) { Found::Current } else { Found::Other }
                }
                _ => Found::Absent,
            };
            tables.insert(*family, found);
        }
        let mut entries = HashMap::new();
        for (place, answer) in places.into_iter().zip(answers.by_ref()) {
            if let Some(entry) = element_of(place, answer)? {
                entries.insert(place.clone(), entry);
            }
        }
        let found = chains.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok());
        let chains = found.map(|(chain, _)| chain.clone()).collect();
        Ok(State { generation, tables, entries, chains })
    }

    /// The ruleset's present generation.
    pub(super) fn generation(&mut self) -> Result<u32, Error> {
        let answers = self.connection.get(&[Connection::generation()])?;
        Connection::generation_of(answers.first())
    }

    /// All elements of a table's sets, which are sure to be all only if the ruleset's generation is the same
    /// before and after. A dump: not for the way of an ADD or DEL.
    pub(super) fn all_entries(&mut self, family: Family) -> Result<Vec<Entry>, Error> {
        self.entries_of(family, crate::stored::sets(family))
    }

    /// The elements of some of a table's sets (see [`Self::all_entries`]).
    pub(super) fn entries_of(
        &mut self,
        family: Family,
        sets: &[&'static str],
    ) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for set in sets {
            for message in self.connection.dump(&set_element::dump(family, set))? {
                if let NfTablesMessage::NewSetElement(message) = &message {
                    entries.extend(set_element::entries(family, set, message));
                }
            }
        }
        Ok(entries)
    }
}

/// The element in the answer to a question for one.
fn element_of(
    place: &Place,
    answer: Result<NfTablesMessage, Errno>,
) -> Result<Option<Entry>, Error> {
    match answer {
        Ok(NfTablesMessage::NewSetElement(message)) => {
            Ok(set_element::entries(place.family, place.set, &message).pop())
        }
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::Rejected { object: describe(&set_element::get(place)), errno }),
        Ok(other) => Err(Error::Protocol(format!("{other:?} instead of an element"))),
    }
}

pub(super) fn get_table(family: Family) -> Request {
    let attributes = vec![TableAttribute::Name(TABLE.into())];
    Request { family, flags: 0, message: NfTablesMessage::GetTable(TableMessage { attributes }) }
}

pub(super) fn get_chain(family: Family, name: &str) -> Request {
    let attributes = vec![ChainAttribute::Table(TABLE.into()), ChainAttribute::Name(name.into())];
    let message = NfTablesMessage::GetChain(ChainMessage { attributes });
    Request { family, flags: 0, message }
}

/// The object that a request is about, in nft's words.
pub(super) fn describe(request: &Request) -> String {
    use netlink_packet_netfilter::nftables::{
        DataAttribute, ListAttribute, RuleAttribute, SetAttribute, SetElementAttribute,
        SetElementList,
    };
    // Chains and rules may be in tables of others.
    let mut table = TABLE;
    let what = match &request.message {
        NfTablesMessage::NewChain(m) | NfTablesMessage::DeleteChain(m) => {
            let mut what = None;
            for attribute in &m.attributes {
                match attribute {
                    ChainAttribute::Table(of) => table = of,
                    ChainAttribute::Name(name) => what = Some(format!("chain {name} of ")),
                    _ => {}
                }
            }
            what
        }
        NfTablesMessage::NewSet(m) => m.attributes.iter().find_map(|attribute| match attribute {
            SetAttribute::Name(name) => Some(format!("set {name} of ")),
            _ => None,
        }),
        NfTablesMessage::NewRule(m) | NfTablesMessage::DeleteRule(m) => {
            let mut what = None;
            for attribute in &m.attributes {
                match attribute {
                    RuleAttribute::Table(of) => table = of,
                    RuleAttribute::Chain(name) => {
                        what = Some(format!("a rule in chain {name} of "))
                    }
                    _ => {}
                }
            }
            what
        }
        NfTablesMessage::NewSetElement(m)
        | NfTablesMessage::GetSetElement(m)
        | NfTablesMessage::DeleteSetElement(m) => {
            let (mut name, mut key) = (None, None);
            for attribute in &m.attributes {
                match attribute {
                    SetElementList::Set(set) => name = Some(set.as_str()),
                    SetElementList::Elements(elements) => {
                        if let Some(ListAttribute::Element(attributes)) = elements.first() {
                            key = attributes.iter().find_map(|attribute| match attribute {
                                SetElementAttribute::Key(DataAttribute::Value(key)) => Some(key),
                                _ => None,
                            });
                        }
                    }
                    _ => {}
                }
            }
            let known = Family::OURS.iter().flat_map(|f| crate::stored::sets(*f));
            let set = known.copied().find(|known| Some(*known) == name);
            let key = set.zip(key).and_then(|(set, key)| {
                crate::stored::key(&Place { family: request.family, set, key: key.clone() })
            });
            let key = key.map_or("an element".into(), |key| key.to_string());
            name.map(|name| format!("{key} in set {name} of "))
        }
        _ => None,
    };
    format!("{}table {} {table}", what.unwrap_or_default(), request.family)
}
