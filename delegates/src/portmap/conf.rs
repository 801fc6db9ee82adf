//! The configuration of portmap.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use chain::{Attachment, CniResult, Error, PluginConf, Result};
use ipnet::IpNet;
use nft_templates::{Condition, Element, IpFamily, Protocol, Subject};
use serde::Deserialize;

use super::{conditions, targets};
use crate::{host_veth, ifb, interface::null_is_default, net::sysctl};

/// portmap's configuration, checked.
pub(super) struct Conf {
    /// The ports asked for.
    pub mappings: Vec<Mapping>,
    /// `snat` (default true): the container reaches itself by its ports, and so do its neighbours and the node over
    /// localhost. Without it only packets from elsewhere find their way back.
    pub snat: bool,
    /// `masqAll` (default false), with `snat`: the container sees an address of the node as the client of every connection
    /// by its ports.
    masq_all: bool,
    /// `conditionsV4`, and `excludedCIDRs` of IPv4: what has to hold for a connection that the ports take.
    conditions_v4: Vec<Condition>,
    /// `conditionsV6`, and `excludedCIDRs` of IPv6.
    conditions_v6: Vec<Condition>,
}

/// One port of the node that leads into the container.
pub(super) struct Mapping {
    /// `hostIP`; absent: every address of the node.
    host_ip: Option<IpAddr>,
    /// `hostPort`, 1 to 65535.
    host_port: u16,
    /// `containerPort`, 1 to 65535.
    container_port: u16,
    /// `protocol` (default tcp), in upper or lower case.
    protocol: Protocol,
}

/// The configuration as it is written.
#[derive(Deserialize)]
struct Written {
    snat: Option<bool>,
    #[serde(rename = "masqAll", default, deserialize_with = "null_is_default")]
    masq_all: bool,
    /// Which of the reference's two implementations to use; there is one here.
    backend: Option<String>,
    #[serde(rename = "conditionsV4", default)]
    conditions_v4: Option<Vec<String>>,
    #[serde(rename = "conditionsV6", default)]
    conditions_v6: Option<Vec<String>>,
    /// Addresses of the node whose ports are not taken: those of Services, which kube-proxy's IPVS mode makes local. Not in
    /// the reference.
    #[serde(rename = "excludedCIDRs", default)]
    excluded: Option<Vec<IpNet>>,
    #[serde(rename = "runtimeConfig", default)]
    runtime_config: Option<RuntimeConfig>,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(rename = "portMappings", default)]
    port_mappings: Option<Vec<WrittenMapping>>,
}

#[derive(Deserialize)]
struct WrittenMapping {
    #[serde(rename = "hostPort", default, deserialize_with = "null_is_default")]
    host_port: i64,
    #[serde(rename = "containerPort", default, deserialize_with = "null_is_default")]
    container_port: i64,
    #[serde(default, deserialize_with = "null_is_default")]
    protocol: String,
    #[serde(rename = "hostIP", default)]
    host_ip: Option<String>,
}

impl Conf {
    /// Reads the configuration.
    pub fn of(conf: &PluginConf) -> Result<Self> {
        let written: Written = conf.decode()?;
        let excluded = written.excluded.unwrap_or_default();
        let conditions = |field, family, words: Option<Vec<String>>| -> Result<Vec<Condition>> {
            let mut conditions = conditions::read(field, family, &words.unwrap_or_default())?;
            let excluded = excluded.iter().filter(|net| IpFamily::of(net.addr()) == family);
            conditions.extend(
                excluded
                    .map(|net| Condition { subject: Subject::Destination(*net), negated: true }),
            );
            Ok(conditions)
        };
        let conditions_v4 = conditions("conditionsV4", IpFamily::V4, written.conditions_v4)?;
        let conditions_v6 = conditions("conditionsV6", IpFamily::V6, written.conditions_v6)?;
        if let Some(backend) = written.backend {
            tracing::debug!(%backend, "ports are elements of catena's own ruleset, whatever the backend");
        }
        let mappings = written.runtime_config.unwrap_or_default().port_mappings;
        let mappings = mappings.unwrap_or_default();
        let mappings = mappings.iter().map(Mapping::read).collect::<Result<Vec<_>>>()?;
        let mut asked = HashSet::new();
        for mapping in &mappings {
            if !mapping.places().all(|place| asked.insert(place)) {
                return Err(Error::config(format!(
                    "portMappings asks twice for {mapping}: a port of the node leads to one port of the container"
                )));
            }
        }
        let snat = written.snat.unwrap_or(true);
        let masq_all = snat && written.masq_all;
        Ok(Self { mappings, snat, masq_all, conditions_v4, conditions_v6 })
    }

    /// The elements for the addresses of a result. A mapping whose `hostIP` is of another family than an address is
    /// passed over for that address, as the reference does.
    pub fn elements(&self, attachment: &Attachment, result: &CniResult) -> Vec<Element> {
        let mut elements = Vec::new();
        for target in targets(attachment, result) {
            let address = target.addr();
            let family = IpFamily::of(address);
            let of_family =
                |mapping: &&Mapping| mapping.host_ip.is_none_or(|ip| IpFamily::of(ip) == family);
            let before = elements.len();
            elements.extend(self.mappings.iter().filter(of_family).map(|mapping| {
                Element::HostPort {
                    protocol: mapping.protocol,
                    host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
                    host_port: mapping.host_port,
                    to: SocketAddr::new(address, mapping.container_port),
                    conditions: self.conditions(family).to_vec(),
                }
            }));
            if self.snat && elements.len() > before {
                elements.push(Element::Hairpin { address });
                if self.masq_all {
                    elements.push(Element::Masqueraded { address });
                }
            }
        }
        if self.snat && answers_on_localhost6(attachment, result) {
            elements.extend(self.localhost6(attachment, result));
        }
        elements
    }

    /// The elements for `::1`, which a mapping of every address has besides (see `catena.nft`).
    pub fn localhost6(&self, attachment: &Attachment, result: &CniResult) -> Vec<Element> {
        let localhost = IpAddr::V6(Ipv6Addr::LOCALHOST);
        let named = |mapping: &Mapping| {
            let same = |other: &Mapping| {
                (other.host_ip, other.protocol, other.host_port)
                    == (Some(localhost), mapping.protocol, mapping.host_port)
            };
            self.mappings.iter().any(same)
        };
        let any = |ip: IpAddr| ip.is_unspecified() && ip.is_ipv6();
        let Some(target) = targets(attachment, result).find(|ip| ip.addr().is_ipv6()) else {
            return Vec::new();
        };
        self.mappings
            .iter()
            .filter(|mapping| mapping.host_ip.is_none_or(any) && !named(mapping))
            .map(|mapping| Element::HostPort {
                protocol: mapping.protocol,
                host_ip: Some(localhost),
                host_port: mapping.host_port,
                to: SocketAddr::new(target.addr(), mapping.container_port),
                conditions: self.conditions(IpFamily::V6).to_vec(),
            })
            .collect()
    }

    fn conditions(&self, family: IpFamily) -> &[Condition] {
        match family {
            IpFamily::V4 => &self.conditions_v4,
            IpFamily::V6 => &self.conditions_v6,
        }
    }
}

/// Whether a connection to `::1` would be answered: where the packets that cross a bridge pass the IP hooks, answers are
/// translated back to `::1` before the kernel looks at where they came from, and it drops them.
fn answers_on_localhost6(attachment: &Attachment, result: &CniResult) -> bool {
    let own = [host_veth(attachment), ifb(attachment)];
    let mut on_host = result.interfaces.iter().filter(|interface| interface.sandbox.is_empty());
    let bridged = on_host.any(|interface| !own.contains(&interface.name));
    !bridged || sysctl::read_host("net/bridge/bridge-nf-call-ip6tables").as_deref() != Some("1")
}

impl Mapping {
    /// What the mapping takes of the node's ports: 0.0.0.0 and :: are every address of one family, no address is both.
    fn places(&self) -> impl Iterator<Item = (Protocol, bool, Option<IpAddr>, u16)> {
        let specific = self.host_ip.filter(|ip| !ip.is_unspecified());
        let families = [false, true]
            .into_iter()
            .filter(|v6| self.host_ip.is_none_or(|ip| ip.is_ipv6() == *v6));
        families.map(move |v6| (self.protocol, v6, specific, self.host_port))
    }

    fn read(written: &WrittenMapping) -> Result<Self> {
        let port = |name: &str, port: i64| match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Error::config(format!(
                "portMappings: {name} {port} is not a port (1 to 65535)"
            ))),
        };
        let protocol = match written.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => {
                return Err(Error::config(format!(
                    "portMappings: protocol {other:?} is unknown; use tcp, udp or sctp"
                )));
            }
        };
        let host_ip = match written.host_ip.as_deref() {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                Error::config(format!("portMappings: hostIP {text:?} is not an IP address"))
            })?),
        };
        Ok(Self {
            host_ip,
            host_port: port("hostPort", written.host_port)?,
            container_port: port("containerPort", written.container_port)?,
            protocol,
        })
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            None => write!(f, "{} port {}", self.protocol, self.host_port),
            Some(ip) => write!(f, "{} port {} of {ip}", self.protocol, self.host_port),
        }
    }
}
