//! Fields of configurations that interface plugins have in common.

use chain::{Attachment, Error, PluginConf, Result};
use serde::{Deserialize, Deserializer};

use crate::net::Mac;

/// `ipMasqBackend`: accepted for the sake of configurations written for the reference plugins. Catena's rules are
/// nftables' always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum MasqBackend {
    #[default]
    #[serde(rename = "")]
    Unset,
    #[serde(rename = "iptables")]
    Iptables,
    #[serde(rename = "nftables")]
    Nftables,
}

impl MasqBackend {
    /// Says in the log that another backend serves.
    pub(crate) fn note(self) {
        if self == Self::Iptables {
            tracing::info!("ipMasqBackend \"iptables\" is served by nftables");
        }
    }
}

/// Refuses an MTU that no veth can have (0: none is asked for); the kernel would only say that something is invalid.
pub(crate) fn check_mtu(mtu: u32) -> Result<()> {
    // ETH_MIN_MTU and ETH_MAX_MTU of linux/if_ether.h.
    if mtu == 0 || (68..=65535).contains(&mtu) {
        return Ok(());
    }
    Err(Error::config(format!("mtu {mtu} is out of range: 68 to 65535, or 0 for the kernel's")))
}

/// Reads `null` as if the field were absent, as Go does.
pub(crate) fn null_is_default<'de, D, T>(from: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The hardware address that is asked for. In order of precedence: the capability `mac`, `args.cni.mac`, `MAC` of
/// `CNI_ARGS`.
pub(crate) fn requested_mac(conf: &PluginConf, attachment: &Attachment) -> Result<Option<Mac>> {
    #[derive(Deserialize)]
    struct Wanted {
        #[serde(rename = "runtimeConfig", default, deserialize_with = "null_is_default")]
        runtime_config: HasMac,
        #[serde(default, deserialize_with = "null_is_default")]
        args: Args,
    }
    #[derive(Default, Deserialize)]
    struct Args {
        #[serde(default, deserialize_with = "null_is_default")]
        cni: HasMac,
    }
    #[derive(Default, Deserialize)]
    struct HasMac {
        #[serde(default, deserialize_with = "null_is_default")]
        mac: String,
    }

    let wanted: Wanted = conf.decode()?;
    let from_args = attachment.args.get("MAC").unwrap_or_default();
    let (text, source) = [
        (wanted.runtime_config.mac.as_str(), "runtimeConfig.mac"),
        (wanted.args.cni.mac.as_str(), "args.cni.mac"),
        (from_args, "MAC of CNI_ARGS"),
    ]
    .into_iter()
    .find(|(text, _)| !text.is_empty())
    .unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error: Error| error.context(source))
}

#[cfg(test)]
mod tests {
    use chain::CniArgs;
    use serde_json::{Value, json};

    use super::*;

    fn mac(conf: Value, args: &str) -> Result<Option<String>> {
        let mut raw = json!({ "name": "net", "type": "bridge" });
        raw.as_object_mut().unwrap().extend(conf.as_object().unwrap().clone());
        let conf = PluginConf::from_object(raw.as_object().unwrap().clone())?;
        let attachment = Attachment {
            network: "net".into(),
            container_id: "c1".into(),
            ifname: "eth0".into(),
            netns: None,
            args: CniArgs::parse(args)?,
        };
        Ok(requested_mac(&conf, &attachment)?.map(|mac| mac.to_string()))
    }

    #[test]
    fn the_runtime_comes_before_the_configuration_and_that_before_the_arguments() {
        let runtime = json!({ "mac": "02:00:00:00:00:01" });
        let cni = json!({ "cni": { "mac": "02:00:00:00:00:02" } });
        let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:03";
        let both = json!({ "runtimeConfig": runtime, "args": cni });
        assert_eq!(mac(both, args).unwrap().as_deref(), Some("02:00:00:00:00:01"));
        let only = json!({ "runtimeConfig": null, "args": cni });
        assert_eq!(mac(only, args).unwrap().as_deref(), Some("02:00:00:00:00:02"));
        assert_eq!(mac(json!({}), args).unwrap().as_deref(), Some("02:00:00:00:00:03"));
        assert_eq!(mac(json!({}), "").unwrap(), None);
    }

    #[test]
    fn an_error_says_where_the_address_stands() {
        let error = mac(json!({}), "MAC=01:00:00:00:00:03").unwrap_err();
        assert!(error.msg.starts_with("MAC of CNI_ARGS: MAC address \"01:"), "{error}");
    }
}
