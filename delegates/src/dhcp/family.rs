//! The families that leases are of.

use std::{fmt, net::IpAddr};

use chain::{Error, Result};
use serde_json::Value;

/// DHCP of IPv4, or of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// DHCP (RFC 2131).
    V4,
    /// DHCPv6 (RFC 8415).
    V6,
}

/// The key of `ipam` that says of which families an attachment has a lease.
const KEY: &str = "ipFamilies";

impl Family {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The families of `ipFamilies`, in its order, under Kubernetes' names for them; IPv4 alone where it is absent.
    ///
    /// Errors: it is no list, an empty one, or has an entry twice or that is no family.
    pub fn wanted(conf: Option<&Value>) -> Result<Vec<Self>> {
        let Some(conf) = conf.filter(|conf| !conf.is_null()) else { return Ok(vec![Self::V4]) };
        let named = |name: &Value| Self::ALL.into_iter().find(|one| name == one.name());
        let families: Option<Vec<_>> =
            conf.as_array().and_then(|all| all.iter().map(named).collect());
        let differ = |families: &[Self]| match families {
            [] => false,
            [first, rest @ ..] => rest.len() < 2 && !rest.contains(first),
        };
        families.filter(|families| differ(families)).ok_or_else(|| {
            Error::config(format!(
                "{KEY} {conf}: it is [\"IPv4\"] (the default), [\"IPv6\"], or both in a list"
            ))
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_family_is_wanted_or_both_in_either_order() {
        let wanted = |conf: Value| Family::wanted(Some(&conf)).unwrap();
        assert_eq!(Family::wanted(None).unwrap(), [Family::V4]);
        assert_eq!(wanted(Value::Null), [Family::V4]);
        assert_eq!(wanted(json!(["IPv6"])), [Family::V6]);
        assert_eq!(wanted(json!(["IPv4", "IPv6"])), [Family::V4, Family::V6]);
        assert_eq!(wanted(json!(["IPv6", "IPv4"])), [Family::V6, Family::V4]);
    }

    #[test]
    fn an_error_names_the_key_and_what_it_takes() {
        for wrong in [
            json!([]),
            json!(["IPv4", "IPv4"]),
            json!(["IPv6", "IPv4", "IPv6"]),
            json!(["ipv6"]),
            json!(["IPv4", 6]),
            json!("IPv6"),
        ] {
            let text = Family::wanted(Some(&wrong)).unwrap_err().to_string();
            assert!(text.contains(&format!("ipFamilies {wrong}: ")), "{text}");
            assert!(text.contains(r#"["IPv6"], or both"#), "{text}");
        }
    }
}
