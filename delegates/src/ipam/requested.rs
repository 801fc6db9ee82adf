//! Addresses that the runtime or the user asks for, as the IPAM plugins get them: `args.cni.ips` and
//! `runtimeConfig.ips`. (`IP` in `CNI_ARGS` is read by each plugin, since they differ over it.)

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

/// What an IPAM plugin reads of a configuration: `I` is its own part, `R` what it takes from the runtime.
#[derive(Deserialize)]
#[serde(bound = "I: Deserialize<'de>, R: Deserialize<'de>")]
pub(super) struct NetConf<I, R> {
    /// `ipam`.
    #[serde(default = "Option::default")]
    pub ipam: Option<I>,
    /// `runtimeConfig`.
    #[serde(rename = "runtimeConfig", default = "Option::default")]
    pub runtime_config: Option<R>,
    /// `args`.
    #[serde(default)]
    pub args: Option<Args>,
}

/// `args` of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Args {
    /// `args.cni`.
    #[serde(default)]
    pub cni: Option<CniArgs>,
}

/// `args.cni` of a configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct CniArgs {
    /// `args.cni.ips`.
    #[serde(default)]
    pub ips: Option<Vec<Requested>>,
}

/// An address with or without a prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requested {
    /// The address.
    pub address: IpAddr,
    /// Its subnet's prefix length, where given.
    pub prefix_len: Option<u8>,
}

impl Requested {
    /// The address with its prefix, where it has one.
    pub fn net(self) -> Option<IpNet> {
        IpNet::new(self.address, self.prefix_len?).ok()
    }
}

impl std::str::FromStr for Requested {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains('/') {
            let net: IpNet = text.parse().map_err(|_| {
                format!("{text:?} is no address with a prefix length, as 10.1.0.5/24")
            })?;
            return Ok(Self {
                address: net.addr().to_canonical(),
                prefix_len: Some(net.prefix_len()),
            });
        }
        let address: IpAddr = text
            .parse()
            .map_err(|_| format!("{text:?} is no IP address, as 10.1.0.5 or fd00::5"))?;
        Ok(Self { address: address.to_canonical(), prefix_len: None })
    }
}

impl<'de> Deserialize<'de> for Requested {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An address as a string, where Go prints an absent one as `""`.
pub(super) fn optional_address<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(|address: IpAddr| Some(address.to_canonical()))
            .map_err(|_| serde::de::Error::custom(format!("{text:?} is no IP address"))),
    }
}
