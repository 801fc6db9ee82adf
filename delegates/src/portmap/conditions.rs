//! `conditionsV4` and `conditionsV6`: which connections a port is for.
//!
//! The reference hands these words to its backend, as arguments of iptables or as words of a rule of nft's. Both are read
//! here, whatever the backend: those that say where a connection comes from, what it is made to, and by which interface.

use std::net::IpAddr;

use chain::{Code, Error, Result};
use ipnet::IpNet;
use nft_templates::{Condition, IpFamily, Subject};

/// What can be said, for errors.
const KNOWN: &str = "known are -s, -d and -i of iptables, each with ! before it or not, and ip saddr, ip daddr (ip6 for \
                     IPv6) and iifname of nft, each with == or != or nothing";

/// Reads the conditions of one family.
pub(super) fn read(field: &str, family: IpFamily, words: &[String]) -> Result<Vec<Condition>> {
    // One string may have several words of nft's.
    let words: Vec<_> = words.iter().flat_map(|words| words.split_whitespace()).collect();
    let mut reader = Reader { field, family, words: &words };
    let mut conditions = Vec::new();
    while !reader.words.is_empty() {
        let condition = reader.condition()?;
        match &condition.subject {
            Subject::Interface(name) if name == "*" && condition.negated => {
                return Err(Error::config(format!(
                    "{field}: no connection comes by none of all interfaces: leave the port out, or name the interfaces"
                )));
            }
            // Every interface is no condition, and the kernel would not take it as one.
            Subject::Interface(name) if name == "*" => {}
            _ => conditions.push(condition),
        }
    }
    Ok(conditions)
}

/// What is left to be read.
struct Reader<'w> {
    field: &'w str,
    family: IpFamily,
    words: &'w [&'w str],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }

    fn next_is(&mut self, word: &str) -> bool {
        let is = self.words.first() == Some(&word);
        if is {
            self.next();
        }
        is
    }

    fn condition(&mut self) -> Result<Condition> {
        let negated = self.next_is("!");
        let word = self.next().unwrap_or_default().to_owned();
        let subject = match word.as_str() {
            "-s" | "--source" | "--src" => Subject::Source(self.net(&word)?),
            "-d" | "--destination" | "--dst" => Subject::Destination(self.net(&word)?),
            "-i" | "--in-interface" => {
                let name = self.value(&word)?;
                Subject::Interface(name.strip_suffix('+').map_or(name.clone(), |n| format!("{n}*")))
            }
            "ip" | "ip6" | "iifname" | "meta" if !negated => return self.nft(&word),
            _ => return Err(self.unknown(&word)),
        };
        Ok(Condition { subject, negated })
    }

    /// What follows the first word of a condition in nft's language.
    fn nft(&mut self, first: &str) -> Result<Condition> {
        let own = if self.family == IpFamily::V4 { "ip" } else { "ip6" };
        let second = if first == "iifname" { "" } else { self.next().unwrap_or_default() };
        let what = format!("{first} {second}").trim_end().to_owned();
        let known = match (first, second) {
            ("iifname", _) | ("meta", "iifname") => true,
            (ip, "saddr" | "daddr") => ip == own,
            _ => false,
        };
        if !known {
            return Err(self.unknown(&what));
        }
        let negated = self.next_is("!=");
        if !negated {
            self.next_is("==");
        }
        let subject = if what.ends_with("saddr") {
            Subject::Source(self.net(&what)?)
        } else if what.ends_with("daddr") {
            Subject::Destination(self.net(&what)?)
        } else {
            Subject::Interface(self.value(&what)?.trim_matches('"').to_owned())
        };
        Ok(Condition { subject, negated })
    }

    fn value(&mut self, of: &str) -> Result<String> {
        let field = self.field;
        let value = self.next().map(str::to_owned);
        value.ok_or_else(|| Error::config(format!("{field}: nothing follows {of:?}")))
    }

    /// An address, or a network with its length or (as with iptables) its mask.
    fn net(&mut self, of: &str) -> Result<IpNet> {
        let text = self.value(of)?;
        let net =
            text.parse().ok().or_else(|| text.parse::<IpAddr>().map(IpNet::from).ok()).or_else(
                || {
                    let (address, mask) = text.split_once('/')?;
                    IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()
                },
            );
        let net = net.filter(|net: &IpNet| IpFamily::of(net.addr()) == self.family);
        net.ok_or_else(|| {
            Error::config(format!(
                "{}: {text:?} after {of:?} is not an {} address or network",
                self.field, self.family
            ))
        })
    }

    fn unknown(&self, word: &str) -> Error {
        Error::new(
            Code::UnsupportedField,
            format!(
                "{}: {word:?} is not supported: {KNOWN}; say it by these, or have the reference plugin run by \
                 \"exec\": true",
                self.field
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_of(family: IpFamily, words: &[&str]) -> Result<String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let conditions = read("conditionsV4", family, &words)?;
        let texts: Vec<_> = conditions.iter().map(ToString::to_string).collect();
        Ok(texts.join(", "))
    }

    #[test]
    fn iptables_arguments_and_words_of_nft_are_read() {
        for (words, is) in [
            (&[][..], ""),
            (&["!", "-d", "192.0.2.0/24"], "not to 192.0.2.0/24"),
            (&["-s", "192.0.2.7", "-i", "eth0"], "from 192.0.2.7/32, by eth0"),
            (&["-i", "+", "iifname", "*", "-s", "192.0.2.7"], "from 192.0.2.7/32"),
            (
                &["--source", "10.0.0.0/255.0.0.0", "!", "--in-interface", "cni+"],
                "from 10.0.0.0/8, not by cni*",
            ),
            (
                &["--dst", "192.0.2.9/24", "!", "--src", "10.1.2.3"],
                "to 192.0.2.9/24, not from 10.1.2.3/32",
            ),
            (&["ip", "daddr", "!=", "192.0.2.0/24"], "not to 192.0.2.0/24"),
            (&["ip saddr == 10.0.0.0/8", "iifname \"eth*\""], "from 10.0.0.0/8, by eth*"),
            (
                &["meta", "iifname", "!=", "eth0", "ip", "saddr", "10.1.2.3"],
                "not by eth0, from 10.1.2.3/32",
            ),
        ] {
            assert_eq!(read_of(IpFamily::V4, words).unwrap(), is, "{words:?}");
        }
        let v6 = read_of(IpFamily::V6, &["!", "-d", "2001:db8::/32", "ip6", "saddr", "fd00::1"]);
        assert_eq!(v6.unwrap(), "not to 2001:db8::/32, from fd00::1/128");
    }

    #[test]
    fn anything_else_is_named() {
        for (words, code, told) in [
            (&["-m", "comment"][..], Code::UnsupportedField, "\"-m\" is not supported"),
            (&["-d", "192.0.2.1", "--ctstate", "NEW"], Code::UnsupportedField, "\"--ctstate\""),
            (&["!", "ip", "daddr", "192.0.2.1"], Code::UnsupportedField, "\"ip\""),
            (&["ip", "protocol", "tcp"], Code::UnsupportedField, "\"ip protocol\""),
            (&["ip6", "daddr", "::1"], Code::UnsupportedField, "\"ip6 daddr\""),
            (&["meta", "mark", "1"], Code::UnsupportedField, "\"meta mark\""),
            (&["!"], Code::UnsupportedField, "\"\" is not supported"),
            (&["-s"], Code::InvalidConfig, "nothing follows \"-s\""),
            (&["-s", "::1"], Code::InvalidConfig, "\"::1\" after \"-s\" is not an IPv4 address"),
            (&["!", "-i", "+"], Code::InvalidConfig, "none of all interfaces"),
            (&["-d", "here"], Code::InvalidConfig, "\"here\" after \"-d\""),
            (
                &["ip", "daddr", "{", "192.0.2.1", "}"],
                Code::InvalidConfig,
                "\"{\" after \"ip daddr\"",
            ),
        ] {
            let error = read_of(IpFamily::V4, words).unwrap_err();
            assert_eq!(error.code, code, "{error}");
            assert!(error.msg.contains(told), "{error}");
        }
    }
}
