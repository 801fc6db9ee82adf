//! The file in which flannel says what the node's pods get: it stands in for the API where flannel makes the routes.

use std::{fs, path::Path, str::FromStr};

use chain::{Code, Error, Result};
use ipnet::IpNet;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The cluster's pods (`FLANNEL_NETWORK`, `FLANNEL_IPV6_NETWORK`).
    pub networks: Vec<IpNet>,
    /// The node's own (`FLANNEL_SUBNET`, `FLANNEL_IPV6_SUBNET`), host bits cleared.
    pub subnets: Vec<IpNet>,
    /// What reaches other nodes in one piece.
    pub mtu: u32,
    /// Whether flannel itself masquerades what leaves the cluster.
    pub masquerades: bool,
}

impl SubnetEnv {
    /// Reads the file.
    ///
    /// Errors: 11 where it is not there (yet), 5 where it cannot be read, 6 where it lacks something or says what it must not.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Error::new(
                Code::TryAgain,
                format!(
                    "{} is not there yet: flanneld writes it when it has a lease",
                    path.display()
                ),
            ),
            _ => Error::io(format!("read {}: {error}", path.display())),
        })?;
        Self::parse(&text)
            .map_err(|why| Error::new(Code::Decode, format!("{}: {why}", path.display())))
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        let mut env = Self { masquerades: false, ..Self::default() };
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let value = value.trim().trim_matches('"');
            match key {
                "FLANNEL_NETWORK" | "FLANNEL_IPV6_NETWORK" => {
                    env.networks.extend(nets(key, value)?.iter().map(IpNet::trunc));
                }
                "FLANNEL_SUBNET" | "FLANNEL_IPV6_SUBNET" => {
                    env.subnets.extend(nets(key, value)?.iter().map(IpNet::trunc));
                }
                "FLANNEL_MTU" => env.mtu = value_of(key, value)?,
                "FLANNEL_IPMASQ" => env.masquerades = value_of(key, value)?,
                _ => {}
            }
        }
        for (key, is_missing) in [
            ("FLANNEL_NETWORK", env.networks.is_empty()),
            ("FLANNEL_SUBNET", env.subnets.is_empty()),
            ("FLANNEL_MTU", env.mtu == 0),
        ] {
            if is_missing {
                return Err(format!("it has no {key}"));
            }
        }
        Ok(env)
    }
}

fn nets(key: &str, value: &str) -> std::result::Result<Vec<IpNet>, String> {
    value.split(',').filter(|part| !part.is_empty()).map(|part| value_of(key, part)).collect()
}

fn value_of<T: FromStr>(key: &str, value: &str) -> std::result::Result<T, String> {
    value.trim().parse().map_err(|_| format!("{key} is {value:?}, which it cannot be"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;

    const FILE: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
                        FLANNEL_IPV6_NETWORK=fd10::/48\nFLANNEL_IPV6_SUBNET=fd10:0:0:1::1/64\n\
                        FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

    #[test]
    fn a_file_of_flannels_is_read() {
        let env = SubnetEnv::parse(FILE).unwrap();
        let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&env.networks), ["10.244.0.0/16", "fd10::/48"]);
        assert_eq!(texts(&env.subnets), ["10.244.1.0/24", "fd10:0:0:1::/64"]);
        assert_eq!((env.mtu, env.masquerades), (1450, true));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let without = FILE.replace("FLANNEL_MTU=1450\n", "");
        assert_eq!(SubnetEnv::parse(&without).unwrap_err(), "it has no FLANNEL_MTU");
        assert_eq!(SubnetEnv::parse("").unwrap_err(), "it has no FLANNEL_NETWORK");
        let wrong = FILE.replace("10.244.1.1/24", "10.244.1.1/240");
        let error = SubnetEnv::parse(&wrong).unwrap_err();
        assert_eq!(error, "FLANNEL_SUBNET is \"10.244.1.1/240\", which it cannot be");
    }
}
