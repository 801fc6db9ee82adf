//! host-local's configuration.

use std::{net::IpAddr, path::PathBuf};

use chain::{CniArgs, Error, PluginConf, Result, Version, result::Dns, result::Route};
use ipnet::IpNet;
use serde::Deserialize;

use super::range::{Range, RangeSet};
use crate::ipam::requested::{Args, NetConf, Requested, optional_address};

/// Where the reference plugin keeps leases.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// What host-local reads of a configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The range sets: an attachment gets one address out of each.
    ///
    /// From `runtimeConfig.ipRanges`, then the old form (`ipam.subnet` and its fellows), then `ipam.ranges`.
    pub sets: Vec<RangeSet>,
    /// `ipam.routes`: passed on as they are.
    pub routes: Vec<Route>,
    /// `ipam.resolvConf`: a file in the form of `resolv.conf(5)` to take the result's `dns` from.
    pub resolv_conf: Option<PathBuf>,
    /// `ipam.dataDir` (default `/var/lib/cni/networks`).
    pub data_dir: PathBuf,
    /// Addresses asked for by `CNI_ARGS` (`IP`), `args.cni.ips` and `runtimeConfig.ips` together, each once.
    pub requested: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Ipam {
    /// The old form of a set of one range.
    #[serde(default, deserialize_with = "optional_subnet")]
    subnet: Option<IpNet>,
    #[serde(rename = "rangeStart", default, deserialize_with = "optional_address")]
    range_start: Option<IpAddr>,
    #[serde(rename = "rangeEnd", default, deserialize_with = "optional_address")]
    range_end: Option<IpAddr>,
    #[serde(default, deserialize_with = "optional_address")]
    gateway: Option<IpAddr>,
    #[serde(default)]
    ranges: Option<Vec<Vec<WireRange>>>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
    #[serde(rename = "resolvConf", default)]
    resolv_conf: Option<PathBuf>,
    #[serde(rename = "dataDir", default)]
    data_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(rename = "ipRanges", default)]
    ip_ranges: Option<Vec<Vec<WireRange>>>,
    #[serde(default)]
    ips: Option<Vec<Requested>>,
}

#[derive(Deserialize)]
struct WireRange {
    #[serde(deserialize_with = "subnet")]
    subnet: IpNet,
    #[serde(rename = "rangeStart", default, deserialize_with = "optional_address")]
    start: Option<IpAddr>,
    #[serde(rename = "rangeEnd", default, deserialize_with = "optional_address")]
    end: Option<IpAddr>,
    #[serde(default, deserialize_with = "optional_address")]
    gateway: Option<IpAddr>,
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// Errors: 6 where a field has the wrong type, 7 where a value is wrong (the range is named), 4 over `CNI_ARGS`.
    pub fn read(conf: &PluginConf, cni_args: &CniArgs) -> Result<Self> {
        let wire: NetConf<Ipam, RuntimeConfig> = conf.decode()?;
        let ipam = wire.ipam.ok_or_else(|| Error::config("the configuration has no \"ipam\""))?;
        let runtime = wire.runtime_config.unwrap_or_default();

        let old_form = ipam.subnet.map(|subnet| {
            let (start, end) = (ipam.range_start, ipam.range_end);
            vec![WireRange { subnet, start, end, gateway: ipam.gateway }]
        });
        let sets = runtime
            .ip_ranges
            .into_iter()
            .flatten()
            .chain(old_form)
            .chain(ipam.ranges.into_iter().flatten())
            .enumerate()
            .map(|(i, ranges)| {
                ranges
                    .into_iter()
                    .map(|r| Range::new(r.subnet, r.start, r.end, r.gateway))
                    .collect::<Result<Vec<_>, _>>()
                    .and_then(RangeSet::new)
                    .map_err(|wrong| Error::config(format!("invalid range set {i}: {wrong}")))
            })
            .collect::<Result<Vec<_>>>()?;
        check_sets(&sets, conf.cni_version)?;

        Ok(Self {
            sets,
            routes: ipam.routes.unwrap_or_default(),
            resolv_conf: ipam.resolv_conf.filter(|path| !path.as_os_str().is_empty()),
            data_dir: data_dir_or_default(ipam.data_dir),
            requested: requested(cni_args, wire.args, runtime.ips)?,
        })
    }

    /// The `dns` of `resolvConf`; empty where there is none.
    pub fn dns(&self) -> Result<Dns> {
        let Some(path) = &self.resolv_conf else { return Ok(Dns::default()) };
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::io(format!("cannot read ipam.resolvConf {}: {error}", path.display()))
        })?;
        Ok(parse_resolv_conf(&text))
    }
}

/// `dataDir` alone: DEL and GC need no more, and must not fail over the rest.
pub fn data_dir(conf: &PluginConf) -> PathBuf {
    let dir =
        conf.raw.get("ipam").and_then(|ipam| ipam.get("dataDir")).and_then(|dir| dir.as_str());
    data_dir_or_default(dir.map(PathBuf::from))
}

fn data_dir_or_default(dir: Option<PathBuf>) -> PathBuf {
    dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| DATA_DIR.into())
}

fn check_sets(sets: &[RangeSet], version: Version) -> Result<()> {
    if sets.is_empty() {
        return Err(Error::config(
            "no IP ranges specified: give ipam.ranges, as [[{\"subnet\": \"10.1.0.0/24\"}]]",
        ));
    }
    let v4 = sets.iter().filter(|set| set.is_ipv4()).count();
    if version < Version::V0_3_0 && (v4 > 1 || sets.len() - v4 > 1) {
        return Err(Error::config(format!(
            "cniVersion {version} has no more than one address of a family, but there are {v4} range sets of IPv4 and {} \
             of IPv6; 0.3.0 and later have any number",
            sets.len() - v4
        )));
    }
    for (i, a) in sets.iter().enumerate() {
        for (j, b) in sets.iter().enumerate().skip(i + 1) {
            if let Some((one, other)) = a.overlap(b) {
                return Err(Error::config(format!(
                    "range set {i} overlaps with range set {j}: {one} and {other}"
                )));
            }
        }
    }
    Ok(())
}

fn requested(
    cni_args: &CniArgs,
    args: Option<Args>,
    capability: Option<Vec<Requested>>,
) -> Result<Vec<IpAddr>> {
    cni_args.refuse_unknown(&["IP"])?;
    let ip = cni_args.get("IP").filter(|ip| !ip.is_empty());
    let ip = ip
        .map(|ip| {
            ip.parse::<Requested>().map_err(|e| Error::environment(format!("CNI_ARGS IP: {e}")))
        })
        .transpose()?;
    let args = args.and_then(|args| args.cni).and_then(|cni| cni.ips).unwrap_or_default();

    let mut requested = Vec::new();
    for one in ip.into_iter().chain(args).chain(capability.unwrap_or_default()) {
        if !requested.contains(&one.address) {
            requested.push(one.address);
        }
    }
    Ok(requested)
}

fn parse_resolv_conf(text: &str) -> Dns {
    let mut dns = Dns::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace().map(str::to_owned);
        let (Some(keyword), Some(first)) = (words.next(), words.next()) else { continue };
        match keyword.as_str() {
            "nameserver" => dns.nameservers.push(first),
            "domain" => dns.domain = first,
            "search" => dns.search.extend(std::iter::once(first).chain(words)),
            "options" => dns.options.extend(std::iter::once(first).chain(words)),
            _ => {}
        }
    }
    dns
}

fn subnet<'de, D: serde::Deserializer<'de>>(from: D) -> Result<IpNet, D::Error> {
    parse_subnet(&String::deserialize(from)?)
}

/// An empty subnet is none, for a configuration that was made from a template.
fn optional_subnet<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<IpNet>, D::Error> {
    match Option::<String>::deserialize(from)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => parse_subnet(text).map(Some),
    }
}

fn parse_subnet<E: serde::de::Error>(text: &str) -> Result<IpNet, E> {
    text.parse().map_err(|_| {
        E::custom(format!("{text:?} is no subnet in CIDR notation, as 10.1.0.0/24 or fd00:1::/64"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(ipam: Value, more: Value) -> Result<Config> {
        read_with(ipam, more, "")
    }

    fn read_with(mut ipam: Value, more: Value, args: &str) -> Result<Config> {
        ipam["type"] = "host-local".into();
        let mut conf =
            json!({"cniVersion": "1.0.0", "name": "web", "type": "bridge", "ipam": ipam});
        for (key, value) in more.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let Value::Object(conf) = conf else { unreachable!() };
        Config::read(&PluginConf::from_object(conf)?, &CniArgs::parse(args)?)
    }

    fn sets(config: &Config) -> Vec<String> {
        config.sets.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_come_from_the_capability_then_the_old_form_then_the_list() {
        let config = read(
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.10", "gateway": "",
                   "ranges": [[{"subnet": "10.2.0.0/24"}, {"subnet": "10.3.0.0/24"}], [{"subnet": "fd00::/64"}]]}),
            json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}}),
        )
        .unwrap();
        assert_eq!(
            sets(&config),
            [
                "10.9.0.1-10.9.0.254 of subnet 10.9.0.0/24",
                "10.1.0.10-10.1.0.254 of subnet 10.1.0.0/24",
                "10.2.0.1-10.2.0.254 of subnet 10.2.0.0/24, 10.3.0.1-10.3.0.254 of subnet 10.3.0.0/24",
                "fd00::1-fd00::ffff:ffff:ffff:ffff of subnet fd00::/64",
            ]
        );
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/cni/networks"));
    }

    #[test]
    fn errors_name_the_set_and_the_field() {
        for (ipam, version, message) in [
            (json!({}), "1.0.0", "no IP ranges specified"),
            (json!({"ranges": [[]]}), "1.0.0", "invalid range set 0: it has no ranges"),
            (
                json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/16"}]]}),
                "1.0.0",
                "range set 0 overlaps with range set 1: 10.1.0.1-10.1.0.254 of subnet 10.1.0.0/24 and",
            ),
            (
                json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}),
                "0.2.0",
                "cniVersion 0.2.0 has no more than one address of a family, but there are 2",
            ),
            (
                json!({"ranges": [[{"subnet": "10.1.0.0"}]]}),
                "1.0.0",
                "field ipam.ranges[0][0].subnet: \"10.1.0.0\" is no subnet in CIDR notation",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeEnd": "many"}),
                "1.0.0",
                "field ipam.rangeEnd: \"many\" is no IP address",
            ),
            (json!({"ranges": [[{"rangeStart": "10.1.0.1"}]]}), "1.0.0", "missing field `subnet`"),
        ] {
            let error = read(ipam, json!({"cniVersion": version})).unwrap_err();
            assert!(error.msg.contains(message), "{error}");
        }
    }

    #[test]
    fn requested_addresses_of_all_three_sources_add_up() {
        let config = read_with(
            json!({"subnet": "10.1.0.0/24"}),
            json!({"args": {"cni": {"ips": ["10.1.0.6", "10.1.0.5"]}}, "runtimeConfig": {"ips": ["fd00::7/64"]}}),
            "IP=10.1.0.5/24",
        )
        .unwrap();
        let requested: Vec<_> = config.requested.iter().map(ToString::to_string).collect();
        assert_eq!(requested, ["10.1.0.5", "10.1.0.6", "fd00::7"]);
        let error = read_with(json!({"subnet": "10.1.0.0/24"}), json!({}), "MAC=1").unwrap_err();
        assert!(error.msg.contains("unknown key \"MAC\""), "{error}");
        let error = read_with(json!({"subnet": "10.1.0.0/24"}), json!({}), "IP=ten").unwrap_err();
        assert_eq!(error.msg, "CNI_ARGS IP: \"ten\" is no IP address, as 10.1.0.5 or fd00::5");
    }

    #[test]
    fn dns_is_read_as_the_resolver_does() {
        let dns = parse_resolv_conf(
            "# nameserver 1.1.1.1\nnameserver 9.9.9.9\n ; x\ndomain a.example\nsearch b.example  c.example\nnameserver\n\
             options ndots:5 rotate\n",
        );
        assert_eq!(
            serde_json::to_value(dns).unwrap(),
            json!({"nameservers": ["9.9.9.9"], "domain": "a.example", "search": ["b.example", "c.example"],
                   "options": ["ndots:5", "rotate"]})
        );
    }
}
