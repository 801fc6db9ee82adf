//! Hardware addresses.

use std::{fmt, str::FromStr};

use chain::Error;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A random unicast, locally administered address.
    ///
    /// Devices get theirs from here and not from the kernel, because udev replaces an address that the kernel made up
    /// (`MACAddressPolicy=persistent`) some time after the device appears; one that was asked for it leaves alone.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0; 6];
        getrandom::fill(&mut bytes)
            .map_err(|error| Error::io(format!("no random bytes for a MAC address: {error}")))?;
        bytes[0] = (bytes[0] & 0xfe) | 0x02;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    /// Reads six bytes in hex with colons or dashes between them; refuses what no interface may have: the group bit
    /// set, or nothing but zeros.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::config(format!("MAC address {text:?} {why}; write it as \"02:11:22:33:44:55\""))
        };
        let separator = if text.contains('-') { '-' } else { ':' };
        let bytes = text
            .split(separator)
            .map(|part| match part.len() {
                2 if part.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    u8::from_str_radix(part, 16).ok()
                }
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()
            .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
            .ok_or_else(|| wrong("is not six bytes in hex"))?;
        if bytes[0] & 1 != 0 {
            return Err(wrong("is a group address"));
        }
        if bytes == [0; 6] {
            return Err(wrong("is all zero"));
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        for text in ["02:0a:22:33:44:ff", "02-0A-22-33-44-FF"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "02:0a:22:33:44:ff");
        }
    }

    #[test]
    fn refuses_what_no_interface_may_have() {
        for text in [
            "",
            "02:11:22:33:44",
            "02:11:22:33:44:55:66",
            "2:11:22:33:44:55",
            "+2:11:22:33:44:55",
            "01:11:22:33:44:55",
            "00:00:00:00:00:00",
            "zz:11:22:33:44:55",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_ones_are_local_unicast() {
        let mac = Mac::random().unwrap();
        assert_eq!(mac.0[0] & 3, 2);
        assert_ne!(mac, Mac::random().unwrap());
    }
}
