//! The compiler: a template's syntax tree to the messages of nf_tables that make it.
//!
//! The expressions are those that `nft -f` makes of the same line, so that `nft list` cannot tell who
//! installed the table; a test compares the two.

mod expression;

use std::collections::HashMap;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, HookNumber, NfTablesMessage, RuleAttribute,
    RuleMessage, SetAttribute, SetElementAttribute, SetFlags, SetMessage, TableAttribute,
    TableMessage,
};

use self::expression::{Names, expressions};
use crate::{
    comment::comment,
    error::Error,
    language::{BaseChain, Chain, ChainKind, Data, Rule, Set, Table, Type},
    netlink::Request,
    set_element,
    stored::Family,
};

/// The number that nft gives the data type of a verdict map's values.
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// Everything that makes the table: it, its sets with their elements, its chains, their rules.
pub(crate) fn table(file: &str, table: &Table) -> Result<Vec<Request>, Error> {
    let mut requests = vec![new_table(table)];
    requests.extend(table.chains.iter().map(|chain| new_chain(table, chain)));
    for (index, set) in table.sets.iter().enumerate() {
        requests.push(new_set(table, set, index as u32 + 1));
        requests.extend(set.elements.iter().map(|element| new_element(table, set, *element)));
    }
    requests.extend(rules(file, table, &names(table))?);
    Ok(requests)
}

/// A chain with its rules, to be added to a table that exists. `file` is only for error messages.
pub(crate) fn chain(file: &str, table: &Table) -> Result<Vec<Request>, Error> {
    let mut requests: Vec<_> = table.chains.iter().map(|chain| new_chain(table, chain)).collect();
    requests.extend(rules(file, table, &names(table))?);
    Ok(requests)
}

fn names(table: &Table) -> Names<'_> {
    table.sets.iter().map(|set| (&set.name[..], set)).collect::<HashMap<_, _>>()
}

fn rules(file: &str, table: &Table, names: &Names<'_>) -> Result<Vec<Request>, Error> {
    let all = table.chains.iter().flat_map(|chain| chain.rules.iter().map(move |r| (chain, r)));
    all.map(|(chain, rule)| {
        new_rule(table, chain, rule, names).map_err(|why| Error::Template {
            file: file.to_owned(),
            line: rule.line,
            why,
        })
    })
    .collect()
}

fn new_table(table: &Table) -> Request {
    let attributes = vec![TableAttribute::Name(table.name.clone())];
    Request {
        family: table.family,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: NfTablesMessage::NewTable(TableMessage { attributes }),
    }
}

fn new_chain(table: &Table, chain: &Chain) -> Request {
    let mut attributes =
        vec![ChainAttribute::Table(table.name.clone()), ChainAttribute::Name(chain.name.clone())];
    if let Some(BaseChain { kind, hook, priority }) = &chain.base {
        let kind = match kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        attributes.extend([
            ChainAttribute::Type(kind.into()),
            ChainAttribute::Policy(1), // NF_ACCEPT
            ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Other(*hook)),
                Hook::Priority(priority.cast_unsigned()),
            ]),
        ]);
    }
    Request {
        family: table.family,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: NfTablesMessage::NewChain(ChainMessage { attributes }),
    }
}

fn new_set(table: &Table, set: &Set, id: u32) -> Request {
    let mut flags = SetFlags::empty();
    let mut attributes = vec![
        SetAttribute::Table(table.name.clone()),
        SetAttribute::Name(set.name.clone()),
        SetAttribute::KeyType(type_number(&set.key)),
        SetAttribute::KeyLen(length(&set.key)),
        SetAttribute::Id(id),
    ];
    let mut userdata = byteorder(0, &set.key); // NFTNL_UDATA_SET_KEYBYTEORDER
    match &set.data {
        Data::Nothing => {}
        Data::Verdict => {
            flags |= SetFlags::Map;
            attributes.push(SetAttribute::DataType(VERDICT_TYPE));
            attributes.push(SetAttribute::DataLen(0));
        }
        Data::Value(types) => {
            flags |= SetFlags::Map;
            attributes.push(SetAttribute::DataType(type_number(types)));
            attributes.push(SetAttribute::DataLen(length(types)));
            userdata.extend(byteorder(1, types)); // NFTNL_UDATA_SET_DATABYTEORDER
        }
    }
    if set.interval {
        flags |= SetFlags::Interval;
    }
    attributes.push(SetAttribute::Flags(flags));
    attributes.push(SetAttribute::UserData(userdata));
    Request {
        family: table.family,
        flags: NLM_F_CREATE | NLM_F_EXCL,
        message: NfTablesMessage::NewSet(SetMessage { attributes }),
    }
}

fn new_element(table: &Table, set: &Set, (key, value): (u32, u32)) -> Request {
    let attributes = vec![
        SetElementAttribute::Key(DataAttribute::Value(key.to_ne_bytes().to_vec())),
        SetElementAttribute::Data(DataAttribute::Value(value.to_ne_bytes().to_vec())),
    ];
    Request {
        family: table.family,
        flags: NLM_F_CREATE,
        message: NfTablesMessage::NewSetElement(set_element::list(&set.name, vec![attributes])),
    }
}

fn new_rule(
    table: &Table,
    chain: &Chain,
    rule: &Rule,
    names: &Names<'_>,
) -> Result<Request, String> {
    let mut attributes = vec![
        RuleAttribute::Table(table.name.clone()),
        RuleAttribute::Chain(chain.name.clone()),
        RuleAttribute::Expressions(
            expressions(table.family == Family::Inet, &rule.statements, names)?
                .into_iter()
                .map(Into::into)
                .collect(),
        ),
    ];
    attributes.extend(rule.comment.as_deref().map(|text| RuleAttribute::UserData(comment(text))));
    Ok(Request {
        family: table.family,
        flags: NLM_F_CREATE | NLM_F_APPEND,
        message: NfTablesMessage::NewRule(RuleMessage { attributes }),
    })
}

/// nft's number of a type; those of a concatenation follow each other, six bits each.
fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| {
        (number << 6)
            | match part {
                Type::Ipv4Addr => 7,
                Type::Ipv6Addr => 8,
                Type::EtherAddr => 9,
                Type::InetProto => 12,
                Type::InetService => 13,
                Type::Mark => 19,
                Type::Ifname => 41,
            }
    })
}

/// Bytes of a key or value: what stands alone is as long as it is, parts of a concatenation are padded to
/// a multiple of four.
fn length(types: &[Type]) -> u32 {
    match types {
        [one] => one.length(),
        parts => parts.iter().map(|part| part.length().next_multiple_of(4)).sum(),
    }
}

impl Type {
    fn length(self) -> u32 {
        match self {
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ipv4Addr | Self::Mark => 4,
            Self::EtherAddr => 6,
            Self::Ipv6Addr | Self::Ifname => 16,
        }
    }
}

/// nft's note to itself in which order the bytes of a set are, which its listing goes by.
fn byteorder(kind: u8, types: &[Type]) -> Vec<u8> {
    let order: u32 = match types {
        [Type::Mark | Type::Ifname] => 1, // the host's
        [_] => 2,                         // the network's
        _ => 0,                           // each part has its own
    };
    [&[kind, 4][..], &order.to_ne_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::parse;

    fn error(family: &str, rule: &str) -> String {
        let sets =
            "set v4 { type ipv4_addr; }\nmap ports { type inet_proto . inet_service : verdict; }";
        let text = format!("table {family} t {{\n{sets}\nchain c {{\n{rule}\n}}\n}}");
        table("x.nft", &parse("x.nft", &text).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_would_not_do_as_it_says_is_an_error_with_its_line() {
        for (family, rule, why) in [
            ("inet", "ip saddr @none", "there is no set none"),
            ("inet", "ip6 saddr @v4", "the types of set v4 are not those of what is looked up"),
            ("inet", "th dport . meta l4proto vmap @ports", "the types of set ports"),
            ("inet", "ip saddr @v4 ip6 saddr ::1", "a packet is never of both families"),
            ("inet", "meta l4proto . ip saddr @v4", "an address of a concatenation comes first"),
            ("inet", "ether saddr @v4", "only the bridge family sees Ethernet addresses"),
            ("bridge", "ip saddr @v4", "addresses are read in the inet family only"),
            ("inet", "ct status != dnat drop", "this comparison is not supported"),
        ] {
            let error = error(family, rule);
            assert!(error.starts_with("x.nft:5: ") && error.contains(why), "{rule}: {error}");
        }
    }

    #[test]
    fn concatenations_are_padded_and_numbered_as_nft_does() {
        assert_eq!(length(&[Type::InetService]), 2);
        assert_eq!(length(&[Type::InetProto, Type::InetService]), 8);
        assert_eq!(length(&[Type::Ifname, Type::EtherAddr]), 24);
        assert_eq!(type_number(&[Type::Ipv4Addr, Type::InetService]), 7 << 6 | 13);
    }
}
