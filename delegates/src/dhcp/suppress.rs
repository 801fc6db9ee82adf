//! What of a lease a container is not to have, whatever servers say: some tell of a router that nobody asked them for.

use chain::CniResult;
use serde::Deserialize;

/// An entry of `suppress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suppress {
    /// The gateway, and default routes. All other routes stay.
    Gateway,
}

impl Suppress {
    /// Leaves it out of a lease's result.
    pub fn leave_out(self, result: &mut CniResult) {
        match self {
            Self::Gateway => {
                result.ips.iter_mut().for_each(|ip| ip.gateway = None);
                result.routes.retain(|route| route.dst.prefix_len() > 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn without_its_gateway_a_lease_keeps_all_but_default_routes() {
        let suppress: Vec<Suppress> = from_value(json!(["gateway"])).unwrap();
        let result = |gateway, default| {
            let mut result = json!({
                "ips": [{ "address": "10.7.0.50/24" }, { "address": "fd07::50/128" }],
                "routes": [{ "dst": "10.9.0.0/16", "gw": "10.7.0.3" }],
                "dns": { "nameservers": ["10.7.0.2"] },
            });
            if gateway {
                result["ips"][0]["gateway"] = json!("10.7.0.1");
            }
            if default {
                let all = result["routes"].as_array_mut().unwrap();
                all.push(json!({ "dst": "0.0.0.0/0", "gw": "10.7.0.1" }));
                all.push(json!({ "dst": "::/0", "gw": "fd07::1" }));
            }
            from_value::<CniResult>(result).unwrap()
        };
        let mut leased = result(true, true);
        suppress.iter().for_each(|one| one.leave_out(&mut leased));
        assert_eq!(leased, result(false, false));
    }
}
