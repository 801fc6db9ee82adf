//! Where rules are, and what they say: of nf_tables, or of the tables of iptables from before.

use std::net::{IpAddr, SocketAddr};

use nft_templates::{
    Error,
    others::{Chain, Others, Rule},
};

/// Chains and their rules.
pub(crate) trait Tables {
    /// A rule in them.
    type Rule: Said;

    /// Those of the chains that are there.
    fn present(&mut self, chains: Vec<Chain>) -> Result<Vec<Chain>, Error>;

    /// A chain's rules; none where there is no such chain.
    fn rules(&mut self, chain: &Chain) -> Result<Vec<Self::Rule>, Error>;
}

/// What a rule says.
pub(crate) trait Said {
    /// The chain that it jumps or goes to.
    fn leads_to(&self) -> Option<String>;
    /// The one source address of which it accepts everything, if it says nothing else.
    fn accepts_all_from(&self) -> Option<IpAddr>;
    /// The one destination address of which it accepts answers, if it says nothing else.
    fn accepts_answers_to(&self) -> Option<IpAddr>;
    /// Whether it masquerades.
    fn masquerades(&self) -> bool;
    /// Its comment.
    fn comment(&self) -> Option<&str>;
    /// The one source address that it is about.
    fn source(&self) -> Option<IpAddr>;
    /// The one destination address that it is about.
    fn destination(&self) -> Option<IpAddr>;
    /// The one destination port that it is about.
    fn destination_port(&self) -> Option<u16>;
    /// Where it translates destinations to.
    fn dnat_to(&self) -> Option<SocketAddr>;
}

/// Rules and chains that are to go.
pub(crate) struct Traces<R> {
    /// Rules.
    pub rules: Vec<R>,
    /// Chains with their rules, in an order in which none is led to by one that comes after it.
    pub chains: Vec<Chain>,
}

impl<R> Default for Traces<R> {
    fn default() -> Self {
        Self { rules: Vec::new(), chains: Vec::new() }
    }
}

impl Tables for Others<'_> {
    type Rule = Rule;

    fn present(&mut self, chains: Vec<Chain>) -> Result<Vec<Chain>, Error> {
        Others::present(self, chains)
    }

    fn rules(&mut self, chain: &Chain) -> Result<Vec<Rule>, Error> {
        Others::rules(self, chain)
    }
}

impl Said for Rule {
    fn leads_to(&self) -> Option<String> {
        Rule::leads_to(self)
    }

    fn accepts_all_from(&self) -> Option<IpAddr> {
        Rule::accepts_all_from(self)
    }

    fn accepts_answers_to(&self) -> Option<IpAddr> {
        Rule::accepts_answers_to(self)
    }

    fn masquerades(&self) -> bool {
        Rule::masquerades(self)
    }

    fn comment(&self) -> Option<&str> {
        Rule::comment(self)
    }

    fn source(&self) -> Option<IpAddr> {
        Rule::source(self)
    }

    fn destination(&self) -> Option<IpAddr> {
        Rule::destination(self)
    }

    fn destination_port(&self) -> Option<u16> {
        Rule::destination_port(self)
    }

    fn dnat_to(&self) -> Option<SocketAddr> {
        Rule::dnat_to(self)
    }
}
