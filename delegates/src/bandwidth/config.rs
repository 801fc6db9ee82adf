//! bandwidth's configuration.

use std::time::Duration;

use chain::{Code, Error, PluginConf, Result};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

/// What bandwidth reads of a configuration, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What the container may receive (`ingressRate`, `ingressBurst`).
    pub ingress: Option<Limit>,
    /// What the container may send (`egressRate`, `egressBurst`).
    pub egress: Option<Limit>,
    /// `latency`: how long a packet may wait at most (default: 10 to 40 ms, see [`super::shape`]). Not in the reference.
    pub latency: Option<Duration>,
    /// `egressAt`. Not in the reference.
    pub egress_at: EgressAt,
}

/// A limit in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Bits per second, at least 8.
    pub rate_bits: u64,
    /// Bits that may pass at once; absent: as much as suits the rate. (The reference asks for one.)
    pub burst_bits: Option<u64>,
}

/// Where what the container sends is shaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EgressAt {
    /// On the host, by way of an ifb, as the reference does it (default).
    #[default]
    Host,
    /// On the container's own interface: no ifb and no second queueing, but a container with CAP_NET_ADMIN can undo it.
    Container,
}

#[derive(Deserialize)]
struct NetConf {
    #[serde(rename = "runtimeConfig", default)]
    runtime_config: Option<RuntimeConfig>,
    #[serde(default, deserialize_with = "duration")]
    latency: Option<Duration>,
    #[serde(rename = "egressAt", default)]
    egress_at: Option<EgressAt>,
}

#[derive(Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    bandwidth: Option<Bandwidth>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bandwidth {
    #[serde(default)]
    ingress_rate: Option<u64>,
    #[serde(default)]
    ingress_burst: Option<u64>,
    #[serde(default)]
    egress_rate: Option<u64>,
    #[serde(default)]
    egress_burst: Option<u64>,
    #[serde(default)]
    shaped_subnets: Option<Vec<Value>>,
    #[serde(default)]
    unshaped_subnets: Option<Vec<Value>>,
}

impl Config {
    /// Reads and checks the configuration. Any limit at the top level hides `runtimeConfig.bandwidth`.
    pub fn read(conf: &PluginConf) -> Result<Self> {
        let wire: NetConf = conf.decode()?;
        let top: Bandwidth = conf.decode()?;
        let bandwidth = if top.is_given() {
            top
        } else {
            wire.runtime_config.and_then(|runtime| runtime.bandwidth).unwrap_or_default()
        };
        for (name, subnets) in [
            ("shapedSubnets", &bandwidth.shaped_subnets),
            ("unshapedSubnets", &bandwidth.unshaped_subnets),
        ] {
            if subnets.as_ref().is_some_and(|subnets| !subnets.is_empty()) {
                return Err(Error::new(
                    Code::UnsupportedField,
                    format!(
                        "bandwidth does not support {name}: a limit is for all of the container's traffic; remove it"
                    ),
                ));
            }
        }
        Ok(Self {
            ingress: limit("ingress", bandwidth.ingress_rate, bandwidth.ingress_burst)?,
            egress: limit("egress", bandwidth.egress_rate, bandwidth.egress_burst)?,
            latency: wire.latency,
            egress_at: wire.egress_at.unwrap_or_default(),
        })
    }

    /// Whether there is nothing to shape.
    pub fn is_unlimited(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

impl Bandwidth {
    fn is_given(&self) -> bool {
        self.ingress_rate.is_some()
            || self.ingress_burst.is_some()
            || self.egress_rate.is_some()
            || self.egress_burst.is_some()
    }
}

/// 0 means no limit, as absence does.
fn limit(direction: &str, rate: Option<u64>, burst: Option<u64>) -> Result<Option<Limit>> {
    let (rate, burst) = (rate.unwrap_or(0), burst.unwrap_or(0));
    match (rate, burst) {
        (0, 0) => Ok(None),
        (0, burst) => Err(Error::config(format!(
            "{direction}Burst is {burst} but there is no {direction}Rate: a burst needs a rate; set both, or neither"
        ))),
        (1..8, _) => Err(Error::config(format!(
            "{direction}Rate is {rate} bit/s: less than a byte a second lets nothing pass"
        ))),
        (rate_bits, burst) => {
            Ok(Some(Limit { rate_bits, burst_bits: (burst > 0).then_some(burst) }))
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = || {
        de::Error::custom(format!(
            "{text:?} is no duration from 1ms to 10s, as \"25ms\", \"500us\" or \"1s\""
        ))
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let latency = match &text[digits..] {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return Err(wrong()),
    };
    if (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&latency) {
        return Ok(Some(latency));
    }
    Err(wrong())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: Value) -> Result<Config> {
        let mut conf = json!({"cniVersion": "1.0.0", "name": "web", "type": "bandwidth"});
        for (key, value) in more.as_object().unwrap() {
            conf[key] = value.clone();
        }
        let Value::Object(conf) = conf else { unreachable!() };
        Config::read(&PluginConf::from_object(conf)?)
    }

    fn limit(rate_bits: u64, burst_bits: u64) -> Option<Limit> {
        Some(Limit { rate_bits, burst_bits: Some(burst_bits) })
    }

    #[test]
    fn the_configuration_hides_what_the_runtime_passes() {
        let runtime = json!({"bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 3000, "egressBurst": 4000}});
        let config = read(json!({"runtimeConfig": runtime})).unwrap();
        assert_eq!((config.ingress, config.egress), (limit(1000, 2000), limit(3000, 4000)));
        let config =
            read(json!({"runtimeConfig": runtime, "egressRate": 5000, "egressBurst": 6000}))
                .unwrap();
        assert_eq!((config.ingress, config.egress), (None, limit(5000, 6000)));
        let config = read(json!({"runtimeConfig": runtime, "ingressRate": 0})).unwrap();
        assert!(config.is_unlimited(), "as the reference has it");
        for nothing in [
            json!({}),
            json!({"runtimeConfig": null}),
            json!({"runtimeConfig": {"bandwidth": null}}),
        ] {
            assert!(read(nothing).unwrap().is_unlimited());
        }
        let config =
            read(json!({"ingressRate": 1000, "latency": "20ms", "egressAt": "container"})).unwrap();
        assert_eq!(config.ingress, Some(Limit { rate_bits: 1000, burst_bits: None }));
        assert_eq!(config.latency, Some(Duration::from_millis(20)));
        assert_eq!(config.egress_at, EgressAt::Container);
    }

    #[test]
    fn errors_name_the_field_and_the_way_out() {
        for (conf, code, message) in [
            (
                json!({"ingressBurst": 5}),
                7,
                "ingressBurst is 5 but there is no ingressRate: a burst needs a rate; set both",
            ),
            (
                json!({"egressRate": 7, "egressBurst": 9}),
                7,
                "egressRate is 7 bit/s: less than a byte a second",
            ),
            (json!({"ingressRate": "10M"}), 6, "ingressRate"),
            (json!({"ingressRate": -1}), 6, "ingressRate"),
            (
                json!({"latency": "soon"}),
                6,
                "field latency: \"soon\" is no duration from 1ms to 10s",
            ),
            (json!({"latency": "11s"}), 6, "\"11s\" is no duration"),
            (json!({"egressAt": "moon"}), 6, "unknown variant `moon`"),
            (
                json!({"ingressRate": 1000, "shapedSubnets": ["10.0.0.0/8"]}),
                2,
                "does not support shapedSubnets",
            ),
        ] {
            let error = read(conf).unwrap_err();
            assert_eq!(error.code.number(), code, "{error}");
            assert!(error.msg.contains(message), "{error}");
        }
    }
}
