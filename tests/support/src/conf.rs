//! Configurations that tests have in common.

use serde_json::{Value, json};

/// A chain of plugins as a conflist of version 1.1.0.
pub fn conflist(name: &str, plugins: &[Value]) -> Value {
    json!({ "cniVersion": "1.1.0", "name": name, "plugins": plugins })
}

/// `ipam` of the type host-local: an address of each subnet, and a default route of each family.
pub fn host_local(subnets: &[&str]) -> Value {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    let is_v6 = |subnet: &&str| subnet.contains(':');
    let mut routes = Vec::new();
    if !subnets.iter().all(is_v6) {
        routes.push(json!({ "dst": "0.0.0.0/0" }));
    }
    if subnets.iter().any(is_v6) {
        routes.push(json!({ "dst": "::/0" }));
    }
    json!({ "type": "host-local", "ranges": ranges, "routes": routes })
}

/// The bridge `device` as the containers' gateway, with an address of each subnet.
pub fn bridge(device: &str, subnets: &[&str]) -> Value {
    json!({ "type": "bridge", "bridge": device, "isGateway": true, "ipam": host_local(subnets) })
}

/// portmap, for the runtime's port mappings.
pub fn portmap() -> Value {
    json!({ "type": "portmap", "capabilities": { "portMappings": true } })
}

/// bandwidth, for the runtime's rates.
pub fn bandwidth() -> Value {
    json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })
}

/// Capability arguments: the TCP port `host_port` of the node leads to port 80, and both directions are shaped.
pub fn port_and_rates(host_port: u16) -> Value {
    json!({
        "portMappings": [{ "hostPort": host_port, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": {
            "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
            "egressRate": 100_000_000, "egressBurst": 10_000_000
        }
    })
}

/// All strings that stand under this key, however deep.
pub fn values<'v>(json: &'v Value, key: &str) -> Vec<&'v str> {
    match json {
        Value::Object(fields) => {
            let own = fields.get(key).and_then(Value::as_str);
            own.into_iter().chain(fields.values().flat_map(|value| values(value, key))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| values(item, key)).collect(),
        _ => Vec::new(),
    }
}
