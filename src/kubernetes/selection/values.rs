//! The values of an element, each checked: names, addresses, rates and ports.

use std::net::IpAddr;

use chain::{Error, Result, check_ifname};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::typed::{excerpt, fields, list, quoted, text};

/// The name of a NetworkAttachmentDefinition: a DNS subdomain (RFC 1123), which is what Kubernetes takes for names of
/// objects. So dots are allowed, in both forms.
pub(super) fn name(text: &str) -> Result<String> {
    let labels = text.len() <= 253 && text.split('.').all(is_label);
    if labels {
        return Ok(text.to_owned());
    }
    Err(wrong_name("name", text, "dots between such parts of at most 63, and at most 253 in all"))
}

/// The name of a namespace: a DNS label.
pub(super) fn namespace(text: &str) -> Result<String> {
    if is_label(text) {
        return Ok(text.to_owned());
    }
    Err(wrong_name("namespace", text, "at most 63, no dots"))
}

fn wrong_name(key: &str, text: &str, dots: &str) -> Error {
    Error::config(format!(
        "{key} {} is invalid: it may hold lower-case letters, digits and '-', and begins and ends with a letter or \
         digit ({dots})",
        quoted(text)
    ))
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let outer =
        |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.len() <= 63
        && outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

/// The name of an interface, as the kernel takes it.
pub(super) fn interface(text: &str) -> Result<String> {
    // The code is the configuration's: no variable of the runtime's is wrong.
    check_ifname(text).map_err(|error| Error::config(error.msg))?;
    Ok(text.to_owned())
}

/// `ips`: addresses, with or without a prefix length.
pub(super) fn ips(value: Value) -> Result<Vec<String>> {
    let mut seen: Vec<IpAddr> = Vec::new();
    let mut ips = Vec::new();
    for (index, value) in list("ips", value)?.into_iter().enumerate() {
        let key = format!("ips[{index}]");
        let text = text(&key, value)?;
        let parsed = match text.contains('/') {
            true => text.parse::<IpNet>().ok().map(|net| net.addr()),
            false => text.parse().ok(),
        };
        let address = parsed.map(|address| address.to_canonical()).ok_or_else(|| {
            Error::config(format!(
                "{key} {} is no address: write it as \"10.1.0.5/24\", \"10.1.0.5\" or \"fd00::5/64\"",
                quoted(&text)
            ))
        })?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(Error::config(format!(
                "{key} {text:?} is not the address of one interface: choose one of the network's subnet"
            )));
        }
        if seen.contains(&address) {
            return Err(Error::config(format!("{key} {text:?} is given twice: keep one of them")));
        }
        seen.push(address);
        ips.push(text);
    }
    Ok(ips)
}

/// `default-route`: gateways.
pub(super) fn gateways(value: Value) -> Result<Vec<IpAddr>> {
    let values = list("default-route", value)?.into_iter().enumerate();
    values
        .map(|(index, value)| {
            let key = format!("default-route[{index}]");
            let text = text(&key, value)?;
            let gateway = text.parse().ok().filter(|gateway: &IpAddr| {
                !gateway.is_unspecified() && !gateway.is_multicast()
            });
            gateway.ok_or_else(|| {
                Error::config(format!(
                    "{key} {} is no gateway: write its address, as \"10.1.0.1\", without a prefix length",
                    quoted(&text)
                ))
            })
        })
        .collect()
}

/// `mac`: an Ethernet address, in any of the usual ways to write it.
pub(super) fn mac(text: &str) -> Result<String> {
    let wrong = |why: &str| {
        Error::config(format!("mac {} {why}; write it as \"02:11:22:33:44:55\"", quoted(text)))
    };
    let bytes = hex(text, 6).ok_or_else(|| wrong("is not six bytes in hex"))?;
    if bytes[0] & 1 != 0 {
        return Err(wrong("is a group address, which no interface can have"));
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(wrong("is all zero, which no interface can have"));
    }
    Ok(with_colons(&bytes))
}

/// `infiniband-guid`: eight bytes.
pub(super) fn guid(text: &str) -> Result<String> {
    let bytes = hex(text, 8).filter(|bytes| {
        bytes.iter().any(|byte| *byte != 0) && bytes.iter().any(|byte| *byte != 0xff)
    });
    let bytes = bytes.ok_or_else(|| {
        Error::config(format!(
            "infiniband-guid {} is no GUID of eight bytes in hex; write it as \"24:8a:07:03:00:8d:ae:2f\"",
            quoted(text)
        ))
    })?;
    Ok(with_colons(&bytes))
}

/// `count` bytes in hex: pairs with colons or dashes between them, or groups of four with dots.
fn hex(text: &str, count: usize) -> Option<Vec<u8>> {
    let (separator, digits) = match text.chars().find(|c| !c.is_ascii_hexdigit())? {
        separator @ (':' | '-') => (separator, 2),
        '.' => ('.', 4),
        _ => return None,
    };
    let mut bytes = Vec::new();
    for group in text.split(separator) {
        if group.len() != digits || !group.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        for pair in 0..digits / 2 {
            bytes.push(u8::from_str_radix(&group[2 * pair..2 * pair + 2], 16).ok()?);
        }
    }
    (bytes.len() == count).then_some(bytes)
}

fn with_colons(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

/// `deviceID`: it becomes a part of file names.
pub(super) fn device_id(text: &str) -> Result<String> {
    let bad = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if !text.contains(bad) && !matches!(text, "." | "..") {
        return Ok(text.to_owned());
    }
    Err(Error::config(format!(
        "deviceID {} is invalid: it may hold no '/' and no white space; write it as \"0000:03:02.1\"",
        quoted(text)
    )))
}

/// `ipam-claim-reference`: the name of an object.
pub(super) fn claim(text: &str) -> Result<String> {
    name(text).map_err(|error| error.context("ipam-claim-reference"))
}

/// `bandwidth`: rates in bits a second, bursts in bits. 0 means no limit, as Multus writes it.
pub(super) fn bandwidth(value: Value) -> Result<Map<String, Value>> {
    let keys = ["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
    let written = fields("bandwidth", &keys, value)?;
    for (key, value) in &written {
        if !value.is_u64() {
            return Err(Error::config(format!(
                "bandwidth.{key} is {}: it must be a whole number of {}",
                excerpt(value),
                if key.ends_with("Rate") { "bits a second" } else { "bits" }
            )));
        }
    }
    let amount = |key: &str| written.get(key).and_then(Value::as_u64).unwrap_or(0);
    for direction in ["ingress", "egress"] {
        if amount(&format!("{direction}Burst")) > 0 && amount(&format!("{direction}Rate")) == 0 {
            return Err(Error::config(format!(
                "bandwidth.{direction}Burst is given without {direction}Rate: set both, or remove it"
            )));
        }
    }
    Ok(written)
}

/// `portMappings`, with the protocol in lower case, and tcp where none is given.
pub(super) fn port_mappings(value: Value) -> Result<Vec<Value>> {
    let mappings = list("portMappings", value)?.into_iter().enumerate();
    mappings.map(|(index, value)| port_mapping(&format!("portMappings[{index}]"), value)).collect()
}

fn port_mapping(at: &str, value: Value) -> Result<Value> {
    let keys = ["hostPort", "containerPort", "protocol", "hostIP"];
    let mut mapping = fields(at, &keys, value)?;
    for key in ["hostPort", "containerPort"] {
        let port = mapping.get(key);
        if !port.and_then(Value::as_u64).is_some_and(|port| (1..=65535).contains(&port)) {
            let is = port.map_or("missing".to_owned(), excerpt);
            return Err(Error::config(format!(
                "{at}.{key} is {is}: it must be a port, 1 to 65535"
            )));
        }
    }
    let protocol = match mapping.shift_remove("protocol") {
        None => String::new(),
        Some(protocol) => text(&format!("{at}.protocol"), protocol)?,
    };
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => {
            return Err(Error::config(format!(
                "{at}.protocol is {}: it must be tcp, udp or sctp",
                quoted(&protocol)
            )));
        }
    };
    mapping.insert("protocol".to_owned(), protocol.into());
    if let Some(host_ip) = mapping.get("hostIP") {
        let key = format!("{at}.hostIP");
        let host_ip = text(&key, host_ip.clone())?;
        if !host_ip.is_empty() && host_ip.parse::<IpAddr>().is_err() {
            return Err(Error::config(format!(
                "{key} is {}: it must be an address of the node, or be left out for all of them",
                quoted(&host_ip)
            )));
        }
    }
    Ok(mapping.into())
}
