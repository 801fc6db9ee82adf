//! The IPAM plugin `static`: hands out the addresses that the configuration or the runtime names. It keeps no state.

use std::net::IpAddr;

use chain::{
    Call, CniArgs, CniResult, Error, Plugin, PluginConf, Result, Version,
    result::{Dns, IpConfig, Route},
};
use ipnet::IpNet;
use serde::Deserialize;

use super::requested::{NetConf, Requested, optional_address};

/// `"type": "static"` in `ipam`.
#[derive(Clone, Copy, Debug)]
pub struct Static;

#[derive(Deserialize)]
struct Ipam {
    /// `addresses`: each with its subnet's prefix length.
    #[serde(default)]
    addresses: Option<Vec<Address>>,
    /// `routes`: passed on as they are.
    #[serde(default)]
    routes: Option<Vec<Route>>,
    /// `dns`: passed on as it is.
    #[serde(default)]
    dns: Option<Dns>,
}

#[derive(Deserialize)]
struct Address {
    address: Requested,
    /// The subnet's gateway (default: none).
    #[serde(default, deserialize_with = "optional_address")]
    gateway: Option<IpAddr>,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    ips: Option<Vec<Requested>>,
}

/// What is to be handed out.
#[derive(Debug)]
struct Config {
    addresses: Vec<(IpNet, Option<IpAddr>)>,
    routes: Vec<Route>,
    dns: Dns,
}

impl Config {
    fn read(conf: &PluginConf, cni_args: &CniArgs) -> Result<Self> {
        let wire: NetConf<Ipam, RuntimeConfig> = conf.decode()?;
        let ipam = wire.ipam.ok_or_else(|| Error::config("the configuration has no \"ipam\""))?;
        let from_args = wire.args.and_then(|args| args.cni).and_then(|cni| cni.ips);
        let from_runtime = wire.runtime_config.unwrap_or_default().ips;

        let mut addresses = with_gateway(ipam.addresses.unwrap_or_default())?;
        addresses.extend(from_cni_args(cni_args)?);
        for (source, ips) in [("args.cni.ips", from_args), ("runtimeConfig.ips", from_runtime)] {
            let ips = ips.unwrap_or_default();
            if !ips.is_empty() {
                addresses = ips
                    .into_iter()
                    .map(|ip| Ok((with_prefix(ip, source)?, None)))
                    .collect::<Result<_>>()?;
            }
        }
        check(&addresses, conf.cni_version)?;
        Ok(Self {
            addresses,
            routes: ipam.routes.unwrap_or_default(),
            dns: ipam.dns.unwrap_or_default(),
        })
    }
}

impl<N> Plugin<N> for Static {
    fn kind(&self) -> &'static str {
        "static"
    }

    fn add(&self, call: &Call<'_, N>, _node: &mut N) -> Result<CniResult> {
        let config = Config::read(call.conf, &call.attachment.args)?;
        let ips = config
            .addresses
            .into_iter()
            .map(|(address, gateway)| IpConfig { address, gateway, interface: None })
            .collect();
        Ok(CniResult { ips, routes: config.routes, dns: config.dns, ..CniResult::default() })
    }

    /// There is nothing to undo, whatever the configuration has become.
    fn del(&self, _call: &Call<'_, N>, _node: &mut N) -> Result<()> {
        Ok(())
    }

    /// Each address must be in `prevResult`, with its gateway where one is configured.
    fn check(&self, call: &Call<'_, N>, _node: &mut N) -> Result<()> {
        let config = Config::read(call.conf, &call.attachment.args)?;
        let Some(result) = call.prev_result else {
            return Err(Error::config("static: CHECK needs prevResult, and there is none"));
        };
        for (address, gateway) in config.addresses {
            let Some(ip) = result.ips.iter().find(|ip| ip.address.addr() == address.addr()) else {
                return Err(Error::internal(format!(
                    "static: the address {address} is not in prevResult"
                )));
            };
            if gateway.is_some() && ip.gateway != gateway {
                return Err(Error::internal(format!(
                    "static: the address {address} has gateway {} in prevResult, but {} in the configuration",
                    ip.gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string()),
                    gateway.map_or_else(|| "none".to_owned(), |gateway| gateway.to_string()),
                )));
            }
        }
        Ok(())
    }
}

/// `IP` (a list) adds addresses; `GATEWAY` (a list) gives those of its subnet a gateway.
fn from_cni_args(args: &CniArgs) -> Result<Vec<(IpNet, Option<IpAddr>)>> {
    args.refuse_unknown(&["IP", "GATEWAY"])?;
    let list = |key| args.get(key).into_iter().flat_map(|text| text.split(',')).map(str::trim);
    let mut addresses = list("IP")
        .filter(|ip| !ip.is_empty())
        .map(|ip| {
            let ip = ip.parse().map_err(|e| Error::environment(format!("CNI_ARGS IP: {e}")))?;
            let net =
                with_prefix(ip, "IP").map_err(|e| Error::environment(format!("CNI_ARGS {e}")))?;
            Ok((net, None))
        })
        .collect::<Result<Vec<_>>>()?;
    for text in list("GATEWAY").filter(|gateway| !gateway.is_empty()) {
        let gateway: IpAddr = text.parse().map_err(|_| {
            Error::environment(format!("CNI_ARGS GATEWAY: {text:?} is no IP address"))
        })?;
        for (address, its) in &mut addresses {
            if address.contains(&gateway) {
                *its = Some(gateway);
            }
        }
    }
    Ok(addresses)
}

fn with_gateway(addresses: Vec<Address>) -> Result<Vec<(IpNet, Option<IpAddr>)>> {
    addresses
        .into_iter()
        .map(|one| Ok((with_prefix(one.address, "ipam.addresses")?, one.gateway)))
        .collect()
}

fn with_prefix(ip: Requested, source: &str) -> Result<IpNet> {
    ip.net().ok_or_else(|| {
        Error::config(format!(
            "{source}: {} needs the prefix length of its subnet, as {}/{}",
            ip.address,
            ip.address,
            if ip.address.is_ipv4() { 24 } else { 64 }
        ))
    })
}

fn check(addresses: &[(IpNet, Option<IpAddr>)], version: Version) -> Result<()> {
    if addresses.is_empty() {
        return Err(Error::config(
            "static has no address to give: set ipam.addresses, as [{\"address\": \"10.1.0.5/24\"}], or have the \
             runtime pass \"ips\"",
        ));
    }
    for (i, (address, gateway)) in addresses.iter().enumerate() {
        if addresses[..i].iter().any(|(other, _)| other.addr() == address.addr()) {
            return Err(Error::config(format!("the address {} is given twice", address.addr())));
        }
        if let Some(gateway) = gateway
            && gateway.is_ipv4() != address.addr().is_ipv4()
        {
            return Err(Error::config(format!(
                "the gateway {gateway} is not of the address family of its address {address}"
            )));
        }
    }
    let v4 = addresses.iter().filter(|(address, _)| address.addr().is_ipv4()).count();
    if version < Version::V0_3_0 && (v4 > 1 || addresses.len() - v4 > 1) {
        return Err(Error::config(format!(
            "cniVersion {version} has no more than one address of a family, but there are {v4} of IPv4 and {} of IPv6; \
             0.3.0 and later have any number",
            addresses.len() - v4
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(ipam: Value, more: Value, args: &str) -> Result<Config> {
        let mut conf =
            json!({"cniVersion": "1.0.0", "name": "web", "type": "bridge", "ipam": ipam});
        conf["ipam"]["type"] = "static".into();
        for (key, value) in more.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let Value::Object(conf) = conf else { unreachable!() };
        Config::read(&PluginConf::from_object(conf)?, &CniArgs::parse(args)?)
    }

    fn addresses(config: &Config) -> Vec<String> {
        config
            .addresses
            .iter()
            .map(|(address, gateway)| match gateway {
                Some(gateway) => format!("{address} via {gateway}"),
                None => address.to_string(),
            })
            .collect()
    }

    fn ipam() -> Value {
        json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64", "gateway": ""}],
               "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["9.9.9.9"]}})
    }

    #[test]
    fn the_environment_adds_and_the_runtime_replaces() {
        let config = read(ipam(), json!({}), "").unwrap();
        assert_eq!(addresses(&config), ["10.1.0.5/24 via 10.1.0.1", "fd00::5/64"]);
        assert_eq!((config.routes.len(), config.dns.nameservers.len()), (1, 1));

        let args = "IP=10.2.0.5/24, fd01::5/64;GATEWAY=10.2.0.1,fd01::1,10.1.0.9";
        let config = read(ipam(), json!({}), args).unwrap();
        assert_eq!(
            addresses(&config),
            [
                "10.1.0.5/24 via 10.1.0.1",
                "fd00::5/64",
                "10.2.0.5/24 via 10.2.0.1",
                "fd01::5/64 via fd01::1"
            ]
        );

        let more = json!({"args": {"cni": {"ips": ["10.3.0.5/24"]}}});
        assert_eq!(addresses(&read(ipam(), more, args).unwrap()), ["10.3.0.5/24"]);
        let more = json!({"args": {"cni": {"ips": ["10.3.0.5/24"]}}, "runtimeConfig": {"ips": ["10.4.0.5/24"]}});
        assert_eq!(addresses(&read(ipam(), more, args).unwrap()), ["10.4.0.5/24"]);
    }

    #[test]
    fn errors_name_the_value_and_the_way_out() {
        for (ipam, more, args, message) in [
            (json!({}), json!({}), "", "static has no address to give: set ipam.addresses"),
            (
                json!({"addresses": [{"address": "10.1.0.5"}]}),
                json!({}),
                "",
                "ipam.addresses: 10.1.0.5 needs the prefix length of its subnet, as 10.1.0.5/24",
            ),
            (
                ipam(),
                json!({"runtimeConfig": {"ips": ["fd00::7"]}}),
                "",
                "runtimeConfig.ips: fd00::7 needs the prefix length of its subnet, as fd00::7/64",
            ),
            (ipam(), json!({}), "IP=10.1.0.7", "CNI_ARGS IP: 10.1.0.7 needs the prefix length"),
            (
                ipam(),
                json!({}),
                "IP=10.1.0.7/24;GATEWAY=x",
                "CNI_ARGS GATEWAY: \"x\" is no IP address",
            ),
            (ipam(), json!({}), "IP=10.1.0.5/24", "the address 10.1.0.5 is given twice"),
            (ipam(), json!({}), "MAC=02:00:00:00:00:01", "unknown key \"MAC\""),
            (
                json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "fd00::1"}]}),
                json!({}),
                "",
                "the gateway fd00::1 is not of the address family of its address 10.1.0.5/24",
            ),
            (
                ipam(),
                json!({"cniVersion": "0.2.0"}),
                "IP=10.2.0.5/24",
                "cniVersion 0.2.0 has no more than one address of a family",
            ),
        ] {
            let error = read(ipam, more, args).unwrap_err();
            assert!(error.msg.contains(message), "{error}");
        }
    }
}
