//! Rules in the tables of iptables from before nf_tables, by the text that its tools print.

use std::net::{IpAddr, SocketAddr};

use chain::Result;
use ipnet::IpNet;
use nft_templates::{
    Error,
    others::{Chain, Family},
};

use super::tables::{Said, Tables, Traces};
use crate::legacy::{Listing, TOOLS, Tools, words};

/// A table of both families, as far as this node uses it.
pub(super) struct Legacy {
    table: &'static str,
    listings: Vec<(Family, &'static Tools, Vec<String>)>,
}

/// A rule: a line of the listing, and its words.
pub(super) struct Line {
    family: Family,
    text: String,
    words: Vec<String>,
}

impl Legacy {
    /// The table; `None` where this node does not use it.
    pub fn load(table: Option<&'static str>) -> Result<Option<Self>> {
        let Some(table) = table else { return Ok(None) };
        let mut listings = Vec::new();
        for (tools, family) in TOOLS.iter().zip([Family::Ip, Family::Ip6]) {
            match tools.list(table)? {
                Listing::Unused => {}
                Listing::Lines(lines) => listings.push((family, tools, lines)),
                // DEL that fails is called again and again, and nothing here would change.
                Listing::Unreadable => tracing::warn!(
                    "rules of the reference plugins may be in table {table} of old iptables, which cannot be looked at: \
                     install {}, and DEL or GC again; or look in its output for the container's addresses, and for chains \
                     whose names begin with CNI-",
                    tools.save
                ),
            }
        }
        Ok((!listings.is_empty()).then_some(Self { table, listings }))
    }

    /// Takes rules and chains away, and says how many that were.
    pub fn remove(&self, traces: &Traces<Line>) -> Result<usize> {
        for (family, tools, _) in &self.listings {
            let rules = traces.rules.iter().filter(|rule| rule.family == *family);
            let rules = rules.filter_map(|rule| rule.text.strip_prefix("-A "));
            let mut commands: Vec<_> = rules.map(|rule| format!("-D {rule}")).collect();
            for command in ["-F", "-X"] {
                let chains = traces.chains.iter().filter(|chain| chain.family == *family);
                commands.extend(chains.map(|chain| format!("{command} {}", chain.name)));
            }
            if !commands.is_empty() {
                tools.restore(self.table, &commands)?;
            }
        }
        Ok(traces.rules.len() + traces.chains.len())
    }

    /// The lines of a chain's table that begin with this.
    fn lines(&self, chain: &Chain, start: &str) -> impl Iterator<Item = &String> {
        let listings = self.listings.iter();
        let listings = listings
            .filter(|(family, ..)| *family == chain.family && chain.table == self.table)
            .flat_map(|(_, _, lines)| lines);
        listings.filter(move |line| line.starts_with(start))
    }
}

impl Tables for Legacy {
    type Rule = Line;

    fn present(&mut self, mut chains: Vec<Chain>) -> Result<Vec<Chain>, Error> {
        chains.retain(|chain| self.lines(chain, &format!(":{} ", chain.name)).next().is_some());
        Ok(chains)
    }

    fn rules(&mut self, chain: &Chain) -> Result<Vec<Line>, Error> {
        let start = format!("-A {} ", chain.name);
        Ok(self.lines(chain, &start).map(|line| Line::read(chain.family, line)).collect())
    }
}

impl Line {
    fn read(family: Family, text: &str) -> Self {
        Self { family, text: text.to_owned(), words: words(text) }
    }

    /// What it says, without "-A" and the chain.
    fn said(&self) -> Vec<&str> {
        self.words.iter().skip(2).map(String::as_str).collect()
    }

    /// The word after an option, unless the option is negated.
    fn after(&self, option: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word == option)?;
        let negated = at > 0 && self.words[at - 1] == "!";
        self.words.get(at + 1).filter(|_| !negated).map(String::as_str)
    }

    fn address(&self, option: &str) -> Option<IpAddr> {
        let text = self.after(option)?;
        let net: IpNet = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
        (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
    }
}

impl Said for Line {
    fn leads_to(&self) -> Option<String> {
        self.after("-j").or_else(|| self.after("-g")).map(str::to_owned)
    }

    fn accepts_all_from(&self) -> Option<IpAddr> {
        let bare = matches!(self.said()[..], ["-s", _, "-j", "ACCEPT"]);
        bare.then(|| self.source()).flatten()
    }

    fn accepts_answers_to(&self) -> Option<IpAddr> {
        let bare = matches!(
            self.said()[..],
            [
                "-d",
                _,
                "-m",
                "conntrack",
                "--ctstate",
                "RELATED,ESTABLISHED" | "ESTABLISHED,RELATED",
                "-j",
                "ACCEPT"
            ]
        );
        bare.then(|| self.destination()).flatten()
    }

    fn masquerades(&self) -> bool {
        self.after("-j") == Some("MASQUERADE")
    }

    fn comment(&self) -> Option<&str> {
        self.after("--comment")
    }

    fn source(&self) -> Option<IpAddr> {
        self.address("-s")
    }

    fn destination(&self) -> Option<IpAddr> {
        self.address("-d")
    }

    fn destination_port(&self) -> Option<u16> {
        self.after("--dport")?.parse().ok()
    }

    fn dnat_to(&self) -> Option<SocketAddr> {
        self.after("--to-destination")?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(Family::Ip, text)
    }

    #[test]
    fn a_line_says_what_the_rule_does() {
        let jump = line(
            r#"-A POSTROUTING -s 10.1.0.2/32 -m comment --comment "name: \"net\" id: \"c1\"" -j CNI-1"#,
        );
        assert_eq!(jump.comment(), Some(r#"name: "net" id: "c1""#));
        assert_eq!(jump.leads_to().as_deref(), Some("CNI-1"));
        assert_eq!((jump.source(), jump.destination()), (Some([10, 1, 0, 2].into()), None));
        let dnat = line("-A a -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::2]:80");
        assert_eq!(dnat.dnat_to(), Some("[fd00::2]:80".parse().unwrap()));
        assert_eq!(dnat.destination_port(), Some(8080));
        let others =
            line("-A a ! -s 10.1.0.2/32 -d 10.1.0.0/24 -m comment --comment catena -j ACCEPT");
        assert_eq!((others.source(), others.destination()), (None, None));
        assert_eq!(others.comment(), Some("catena"));
    }

    #[test]
    fn only_rules_of_no_other_words_are_the_references() {
        let from = "-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT";
        let answers =
            "-A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        let own = Some([10, 1, 0, 2].into());
        assert_eq!((line(from).accepts_all_from(), line(from).accepts_answers_to()), (own, None));
        let answers = line(answers);
        assert_eq!((answers.accepts_all_from(), answers.accepts_answers_to()), (None, own));
        for others in [
            "-A CNI-FORWARD -d 10.1.0.2/32 -j ACCEPT",
            "-A CNI-FORWARD -s 10.1.0.2/32 -j DROP",
            "-A CNI-FORWARD ! -s 10.1.0.2/32 -j ACCEPT",
            "-A CNI-FORWARD -s 10.1.0.0/24 -j ACCEPT",
            "-A CNI-FORWARD -s 10.1.0.2/32 -i lan -j ACCEPT",
            "-A CNI-FORWARD -s 10.1.0.2/32 -m comment --comment mine -j ACCEPT",
            "-A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate ESTABLISHED -j ACCEPT",
            "-A CNI-FORWARD -d 10.1.0.2/32 -m conntrack ! --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ] {
            let others = line(others);
            assert_eq!((others.accepts_all_from(), others.accepts_answers_to()), (None, None));
        }
    }
}
