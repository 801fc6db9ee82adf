//! Options' names and what they hold, as dhcp-options(5) has them. The reference plugin knows the names of 1, 3, 12, 60, 61
//! and 77.

use std::net::Ipv4Addr;

use self::Kind::{Addresses, Bytes, Fqdn, Number, Text};

/// What an option holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, or what its bytes mean to somebody: it is sent as it stands.
    Text,
    /// Addresses of IPv4.
    Addresses,
    /// A number of so many bytes; one byte is also a flag.
    Number(usize),
    /// A client's domain name (option 81, RFC 4702).
    Fqdn,
    /// Something that cannot be written as text here. It is sent as it stands.
    Bytes,
}

/// All that have a name.
const NAMES: &[(&str, u8, Kind)] = &[
    ("subnet-mask", 1, Addresses),
    ("time-offset", 2, Number(4)),
    ("routers", 3, Addresses),
    ("time-servers", 4, Addresses),
    ("ien116-name-servers", 5, Addresses),
    ("domain-name-servers", 6, Addresses),
    ("log-servers", 7, Addresses),
    ("cookie-servers", 8, Addresses),
    ("lpr-servers", 9, Addresses),
    ("impress-servers", 10, Addresses),
    ("resource-location-servers", 11, Addresses),
    ("host-name", 12, Text),
    ("boot-size", 13, Number(2)),
    ("merit-dump", 14, Text),
    ("domain-name", 15, Text),
    ("swap-server", 16, Addresses),
    ("root-path", 17, Text),
    ("extensions-path", 18, Text),
    ("ip-forwarding", 19, Number(1)),
    ("non-local-source-routing", 20, Number(1)),
    ("policy-filter", 21, Addresses),
    ("max-dgram-reassembly", 22, Number(2)),
    ("default-ip-ttl", 23, Number(1)),
    ("path-mtu-aging-timeout", 24, Number(4)),
    ("path-mtu-plateau-table", 25, Bytes),
    ("interface-mtu", 26, Number(2)),
    ("all-subnets-local", 27, Number(1)),
    ("broadcast-address", 28, Addresses),
    ("perform-mask-discovery", 29, Number(1)),
    ("mask-supplier", 30, Number(1)),
    ("router-discovery", 31, Number(1)),
    ("router-solicitation-address", 32, Addresses),
    ("static-routes", 33, Addresses),
    ("trailer-encapsulation", 34, Number(1)),
    ("arp-cache-timeout", 35, Number(4)),
    ("ieee802-3-encapsulation", 36, Number(1)),
    ("default-tcp-ttl", 37, Number(1)),
    ("tcp-keepalive-interval", 38, Number(4)),
    ("tcp-keepalive-garbage", 39, Number(1)),
    ("nis-domain", 40, Text),
    ("nis-servers", 41, Addresses),
    ("ntp-servers", 42, Addresses),
    ("vendor-encapsulated-options", 43, Bytes),
    ("netbios-name-servers", 44, Addresses),
    ("netbios-dd-server", 45, Addresses),
    ("netbios-node-type", 46, Number(1)),
    ("netbios-scope", 47, Text),
    ("font-servers", 48, Addresses),
    ("x-display-manager", 49, Addresses),
    ("dhcp-requested-address", 50, Addresses),
    ("dhcp-lease-time", 51, Number(4)),
    ("dhcp-option-overload", 52, Number(1)),
    ("dhcp-message-type", 53, Number(1)),
    ("dhcp-server-identifier", 54, Addresses),
    ("dhcp-parameter-request-list", 55, Bytes),
    ("dhcp-message", 56, Text),
    ("dhcp-max-message-size", 57, Number(2)),
    ("dhcp-renewal-time", 58, Number(4)),
    ("dhcp-rebinding-time", 59, Number(4)),
    ("vendor-class-identifier", 60, Text),
    ("dhcp-client-identifier", 61, Text),
    ("nwip-domain", 62, Text),
    ("nwip-suboptions", 63, Bytes),
    ("nisplus-domain", 64, Text),
    ("nisplus-servers", 65, Addresses),
    ("tftp-server-name", 66, Text),
    ("bootfile-name", 67, Text),
    ("mobile-ip-home-agent", 68, Addresses),
    ("smtp-server", 69, Addresses),
    ("pop-server", 70, Addresses),
    ("nntp-server", 71, Addresses),
    ("www-server", 72, Addresses),
    ("finger-server", 73, Addresses),
    ("irc-server", 74, Addresses),
    ("streettalk-server", 75, Addresses),
    ("streettalk-directory-assistance-server", 76, Addresses),
    ("user-class", 77, Text),
    ("slp-directory-agent", 78, Bytes),
    ("slp-service-scope", 79, Bytes),
    ("fqdn", 81, Fqdn),
    ("fqdn.fqdn", 81, Fqdn),
    ("fqdn.hostname", 81, Fqdn),
    ("nds-servers", 85, Addresses),
    ("nds-tree-name", 86, Text),
    ("nds-context", 87, Text),
    ("bcms-controller-names", 88, Bytes),
    ("bcms-controller-address", 89, Addresses),
    ("client-last-transaction-time", 91, Number(4)),
    ("associated-ip", 92, Addresses),
    ("pxe-system-type", 93, Number(2)),
    ("pxe-interface-id", 94, Bytes),
    ("pxe-client-id", 97, Bytes),
    ("uap-servers", 98, Text),
    ("geoconf-civic", 99, Bytes),
    ("pcode", 100, Text),
    ("tcode", 101, Text),
    ("v6-only-preferred", 108, Number(4)),
    ("netinfo-server-address", 112, Addresses),
    ("netinfo-server-tag", 113, Text),
    ("default-url", 114, Text),
    ("auto-config", 116, Number(1)),
    ("name-service-search", 117, Bytes),
    ("subnet-selection", 118, Addresses),
    ("domain-search", 119, Bytes),
    ("classless-static-routes", 121, Bytes),
    ("rfc3442-classless-static-routes", 121, Bytes),
    ("vivco", 124, Bytes),
    ("vivso", 125, Bytes),
    ("pana-agent", 136, Addresses),
    ("v4-lost", 137, Bytes),
    ("capwap-ac-v4", 138, Addresses),
    ("sip-ua-cs-domains", 141, Bytes),
    ("rdnss-selection", 146, Bytes),
    ("tftp-server-address", 150, Addresses),
    ("v4-portparams", 159, Bytes),
    ("v4-captive-portal", 160, Text),
    ("loader-configfile", 209, Text),
    ("loader-pathprefix", 210, Text),
    ("loader-reboottime", 211, Number(4)),
    ("option-6rd", 212, Bytes),
    ("v4-access-domain", 213, Bytes),
];

/// The number of an option and what it holds, by its name.
pub fn named(name: &str) -> Option<(u8, Kind)> {
    NAMES.iter().find(|(other, ..)| *other == name).map(|(_, number, kind)| (*number, *kind))
}

/// Names that somebody may have meant: those that have what was written in them, but for hyphens, or are a part of it.
pub fn like(written: &str) -> Vec<&'static str> {
    let plain = |name: &str| name.replace(['-', '_'], "").to_lowercase();
    let written = plain(written);
    let alike = |name: &str| name.contains(&written) || written.contains(name);
    let names = NAMES.iter().map(|(name, ..)| *name).filter(|name| alike(&plain(name)));
    if written.len() < 3 { Vec::new() } else { names.collect() }
}

impl Kind {
    /// The bytes that say this. The error says how it is to be written.
    pub fn bytes(self, value: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Text | Self::Bytes => Ok(value.as_bytes().to_vec()),
            Self::Addresses => addresses(value)
                .ok_or_else(|| "it takes addresses of IPv4, with commas between".to_owned()),
            Self::Number(bytes) => number(value, bytes).ok_or_else(|| {
                let most = u32::MAX >> (32 - 8 * bytes);
                format!("it takes a number, 0 to {most}")
            }),
            Self::Fqdn => fqdn(value).ok_or_else(|| {
                "it takes a domain name, such as \"web-0.example.org\", or its first part"
                    .to_owned()
            }),
        }
    }
}

fn addresses(value: &str) -> Option<Vec<u8>> {
    let words = value.split([',', ' ']).filter(|word| !word.is_empty());
    let all: Option<Vec<_>> =
        words.map(|word| Some(word.parse::<Ipv4Addr>().ok()?.octets())).collect();
    all.map(|all| all.concat())
}

fn number(value: &str, bytes: usize) -> Option<Vec<u8>> {
    let number: u32 = match value {
        "true" | "on" if bytes == 1 => 1,
        "false" | "off" if bytes == 1 => 0,
        value => value.parse().ok()?,
    };
    let all = number.to_be_bytes();
    let (rest, own) = all.split_at(all.len() - bytes);
    rest.iter().all(|byte| *byte == 0).then(|| own.to_vec())
}

/// The name as in DNS (flag E), which the server is to register (flag S); one without a dot is a part, that the server completes.
fn fqdn(value: &str) -> Option<Vec<u8>> {
    let name = super::super::text::domain(value)?;
    let mut bytes = vec![0b0101, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).ok()?);
        bytes.extend(label.bytes());
    }
    if value.contains('.') {
        bytes.push(0);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_meaning_and_numbers_are_in_order() {
        for (at, (name, number, _)) in NAMES.iter().enumerate() {
            assert_eq!(named(name), Some((NAMES[at].1, NAMES[at].2)), "{name} is there twice");
            assert!(NAMES[..at].iter().all(|(_, before, _)| before <= number), "{name}");
        }
    }

    #[test]
    fn names_that_were_meant_are_found() {
        for (written, meant) in [
            ("router", "routers"),
            ("hostname", "host-name"),
            ("ntp_servers", "ntp-servers"),
            ("mtu", "interface-mtu"),
            ("domain-name-server", "domain-name-servers"),
        ] {
            assert!(like(written).contains(&meant), "{written}: {:?}", like(written));
        }
        assert!(like("x").is_empty() && like("no-such-option").is_empty());
    }

    #[test]
    fn values_are_written_as_their_options_have_them() {
        assert_eq!(Text.bytes("web-0").unwrap(), b"web-0");
        assert_eq!(Addresses.bytes("10.0.0.1, 10.0.0.2").unwrap(), [10, 0, 0, 1, 10, 0, 0, 2]);
        assert_eq!(Number(2).bytes("1400").unwrap(), [5, 120]);
        assert_eq!(Number(4).bytes("4294967295").unwrap(), [255; 4]);
        assert_eq!(Number(1).bytes("true").unwrap(), [1]);
        assert_eq!(Fqdn.bytes("web.example").unwrap(), b"\x05\0\0\x03web\x07example\0");
        assert_eq!(Fqdn.bytes("web").unwrap(), b"\x05\0\0\x03web");
        for (kind, wrong, why) in [
            (Addresses, "10.0.0", "addresses of IPv4"),
            (Number(1), "256", "0 to 255"),
            (Number(2), "true", "0 to 65535"),
            (Number(4), "-1", "0 to 4294967295"),
            (Fqdn, "a b", "a domain name"),
        ] {
            let error = kind.bytes(wrong).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
