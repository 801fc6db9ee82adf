//! What the daemon answers: a result of Go's `types/100`.

use std::net::IpAddr;

use chain::{
    CniResult,
    result::{Dns, IpConfig, Route},
};
use ipnet::IpNet;

use super::gob::Value;

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
