//! The syntax tree.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::stored::Family;

/// `table FAMILY NAME { … }`
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) family: Family,
    pub(crate) name: String,
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

/// `set NAME { type KEY; flags interval; }` or `map NAME { type KEY : DATA; elements = { … } }`
#[derive(Clone, Debug)]
pub(crate) struct Set {
    pub(crate) name: String,
    /// The parts of the concatenated key.
    pub(crate) key: Vec<Type>,
    pub(crate) data: Data,
    /// Whether its elements are ranges.
    pub(crate) interval: bool,
    /// Elements that the template itself gives; only numbers to numbers are needed.
    pub(crate) elements: Vec<(u32, u32)>,
}

/// What a map leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Nothing: it is a set.
    Nothing,
    /// The parts of a concatenated value.
    Value(Vec<Type>),
    /// A verdict.
    Verdict,
}

/// A data type of nft's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Ipv4Addr,
    Ipv6Addr,
    EtherAddr,
    InetProto,
    InetService,
    Mark,
    Ifname,
}

/// `chain NAME { … }`
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) base: Option<BaseChain>,
    pub(crate) rules: Vec<Rule>,
}

/// `type KIND hook HOOK priority PRIORITY; policy accept;`
#[derive(Clone, Debug)]
pub(crate) struct BaseChain {
    pub(crate) kind: ChainKind,
    /// Number of the hook: prerouting 0, forward 2, output 3, postrouting 4.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChainKind {
    Filter,
    Nat,
}

/// One rule, which is one line.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) line: usize,
    pub(crate) statements: Vec<Statement>,
    /// `comment "…"`, at its end.
    pub(crate) comment: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// `FIELD . FIELD [!=] OPERAND`
    Match { fields: Vec<Field>, negated: bool, operand: Operand },
    /// `meta mark & BITS == BITS`: all of these bits are set.
    HasMark(u32),
    /// `meta mark set meta mark | BITS`, `meta mark set meta mark & MASK`: sets or clears bits.
    SetMark(Bits),
    /// `FIELD vmap @MAP`
    VerdictMap { fields: Vec<Field>, map: String },
    /// `dnat ip to FIELD . FIELD map @MAP`
    DnatMap { ip: Ip, fields: Vec<Field>, map: String },
    /// `masquerade fully-random`, `snat ip to ADDRESS fully-random`
    SourceNat { nat: Nat, fully_random: bool },
    /// `accept`, `jump CHAIN`, …
    Verdict(Verdict),
}

/// What is done with the bits of a packet's mark.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bits {
    /// These are set, the others stay.
    Set(u32),
    /// These stay, the others are cleared.
    Keep(u32),
}

#[derive(Clone, Debug)]
pub(crate) enum Nat {
    Masquerade,
    Snat(IpAddr),
}

#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What a field is compared with.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    /// `@NAME`
    Set(String),
    /// An address or a network.
    Net(IpNet),
    /// The name of an interface; with a `*` at its end, the beginning of one.
    Ifname(String),
    /// `ipv4` or `ipv6`, of `meta nfproto`.
    Nfproto(Ip),
    /// The loopback interface, which is number 1 in every network namespace.
    Lo,
    /// `local`, of `fib daddr type`.
    Local,
    /// `dnat`, of `ct status`.
    Dnat,
    /// `established,related`, of `ct state`.
    Established,
    /// `invalid`, of `ct state`.
    Invalid,
}

/// `ip` or `ip6`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

/// What is read off a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// `ip saddr`, `ip6 saddr`
    Saddr(Ip),
    /// `ip daddr`, `ip6 daddr`
    Daddr(Ip),
    /// `ether saddr`
    EtherSaddr,
    /// `meta l4proto`
    L4Proto,
    /// `meta nfproto`
    Nfproto,
    /// `th dport`
    DestinationPort,
    /// `iif`
    Iif,
    /// `iifname`
    Iifname,
    /// `oifname`
    Oifname,
    /// `ct status`
    CtStatus,
    /// `ct state`
    CtState,
    /// `fib daddr type`
    FibDaddrType,
}
