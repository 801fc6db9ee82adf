//! What the daemon answers: a result of Go's `types/100`.

use std::net::IpAddr;

use chain::{
    CniResult,
    result::{Dns, IpConfig, Route},
};
use ipnet::IpNet;

use super::gob::{Type, Value};

/// A `net.IPNet`.
const NET: Type = Type::Struct("IPNet", &[("IP", Type::Bytes), ("Mask", Type::Bytes)]);
/// An `IPConfig`. Its interface is the plugin's to say, not the daemon's.
const IP: Type = Type::Struct("IPConfig", &[("Address", NET), ("Gateway", Type::Bytes)]);
const ROUTE: Type = Type::Struct(
    "Route",
    &[
        ("Dst", NET),
        ("GW", Type::Bytes),
        ("MTU", Type::Int),
        ("AdvMSS", Type::Int),
        ("Priority", Type::Int),
        ("Table", Type::Int),
        ("Scope", Type::Int),
    ],
);
const TEXTS: Type = Type::List("[]string", &Type::String);
const DNS: Type = Type::Struct(
    "DNS",
    &[("Nameservers", TEXTS), ("Domain", Type::String), ("Search", TEXTS), ("Options", TEXTS)],
);

/// A result as it is sent. `CNIVersion` is left to the plugin: an older one knows fewer.
pub const TYPE: Type = Type::Struct(
    "Result",
    &[
        ("IPs", Type::List("[]*IPConfig", &IP)),
        ("Routes", Type::List("[]*Route", &ROUTE)),
        ("DNS", DNS),
    ],
);

/// A result to be sent.
pub fn told(result: &CniResult) -> Value {
    let ips = result.ips.iter().map(|ip| {
        fields([("Address", net_value(ip.address)), ("Gateway", address_value(ip.gateway))])
    });
    let routes = result.routes.iter().map(|route| {
        let number = |number: Option<u32>| Value::Int(number.unwrap_or_default().into());
        fields([
            ("Dst", net_value(route.dst)),
            ("GW", address_value(route.gw)),
            ("MTU", number(route.mtu)),
            ("AdvMSS", number(route.advmss)),
            ("Priority", number(route.priority)),
            ("Table", number(route.table)),
            ("Scope", number(route.scope.map(u32::from))),
        ])
    });
    let texts = |all: &[String]| Value::List(all.iter().cloned().map(Value::String).collect());
    let Dns { nameservers, domain, search, options } = &result.dns;
    let dns = fields([
        ("Nameservers", texts(nameservers)),
        ("Domain", Value::String(domain.clone())),
        ("Search", texts(search)),
        ("Options", texts(options)),
    ]);
    fields([
        ("IPs", Value::List(ips.collect())),
        ("Routes", Value::List(routes.collect())),
        ("DNS", dns),
    ])
}

fn fields<const N: usize>(all: [(&str, Value); N]) -> Value {
    Value::Struct(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn net_value(net: IpNet) -> Value {
    fields([("IP", address_value(Some(net.addr()))), ("Mask", address_value(Some(net.netmask())))])
}

fn address_value(address: Option<IpAddr>) -> Value {
    Value::Bytes(match address {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    })
}

/// The result in an answer. An address or mask that is none is an error.
pub fn of(told: &Value) -> Result<CniResult, String> {
    let ips = told.list("IPs").iter().map(|ip| {
        Ok(IpConfig {
            address: net(ip.field("Address"))?.ok_or("an entry of ips without an address")?,
            gateway: address(ip.bytes("Gateway"))?,
            interface: None,
        })
    });
    let routes = told.list("Routes").iter().map(|route| {
        let number =
            |name: &str| u32::try_from(route.number(name)).ok().filter(|number| *number > 0);
        Ok(Route {
            dst: net(route.field("Dst"))?.ok_or("a route without a destination")?.trunc(),
            gw: address(route.bytes("GW"))?,
            mtu: number("MTU"),
            advmss: number("AdvMSS"),
            priority: number("Priority"),
            table: number("Table"),
            scope: u8::try_from(route.number("Scope")).ok().filter(|scope| *scope > 0),
        })
    });
    let dns = told.field("DNS");
    let texts = |name: &str| {
        let all = dns.map_or(&[][..], |dns| dns.list(name));
        let text = |one: &Value| match one {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        all.iter().filter_map(text).collect()
    };
    Ok(CniResult {
        ips: ips.collect::<Result<_, String>>()?,
        routes: routes.collect::<Result<_, String>>()?,
        dns: Dns {
            nameservers: texts("Nameservers"),
            domain: dns.map_or("", |dns| dns.text("Domain")).to_owned(),
            search: texts("Search"),
            options: texts("Options"),
        },
        ..CniResult::default()
    })
}

/// A `net.IPNet`; `None` where it is not there.
fn net(told: Option<&Value>) -> Result<Option<IpNet>, String> {
    let Some(told) = told else { return Ok(None) };
    let Some(address) = address(told.bytes("IP"))? else { return Ok(None) };
    let mask = told.bytes("Mask");
    // Of IPv4 a mask may be written in 16 bytes as well.
    let mask = if address.is_ipv4() && mask.len() == 16 { &mask[12..] } else { mask };
    let mask = address_of(mask).ok_or_else(|| format!("the mask {mask:?} is none"))?;
    IpNet::with_netmask(address, mask).map(Some).map_err(|_| format!("{address} with mask {mask}"))
}

/// A `net.IP`; `None` where it is not there. One of IPv4 may be written in 16 bytes as well.
fn address(bytes: &[u8]) -> Result<Option<IpAddr>, String> {
    match address_of(bytes) {
        Some(address) => Ok(Some(address.to_canonical())),
        None if bytes.is_empty() => Ok(None),
        None => Err(format!("the address {bytes:?} is none")),
    }
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::dhcp::gob::{Decoder, Encoder};

    #[test]
    fn a_result_comes_back() {
        let text = r#"{
            "ips": [{ "address": "10.1.0.5/24", "gateway": "10.1.0.1" }, { "address": "fd00::5/64" }],
            "routes": [
                { "dst": "0.0.0.0/0", "gw": "10.1.0.1", "priority": 100, "mtu": 1400, "advmss": 1360 },
                { "dst": "10.9.0.0/16", "scope": 253, "table": 7 }
            ],
            "dns": { "nameservers": ["10.1.0.1"], "domain": "example.org", "search": ["a", "b"] }
        }"#;
        let result: CniResult = serde_json::from_str(text).unwrap();
        let mut stream = Vec::new();
        Encoder::default().encode(&mut stream, &TYPE, &told(&result)).unwrap();
        assert_eq!(of(&Decoder::new(&stream[..]).decode().unwrap()).unwrap(), result);
    }
}
