//! Rules to expressions.

use std::collections::HashMap;

use ipnet::IpNet;
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Operator, Payload,
    Register, Verdict as VerdictCode, VerdictAttribute,
};

use crate::language::{Bits, Field, Ip, Nat, Operand, Set, Statement, Type, Verdict};
use crate::stored::padded_ifname;

/// The table's sets by name: a rule's lookups are checked against their types.
pub(super) type Names<'a> = HashMap<&'a str, &'a Set>;

// Numbers of linux/netfilter/nf_tables.h and its neighbours that netlink-packet-netfilter does not have.
const PAYLOAD_LINK_LAYER: u32 = 0;
const PAYLOAD_NETWORK_HEADER: u32 = 1;
const PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const LOOKUP_INVERTED: u32 = 1;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const LOOPBACK_IFINDEX: u32 = 1;
const RTN_LOCAL: u32 = 2;
const IPS_DST_NAT: u32 = 1 << 5;
const STATE_INVALID: u32 = 1;
const STATE_ESTABLISHED: u32 = 1 << 1;
const STATE_RELATED: u32 = 1 << 2;
const RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;

/// The register at a byte offset of the 64 bytes there are. Only every 16th has an old name as well, and
/// the kernel takes either.
fn register(offset: u32) -> Register {
    Register::from(8 + offset / 4)
}

fn nfproto(ip: Ip) -> u8 {
    if ip == Ip::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }
}

/// A rule under construction.
struct Builder<'a> {
    out: Vec<Expressions>,
    names: &'a Names<'a>,
    /// Whether the table sees both families, so that reading an address needs to know which.
    inet: bool,
    /// The family that the rule has asked for already.
    asked: Option<Ip>,
}

/// The expressions of a rule.
pub(super) fn expressions(
    inet: bool,
    statements: &[Statement],
    names: &Names<'_>,
) -> Result<Vec<Expressions>, String> {
    let mut builder = Builder { out: Vec::new(), names, inet, asked: None };
    for statement in statements {
        builder.statement(statement)?;
    }
    Ok(builder.out)
}

impl Builder<'_> {
    fn statement(&mut self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::Match { fields, negated, operand } => {
                self.matching(fields, *negated, operand)?;
            }
            Statement::HasMark(bits) => {
                self.meta(register(0), MetaKey::Mark);
                self.bitwise(*bits, 0);
                self.compare(Operator::Equal, bits.to_ne_bytes().to_vec());
            }
            Statement::SetMark(bits) => {
                self.meta(register(0), MetaKey::Mark);
                match *bits {
                    Bits::Set(bits) => self.bitwise(!bits, bits),
                    Bits::Keep(mask) => self.bitwise(mask, 0),
                }
                self.out.push(Expressions::Meta(vec![
                    Meta::Key(MetaKey::Mark),
                    Meta::SourceRegister(register(0)),
                ]));
            }
            Statement::VerdictMap { fields, map } => {
                self.load(fields)?;
                self.lookup(fields, map, Some(Register::Verdict), false)?;
            }
            Statement::DnatMap { ip, fields, map } => {
                self.load(fields)?;
                self.lookup(fields, map, Some(register(0)), false)?;
                let address = if *ip == Ip::V4 { 4 } else { 16 };
                self.nat(1, *ip, register(0), Some(register(address)), 0);
            }
            Statement::SourceNat { nat, fully_random } => {
                let flags = if *fully_random { RANGE_PROTO_RANDOM_FULLY } else { 0 };
                match nat {
                    Nat::Masquerade => self.other("masq", &[(1, flags)]),
                    Nat::Snat(to) => {
                        let (ip, bytes) = match to {
                            std::net::IpAddr::V4(to) => (Ip::V4, to.octets().to_vec()),
                            std::net::IpAddr::V6(to) => (Ip::V6, to.octets().to_vec()),
                        };
                        self.out.push(Expressions::Immediate(vec![
                            Immediate::DestinationRegister(register(0)),
                            Immediate::Data(DataAttribute::Value(bytes)),
                        ]));
                        self.nat(0, ip, register(0), None, flags);
                    }
                }
            }
            Statement::Verdict(verdict) => self.verdict(verdict),
        }
        Ok(())
    }

    fn matching(
        &mut self,
        fields: &[Field],
        negated: bool,
        operand: &Operand,
    ) -> Result<(), String> {
        let equal = if negated { Operator::NotEqual } else { Operator::Equal };
        match (operand, fields) {
            (Operand::Set(set), _) => {
                self.load(fields)?;
                self.lookup(fields, set, None, negated)?;
            }
            (Operand::Net(net), [field]) => self.net(*field, *net, equal)?,
            (Operand::Ifname(name), _) => {
                self.load(fields)?;
                let bytes = match name.strip_suffix('*') {
                    Some(start) => start.as_bytes().to_vec(),
                    None => padded_ifname(name),
                };
                self.compare(equal, bytes);
            }
            (Operand::Nfproto(ip), _) if !negated => {
                self.load(fields)?;
                self.compare(equal, vec![nfproto(*ip)]);
                self.asked = Some(*ip);
            }
            (Operand::Lo, _) => {
                self.load(fields)?;
                self.compare(equal, LOOPBACK_IFINDEX.to_ne_bytes().to_vec());
            }
            (Operand::Local, _) => {
                self.load(fields)?;
                self.compare(equal, RTN_LOCAL.to_ne_bytes().to_vec());
            }
            (Operand::Dnat, _) if !negated => self.any_bit(fields, IPS_DST_NAT)?,
            (Operand::Established, _) if !negated => {
                self.any_bit(fields, STATE_ESTABLISHED | STATE_RELATED)?;
            }
            (Operand::Invalid, _) if !negated => self.any_bit(fields, STATE_INVALID)?,
            _ => return Err("this comparison is not supported".into()),
        }
        Ok(())
    }

    /// Whether any of these bits is set in a field of four bytes.
    fn any_bit(&mut self, fields: &[Field], bits: u32) -> Result<(), String> {
        self.load(fields)?;
        self.bitwise(bits, 0);
        self.compare(Operator::NotEqual, vec![0; 4]);
        Ok(())
    }

    /// Compares an address with a network: where its length is in whole bytes, only these are read.
    fn net(&mut self, field: Field, net: IpNet, operator: Operator) -> Result<(), String> {
        let (address, mask) = match net {
            IpNet::V4(net) => (net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
            IpNet::V6(net) => (net.addr().octets().to_vec(), net.netmask().octets().to_vec()),
        };
        let bits = usize::from(net.prefix_len());
        if bits > 0 && bits.is_multiple_of(8) {
            self.load_part(field, 0, Some(bits as u32 / 8))?;
            self.compare(operator, address[..bits / 8].to_vec());
        } else {
            self.load(&[field])?;
            let xor = vec![0; mask.len()];
            self.mask(mask, xor);
            self.compare(operator, address);
        }
        Ok(())
    }

    fn load(&mut self, fields: &[Field]) -> Result<(), String> {
        let mut offset = 0;
        for field in fields {
            self.load_part(*field, offset, None)?;
            offset += field.types().0.next_multiple_of(4);
        }
        Ok(())
    }

    /// Reads a field, or the first bytes of one, into the registers at an offset.
    fn load_part(&mut self, field: Field, offset: u32, length: Option<u32>) -> Result<(), String> {
        let to = register(offset);
        let length = length.unwrap_or(field.types().0);
        match field {
            Field::Saddr(ip) => self.address(ip, to, (12, 8), length)?,
            Field::Daddr(ip) => self.address(ip, to, (16, 24), length)?,
            Field::EtherSaddr if self.inet => {
                return Err("only the bridge family sees Ethernet addresses".into());
            }
            Field::EtherSaddr => self.payload(to, PAYLOAD_LINK_LAYER, 6, length),
            Field::DestinationPort => self.payload(to, PAYLOAD_TRANSPORT_HEADER, 2, length),
            Field::L4Proto => self.meta(to, MetaKey::L4Proto),
            Field::Nfproto => self.meta(to, MetaKey::Nfproto),
            Field::Iif => self.meta(to, MetaKey::Iif),
            Field::Iifname => self.meta(to, MetaKey::Iifname),
            Field::Oifname => self.meta(to, MetaKey::Oifname),
            // NFTA_CT_KEY NFT_CT_STATE or NFT_CT_STATUS, NFTA_CT_DREG
            Field::CtState => self.other("ct", &[(2, 0), (1, to.into())]),
            Field::CtStatus => self.other("ct", &[(2, 2), (1, to.into())]),
            // NFTA_FIB_FLAGS NFTA_FIB_F_DADDR, NFTA_FIB_RESULT NFT_FIB_RESULT_ADDRTYPE, NFTA_FIB_DREG
            Field::FibDaddrType => self.other("fib", &[(3, 2), (2, 3), (1, to.into())]),
        }
        Ok(())
    }

    /// Reads an address, once it is sure that the packet has one of this family.
    fn address(
        &mut self,
        ip: Ip,
        to: Register,
        (v4, v6): (u32, u32),
        length: u32,
    ) -> Result<(), String> {
        if !self.inet {
            return Err("addresses are read in the inet family only".into());
        }
        if self.asked.is_some_and(|asked| asked != ip) {
            return Err("a packet is never of both families".into());
        }
        if self.asked.is_none() {
            if to != register(0) {
                return Err("an address of a concatenation comes first".into());
            }
            self.meta(register(0), MetaKey::Nfproto);
            self.compare(Operator::Equal, vec![nfproto(ip)]);
            self.asked = Some(ip);
        }
        self.payload(to, PAYLOAD_NETWORK_HEADER, if ip == Ip::V4 { v4 } else { v6 }, length);
        Ok(())
    }

    fn payload(&mut self, to: Register, base: u32, offset: u32, length: u32) {
        self.out.push(Expressions::Payload(vec![
            Payload::DestinationRegister(to),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(length),
        ]));
    }

    fn meta(&mut self, to: Register, key: MetaKey) {
        self.out.push(Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(to)]));
    }

    fn compare(&mut self, operator: Operator, value: Vec<u8>) {
        self.out.push(Expressions::Cmp(vec![
            Cmp::SourceRegister(register(0)),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value)),
        ]));
    }

    /// Keeps the bits of `mask` of four bytes in the host's order, and inverts those of `xor`.
    fn bitwise(&mut self, mask: u32, xor: u32) {
        self.mask(mask.to_ne_bytes().to_vec(), xor.to_ne_bytes().to_vec());
    }

    fn mask(&mut self, mask: Vec<u8>, xor: Vec<u8>) {
        self.out.push(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(register(0)),
            Bitwise::DestinationRegister(register(0)),
            Bitwise::Length(mask.len() as u32),
            Bitwise::Xor(DataAttribute::Value(xor)),
            Bitwise::Mask(DataAttribute::Value(mask)),
        ]));
    }

    fn lookup(
        &mut self,
        fields: &[Field],
        set: &str,
        to: Option<Register>,
        negated: bool,
    ) -> Result<(), String> {
        let Some(known) = self.names.get(set) else {
            return Err(format!("there is no set {set}"));
        };
        let types: Vec<_> = fields.iter().map(|field| field.types().1).collect();
        if known.key.iter().copied().map(Some).ne(types) {
            return Err(format!("the types of set {set} are not those of what is looked up"));
        }
        let mut attributes = vec![Lookup::SourceRegister(register(0)), Lookup::Set(set.to_owned())];
        attributes.extend(to.map(Lookup::DestinationRegister));
        if negated {
            attributes.push(Lookup::Flags(LOOKUP_INVERTED));
        }
        self.out.push(Expressions::Lookup(attributes));
        Ok(())
    }

    fn nat(&mut self, kind: u32, ip: Ip, address: Register, port: Option<Register>, flags: u32) {
        let family = nfproto(ip);
        // NFTA_NAT_TYPE, _FAMILY, _REG_ADDR_MIN, _REG_PROTO_MIN, _FLAGS
        let mut attributes = vec![(1, kind), (2, family.into()), (3, address.into())];
        attributes.extend(port.map(|port| (5, port.into())));
        if flags != 0 {
            attributes.push((7, flags));
        }
        self.other("nat", &attributes);
    }

    fn verdict(&mut self, verdict: &Verdict) {
        let (code, chain) = match verdict {
            Verdict::Accept => (VerdictCode::Other(NF_ACCEPT), None),
            Verdict::Drop => (VerdictCode::Other(NF_DROP), None),
            Verdict::Return => (VerdictCode::Return, None),
            Verdict::Jump(chain) => (VerdictCode::Jump, Some(chain)),
            Verdict::Goto(chain) => (VerdictCode::Goto, Some(chain)),
        };
        let mut attributes = vec![VerdictAttribute::Code(code)];
        attributes.extend(chain.map(|chain| VerdictAttribute::Chain(chain.clone())));
        self.out.push(Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(attributes)),
        ]));
    }

    /// An expression that the message types do not have; all its attributes are numbers.
    fn other(&mut self, name: &str, attributes: &[(u16, u32)]) {
        let attribute =
            |(kind, value): &(u16, u32)| DefaultNla::new(*kind, value.to_be_bytes().to_vec());
        self.out.push(Expressions::Other {
            expression_type: name.to_owned(),
            attributes: attributes.iter().map(attribute).collect(),
        });
    }
}

impl Field {
    /// Its length in bytes, and its data type where it can be looked up in a set.
    fn types(self) -> (u32, Option<Type>) {
        match self {
            Self::Saddr(Ip::V4) | Self::Daddr(Ip::V4) => (4, Some(Type::Ipv4Addr)),
            Self::Saddr(Ip::V6) | Self::Daddr(Ip::V6) => (16, Some(Type::Ipv6Addr)),
            Self::EtherSaddr => (6, Some(Type::EtherAddr)),
            Self::L4Proto => (1, Some(Type::InetProto)),
            Self::Nfproto => (1, None),
            Self::DestinationPort => (2, Some(Type::InetService)),
            Self::Iifname | Self::Oifname => (16, Some(Type::Ifname)),
            Self::Iif | Self::CtState | Self::CtStatus | Self::FibDaddrType => (4, None),
        }
    }
}
