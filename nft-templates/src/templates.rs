//! The ruleset's text.

use std::sync::{LazyLock, OnceLock};

use netlink_packet_netfilter::nftables::{DataAttribute, NfTablesMessage, SetElementAttribute};

use crate::{
    compile, conditions,
    error::Error,
    language,
    netlink::Request,
    others::Chain,
    policy, set_element,
    stored::{Family, Place},
};

/// The ruleset as an administrator reads it: name and text of each file, in nft's language. All but the first two have
/// placeholders; [`crate::Policy::render`] fills in those of `policy.nft`.
pub const TEMPLATES: &[(&str, &str)] = &[
    ("catena.nft", include_str!("../catena.nft")),
    ("bridge.nft", include_str!("../bridge.nft")),
    ("policy.nft", policy::TEMPLATE),
    ("forward.nft", include_str!("../forward.nft")),
    ("iptables.nft", include_str!("../iptables.nft")),
    ("ports.nft", conditions::TEMPLATE),
];

/// What precedes the version's eight hexadecimal digits in a template.
const VERSION: &str = "elements = { 0x00000001 : 0x";

fn template(family: Family) -> (&'static str, &'static str) {
    match family {
        Family::Bridge => TEMPLATES[1],
        Family::Inet | Family::Ip | Family::Ip6 => TEMPLATES[0],
    }
}

/// A template's syntax tree. A process parses each once at most, and most processes need one.
fn parsed(family: Family) -> Result<&'static language::Table, Error> {
    static BRIDGE: OnceLock<language::Table> = OnceLock::new();
    static INET: OnceLock<language::Table> = OnceLock::new();
    let known = if family == Family::Bridge { &BRIDGE } else { &INET };
    if let Some(table) = known.get() {
        return Ok(table);
    }
    let (file, text) = template(family);
    let table = language::parse(file, text)?;
    Ok(known.get_or_init(|| table))
}

/// The messages that make the whole table.
pub(crate) fn install(family: Family) -> Result<Vec<Request>, Error> {
    let (file, _) = template(family);
    compile::table(file, parsed(family)?)
}

/// The messages that make the chain that an element leads to: a rendered `policy.nft` or `ports.nft`. It may look up the
/// table's own sets.
pub(crate) fn install_policy(text: &str) -> Result<Vec<Request>, Error> {
    let mut policy = language::parse("policy.nft", text)?;
    if text.contains('@') {
        policy.sets.clone_from(&parsed(Family::Inet)?.sets);
    }
    compile::chain("policy.nft", &policy)
}

/// The messages that make the rule which stands in a chain of another's.
pub(crate) fn forward_rule(chain: &Chain) -> Result<Vec<Request>, Error> {
    let (file, text) = TEMPLATES[3];
    let text = text.replace("$FAMILY", "inet").replace('$', "");
    let mut table = language::parse(file, &text)?;
    // Names of others may be anything; so they are put in here, and not in the text.
    table.family = chain.family;
    table.name.clone_from(&chain.table);
    for one in &mut table.chains {
        one.name.clone_from(&chain.name);
    }
    compile::chain(file, &table)
}

/// The messages that make the chains and rules which stand in iptables' table filter.
pub(crate) fn iptables_rules(family: Family, admin: &str) -> Result<Vec<Request>, Error> {
    let (file, text) = TEMPLATES[4];
    let text = text.replace("$ADMIN", admin).replace("$FAMILY", &family.to_string());
    compile::chain(file, &language::parse(file, &text)?)
}

/// A chain as the table is made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    /// Its name.
    pub name: &'static str,
    /// How many rules it has.
    pub rules: usize,
    /// How often the kernel says that it is used: its own rules, and those that lead to it.
    pub uses: usize,
}

impl Made {
    const fn new(name: &'static str, rules: usize, uses: usize) -> Self {
        Self { name, rules, uses }
    }
}

/// The table's chains. Each ADD looks at them, and needs no more of the template where all is as it should be: so they stand here
/// as well, and a test compares them.
pub(crate) fn chains(family: Family) -> &'static [Made] {
    const BRIDGE: &[Made] = &[Made::new("prerouting", 1, 1)];
    const INET: &[Made] = &[
        Made::new("raw_prerouting", 2, 2),
        Made::new("dnat4", 4, 6),
        Made::new("dnat4_addr", 2, 3),
        Made::new("dnat6", 5, 7),
        Made::new("dnat6_addr", 2, 3),
        Made::new("prerouting", 2, 2),
        Made::new("output", 2, 2),
        Made::new("forward", 15, 15),
        Made::new("closed", 3, 4),
        Made::new("forwarded", 1, 11),
        Made::new("forget_mark", 1, 1),
        Made::new("postrouting", 9, 9),
    ];
    if family == Family::Bridge { BRIDGE } else { INET }
}

/// The version that the template says it is.
fn version(family: Family) -> u32 {
    static BRIDGE: LazyLock<u32> = LazyLock::new(|| version_of(template(Family::Bridge).1));
    static INET: LazyLock<u32> = LazyLock::new(|| version_of(template(Family::Inet).1));
    if family == Family::Bridge { *BRIDGE } else { *INET }
}

fn version_of(text: &str) -> u32 {
    let digits = text.split_once(VERSION).and_then(|(_, rest)| rest.get(..8));
    // A test reads both templates' versions.
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

/// Where the table's version is.
pub(crate) fn version_place(family: Family) -> Place {
    Place { family, set: "version", key: 1_u32.to_ne_bytes().to_vec() }
}

/// The value there, if the table is of this program's version.
pub(crate) fn version_bytes(family: Family) -> Vec<u8> {
    version(family).to_ne_bytes().to_vec()
}

/// Adds the version to its map. This changes nothing where it is there already, and fails where there is
/// another one or no table: so a transaction with this in it happens to a table of this version, or not at
/// all, at no cost of a question beforehand.
pub(crate) fn version_check(family: Family) -> Request {
    let attributes = vec![
        SetElementAttribute::Key(DataAttribute::Value(version_place(family).key)),
        SetElementAttribute::Data(DataAttribute::Value(version_bytes(family))),
    ];
    Request {
        family,
        flags: netlink_packet_core::NLM_F_CREATE,
        message: NfTablesMessage::NewSetElement(set_element::list("version", vec![attributes])),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::language::{Statement, Verdict};

    #[test]
    fn each_template_says_its_own_version() {
        for family in Family::OURS {
            let (file, text) = template(family);
            let said = format!("{:08x}", version(family));
            let without = text.replace(&format!("{VERSION}{said}"), VERSION);
            let words = language::normalized(file, &without).unwrap();
            let is = &HEXLOWER.encode(&Sha256::digest(words))[..8];
            assert_eq!(said, is, "{file} was changed: its version must be 0x{is}");
        }
    }

    #[test]
    fn the_chains_are_those_of_the_templates() {
        for family in Family::OURS {
            let (file, text) = template(family);
            let table = language::parse(file, text).unwrap();
            let rules = || table.chains.iter().flat_map(|chain| &chain.rules);
            let leads_to = |rule: &language::Rule, name: &str| {
                let is = |one: &Statement| matches!(one, Statement::Verdict(Verdict::Jump(to) | Verdict::Goto(to)) if to == name);
                rule.statements.iter().any(is)
            };
            let made = table.chains.iter().map(|chain| {
                let uses = chain.rules.len() + rules().filter(|r| leads_to(r, &chain.name)).count();
                format!("Made::new({:?}, {}, {uses})", chain.name, chain.rules.len())
            });
            let said = chains(family)
                .iter()
                .map(|Made { name, rules, uses }| format!("Made::new({name:?}, {rules}, {uses})"));
            let (made, said) = (made.collect::<Vec<_>>(), said.collect::<Vec<_>>());
            assert_eq!(said, made, "{file}: its chains are\n{}", made.join(",\n"));
        }
    }

    #[test]
    fn all_templates_compile() {
        for family in Family::OURS {
            install(family).unwrap();
        }
    }
}
