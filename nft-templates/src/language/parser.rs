//! Tokens to syntax tree.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    lexer::{Kind, Token, lex, unexpected},
    syntax::{
        BaseChain, Bits, Chain, ChainKind, Data, Field, Ip, Nat, Operand, Rule, Set, Statement,
        Table, Type, Verdict,
    },
};
use crate::{error::Error, stored::Family};

/// Parses a template: one table.
pub(crate) fn parse(file: &str, text: &str) -> Result<Table, Error> {
    let mut parser = Parser { file, tokens: lex(file, text)?, next: 0 };
    let table = parser.table()?;
    parser.skip_ends();
    match parser.peek() {
        None => Ok(table),
        Some(_) => Err(parser.error("the end of the file")),
    }
}

struct Parser<'a, 't> {
    file: &'a str,
    tokens: Vec<Token<'t>>,
    next: usize,
}

impl<'t> Parser<'_, 't> {
    // === what the rest is built from ===

    fn peek(&self) -> Option<Kind<'t>> {
        self.tokens.get(self.next).map(|token| token.kind)
    }

    fn line(&self) -> usize {
        self.line_of(self.next)
    }

    fn line_of(&self, token: usize) -> usize {
        let token = self.tokens.get(token).or(self.tokens.last());
        token.map_or(1, |token| token.line)
    }

    /// The error "expected …, found …" at the present place.
    fn error(&self, expected: &str) -> Error {
        self.error_at(self.next, expected)
    }

    /// The same at another token.
    fn error_at(&self, token: usize, expected: &str) -> Error {
        let found = self.tokens.get(token).map(|token| format!("\"{}\"", token.kind));
        let found = found.unwrap_or_else(|| "the end of the file".to_owned());
        unexpected(self.file, self.line_of(token), &format!("expected {expected}, found {found}"))
    }

    fn skip_ends(&mut self) {
        while self.peek() == Some(Kind::End) {
            self.next += 1;
        }
    }

    fn word(&mut self, what: &str) -> Result<&'t str, Error> {
        match self.peek() {
            Some(Kind::Word(word)) => {
                self.next += 1;
                Ok(word)
            }
            _ => Err(self.error(what)),
        }
    }

    fn quoted(&mut self, what: &str) -> Result<&'t str, Error> {
        match self.peek() {
            Some(Kind::Quoted(text)) => {
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.error(what)),
        }
    }

    fn keyword(&mut self, keyword: &str) -> Result<(), Error> {
        if self.next_is(keyword) { Ok(()) } else { Err(self.error(&format!("\"{keyword}\""))) }
    }

    /// Takes this word if it is next.
    fn next_is(&mut self, keyword: &str) -> bool {
        let is = matches!(self.peek(), Some(Kind::Word(word)) if word == keyword);
        self.next += usize::from(is);
        is
    }

    /// Takes these two words if they are next.
    fn next_are(&mut self, [first, second]: [&str; 2]) -> bool {
        let before = self.next;
        let are = self.next_is(first) && self.next_is(second);
        if !are {
            self.next = before;
        }
        are
    }

    /// Takes this symbol if it is next.
    fn next_symbol(&mut self, symbol: &str) -> bool {
        let is = matches!(self.peek(), Some(Kind::Symbol(s)) if s == symbol);
        self.next += usize::from(is);
        is
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), Error> {
        if self.next_symbol(symbol) { Ok(()) } else { Err(self.error(&format!("\"{symbol}\""))) }
    }

    fn end(&mut self) -> Result<(), Error> {
        match self.peek() {
            Some(Kind::End) => {
                self.next += 1;
                Ok(())
            }
            Some(Kind::Symbol("}")) => Ok(()),
            _ => Err(self.error("the end of the line or \";\"")),
        }
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, Error> {
        let before = self.next;
        let word = self.word(what)?;
        word.parse().map_err(|_| {
            self.next = before;
            self.error(what)
        })
    }

    /// `@NAME`
    fn set_name(&mut self) -> Result<String, Error> {
        self.symbol("@")?;
        Ok(self.word("the name of a set")?.to_owned())
    }

    // === tables and what they hold ===

    fn table(&mut self) -> Result<Table, Error> {
        self.skip_ends();
        self.keyword("table")?;
        let family = if self.next_is("inet") {
            Family::Inet
        } else if self.next_is("bridge") {
            Family::Bridge
        } else if self.next_is("ip") {
            Family::Ip
        } else if self.next_is("ip6") {
            Family::Ip6
        } else {
            return Err(self.error("\"inet\", \"bridge\", \"ip\" or \"ip6\""));
        };
        let name = self.word("the table's name")?.to_owned();
        let mut table = Table { family, name, sets: Vec::new(), chains: Vec::new() };
        self.symbol("{")?;
        loop {
            self.skip_ends();
            if self.next_symbol("}") {
                return Ok(table);
            } else if self.next_is("set") {
                table.sets.push(self.set(false)?);
            } else if self.next_is("map") {
                table.sets.push(self.set(true)?);
            } else if self.next_is("chain") {
                table.chains.push(self.chain(family)?);
            } else {
                return Err(self.error("\"set\", \"map\", \"chain\" or \"}\""));
            }
        }
    }

    fn set(&mut self, is_map: bool) -> Result<Set, Error> {
        let name = self.word("the set's name")?.to_owned();
        self.symbol("{")?;
        self.skip_ends();
        self.keyword("type")?;
        let key = self.types()?;
        let data = if !is_map {
            Data::Nothing
        } else {
            self.symbol(":")?;
            if self.next_is("verdict") { Data::Verdict } else { Data::Value(self.types()?) }
        };
        self.end()?;
        self.skip_ends();
        let interval = self.next_is("flags");
        if interval {
            self.keyword("interval")?;
            self.end()?;
            self.skip_ends();
        }
        let mut elements = Vec::new();
        if self.next_is("elements") {
            self.symbol("=")?;
            self.symbol("{")?;
            let key = self.hexadecimal()?;
            self.symbol(":")?;
            elements.push((key, self.hexadecimal()?));
            self.symbol("}")?;
            self.skip_ends();
        }
        self.symbol("}")?;
        Ok(Set { name, key, data, interval, elements })
    }

    fn hexadecimal(&mut self) -> Result<u32, Error> {
        let what = "a number of 8 hexadecimal digits after 0x";
        let start = self.next;
        let word = self.word(what)?;
        let digits = word.strip_prefix("0x").filter(|digits| digits.len() == 8);
        digits
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error_at(start, what))
    }

    fn types(&mut self) -> Result<Vec<Type>, Error> {
        let mut types = Vec::new();
        loop {
            let start = self.next;
            types.push(match self.word("a data type")? {
                "ipv4_addr" => Type::Ipv4Addr,
                "ipv6_addr" => Type::Ipv6Addr,
                "ether_addr" => Type::EtherAddr,
                "inet_proto" => Type::InetProto,
                "inet_service" => Type::InetService,
                "mark" => Type::Mark,
                "ifname" => Type::Ifname,
                _ => return Err(self.error_at(start, "a data type")),
            });
            if !self.next_symbol(".") {
                return Ok(types);
            }
        }
    }

    fn chain(&mut self, family: Family) -> Result<Chain, Error> {
        let name = self.word("the chain's name")?.to_owned();
        self.symbol("{")?;
        self.skip_ends();
        let base = if self.next_is("type") { Some(self.base_chain(family)?) } else { None };
        let mut rules = Vec::new();
        loop {
            self.skip_ends();
            if self.next_symbol("}") {
                return Ok(Chain { name, base, rules });
            }
            rules.push(self.rule()?);
        }
    }

    fn base_chain(&mut self, family: Family) -> Result<BaseChain, Error> {
        let kind = match self.word("\"filter\" or \"nat\"")? {
            "filter" => ChainKind::Filter,
            "nat" => ChainKind::Nat,
            other => {
                return Err(unexpected(self.file, self.line(), &format!("chain type {other}")));
            }
        };
        self.keyword("hook")?;
        let hook = match self.word("a hook")? {
            "prerouting" => 0,
            "forward" => 2,
            "output" => 3,
            "postrouting" => 4,
            other => return Err(unexpected(self.file, self.line(), &format!("hook {other}"))),
        };
        self.keyword("priority")?;
        // The names are nft's; in the bridge family they stand for other numbers.
        let base = match (family, self.peek()) {
            (Family::Inet, Some(Kind::Word(word))) => match word {
                "raw" => Some(-300),
                "dstnat" => Some(-100),
                "filter" => Some(0),
                "srcnat" => Some(100),
                _ => None,
            },
            (Family::Bridge, Some(Kind::Word("dstnat"))) => Some(-300),
            _ => None,
        };
        let priority = match base {
            None => self.number("a priority")?,
            Some(base) => {
                self.next += 1;
                if self.next_symbol("+") {
                    base + self.number::<i32>("a number")?
                } else if self.next_is("-") {
                    base - self.number::<i32>("a number")?
                } else {
                    base
                }
            }
        };
        self.end()?;
        self.keyword("policy")?;
        self.keyword("accept")?;
        self.end()?;
        Ok(BaseChain { kind, hook, priority })
    }

    // === rules ===

    fn rule(&mut self) -> Result<Rule, Error> {
        let line = self.line();
        let mut statements = Vec::new();
        let mut comment = None;
        while !matches!(self.peek(), Some(Kind::End | Kind::Symbol("}")) | None) {
            if self.next_is("comment") {
                comment = Some(self.quoted("the comment's text")?.to_owned());
                break;
            }
            statements.push(self.statement()?);
        }
        self.end()?;
        Ok(Rule { line, statements, comment })
    }

    fn statement(&mut self) -> Result<Statement, Error> {
        if self.next_is("accept") {
            Ok(Statement::Verdict(Verdict::Accept))
        } else if self.next_is("drop") {
            Ok(Statement::Verdict(Verdict::Drop))
        } else if self.next_is("return") {
            Ok(Statement::Verdict(Verdict::Return))
        } else if self.next_is("jump") {
            Ok(Statement::Verdict(Verdict::Jump(self.word("a chain")?.to_owned())))
        } else if self.next_is("goto") {
            Ok(Statement::Verdict(Verdict::Goto(self.word("a chain")?.to_owned())))
        } else if self.next_is("masquerade") {
            let fully_random = self.next_is("fully-random");
            Ok(Statement::SourceNat { nat: Nat::Masquerade, fully_random })
        } else if self.next_is("snat") {
            let ip = self.ip()?;
            self.keyword("to")?;
            let to: IpAddr = self.number("an address")?;
            if to.is_ipv4() != (ip == Ip::V4) {
                return Err(self.error("an address of the other family"));
            }
            let fully_random = self.next_is("fully-random");
            Ok(Statement::SourceNat { nat: Nat::Snat(to), fully_random })
        } else if self.next_is("dnat") {
            let ip = self.ip()?;
            self.keyword("to")?;
            let fields = self.fields()?;
            self.keyword("map")?;
            Ok(Statement::DnatMap { ip, fields, map: self.set_name()? })
        } else if self.next_are(["meta", "mark"]) {
            self.mark()
        } else {
            self.matching()
        }
    }

    /// What follows `meta mark`.
    fn mark(&mut self) -> Result<Statement, Error> {
        if self.next_is("set") {
            self.keyword("meta")?;
            self.keyword("mark")?;
            if self.next_symbol("|") {
                return Ok(Statement::SetMark(Bits::Set(self.hexadecimal()?)));
            }
            self.symbol("&")?;
            return Ok(Statement::SetMark(Bits::Keep(self.hexadecimal()?)));
        }
        self.symbol("&")?;
        let bits = self.hexadecimal()?;
        self.symbol("==")?;
        let start = self.next;
        if self.hexadecimal()? == bits {
            Ok(Statement::HasMark(bits))
        } else {
            Err(self.error_at(start, "the same bits"))
        }
    }

    fn matching(&mut self) -> Result<Statement, Error> {
        let fields = self.fields()?;
        if self.next_is("vmap") {
            return Ok(Statement::VerdictMap { fields, map: self.set_name()? });
        }
        let negated = self.next_symbol("!=");
        let operand = if self.next_symbol("@") {
            Operand::Set(self.word("the name of a set")?.to_owned())
        } else {
            match fields[..] {
                [Field::Saddr(ip) | Field::Daddr(ip)] => Operand::Net(self.net(ip)?),
                [Field::Iif] if self.peek() == Some(Kind::Quoted("lo")) => {
                    self.next += 1;
                    Operand::Lo
                }
                [Field::Iifname] => {
                    Operand::Ifname(self.quoted("the name of an interface")?.to_owned())
                }
                [Field::Nfproto] if self.next_is("ipv4") => Operand::Nfproto(Ip::V4),
                [Field::Nfproto] if self.next_is("ipv6") => Operand::Nfproto(Ip::V6),
                [Field::FibDaddrType] if self.next_is("local") => Operand::Local,
                [Field::CtStatus] if self.next_is("dnat") => Operand::Dnat,
                [Field::CtState] if self.next_is("established") => {
                    self.symbol(",")?;
                    self.keyword("related")?;
                    Operand::Established
                }
                [Field::CtState] if self.next_is("invalid") => Operand::Invalid,
                _ => return Err(self.error("what this can be compared with")),
            }
        };
        Ok(Statement::Match { fields, negated, operand })
    }

    fn net(&mut self, ip: Ip) -> Result<IpNet, Error> {
        let start = self.next;
        let word = self.word("an address or network")?;
        let net = match word.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address)),
            Err(_) => word.parse::<IpNet>().ok(),
        };
        net.filter(|net| matches!(net, IpNet::V4(_)) == (ip == Ip::V4) && *net == net.trunc())
            .ok_or_else(|| self.error_at(start, "an address or network of this family"))
    }

    fn ip(&mut self) -> Result<Ip, Error> {
        if self.next_is("ip") {
            Ok(Ip::V4)
        } else if self.next_is("ip6") {
            Ok(Ip::V6)
        } else {
            Err(self.error("\"ip\" or \"ip6\""))
        }
    }

    fn fields(&mut self) -> Result<Vec<Field>, Error> {
        let mut fields = vec![self.field()?];
        while self.next_symbol(".") {
            fields.push(self.field()?);
        }
        Ok(fields)
    }

    fn field(&mut self) -> Result<Field, Error> {
        let start = self.next;
        let first = self.word("a statement")?;
        Ok(match first {
            "ip" | "ip6" => {
                let ip = if first == "ip" { Ip::V4 } else { Ip::V6 };
                if self.next_is("saddr") {
                    Field::Saddr(ip)
                } else {
                    self.keyword("daddr")?;
                    Field::Daddr(ip)
                }
            }
            "ether" => {
                self.keyword("saddr")?;
                Field::EtherSaddr
            }
            "meta" => {
                if self.next_is("nfproto") {
                    Field::Nfproto
                } else {
                    self.keyword("l4proto")?;
                    Field::L4Proto
                }
            }
            "th" => {
                self.keyword("dport")?;
                Field::DestinationPort
            }
            "iif" => Field::Iif,
            "iifname" => Field::Iifname,
            "oifname" => Field::Oifname,
            "ct" => {
                if self.next_is("state") {
                    Field::CtState
                } else {
                    self.keyword("status")?;
                    Field::CtStatus
                }
            }
            "fib" => {
                self.keyword("daddr")?;
                self.keyword("type")?;
                Field::FibDaddrType
            }
            _ => return Err(self.error_at(start, "a statement")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("x.nft", text).unwrap_err().to_string()
    }

    fn rule_error(rule: &str) -> String {
        error(&format!("table inet t {{\n\tchain c {{\n\t\t{rule}\n\t}}\n}}\n"))
    }

    #[test]
    fn what_it_does_not_know_is_an_error_with_its_line() {
        assert_eq!(
            rule_error("ip saddr 10.0.0.1 counter accept"),
            "x.nft:3: expected a statement, found \"counter\""
        );
        assert_eq!(rule_error("tcp dport 80"), "x.nft:3: expected a statement, found \"tcp\"");
        assert_eq!(
            error("table arp t {}"),
            "x.nft:1: expected \"inet\", \"bridge\", \"ip\" or \"ip6\", found \"arp\""
        );
        assert_eq!(
            error("table inet t {\nset s { type nonsense; }\n}"),
            "x.nft:2: expected a data type, found \"nonsense\""
        );
        assert_eq!(
            error("table inet t {\n"),
            "x.nft:1: expected \"set\", \"map\", \"chain\" or \"}\", found the end of the file"
        );
        assert_eq!(
            error("table inet t {}\ntable inet u {}\n"),
            "x.nft:2: expected the end of the file, found \"table\""
        );
    }

    #[test]
    fn an_address_must_be_of_its_family_and_a_network_without_host_bits() {
        for rule in ["ip saddr ::1", "ip6 saddr 10.0.0.1", "ip saddr 10.0.0.1/8", "ip saddr web"] {
            assert!(rule_error(rule).contains("an address or network of this family"), "{rule}");
        }
        for rule in ["snat ip to ::1", "snat ip6 to 10.0.0.1"] {
            assert!(rule_error(rule).contains("an address"), "{rule}");
        }
    }

    #[test]
    fn a_mark_is_compared_by_bits_that_are_all_set() {
        for rule in ["meta mark & 0x00000001 == 0x00000002", "meta mark == 0x00000001"] {
            assert!(rule_error(rule).contains("expected"), "{rule}");
        }
        assert!(rule_error("meta mark set 0x00000001").contains("expected \"meta\""));
    }

    #[test]
    fn a_priority_may_be_a_name_with_a_number() {
        let priority = |family: &str, priority: &str| {
            let text = format!(
                "table {family} t {{ chain c {{ type filter hook output priority {priority}; policy accept; }} }}"
            );
            parse("x.nft", &text).map(|table| table.chains[0].base.clone().unwrap().priority)
        };
        assert_eq!(priority("inet", "dstnat + 10").unwrap(), -90);
        assert_eq!(priority("inet", "-90").unwrap(), -90);
        assert_eq!(priority("inet", "raw").unwrap(), -300);
        assert_eq!(priority("inet", "filter - 10").unwrap(), -10);
        assert_eq!(priority("bridge", "dstnat").unwrap(), -300);
        assert!(priority("bridge", "raw").is_err());
    }
}
