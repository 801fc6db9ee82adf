//! Fields that change by themselves.

use serde_json::Value;

/// What a bridge, and what a port knows of its bridge, derives from the ports, and timers.
const BRIDGE_STATE: [&str; 16] = [
    "bridge_id",
    "root_id",
    "root_port",
    "root_path_cost",
    "topology_change",
    "topology_change_detected",
    "topology_change_ack",
    "hello_timer",
    "tcn_timer",
    "topology_change_timer",
    "gc_timer",
    "hold_timer",
    "message_age_timer",
    "forward_delay_timer",
    "designated_port",
    "designated_cost",
];

pub(super) fn link(link: &mut Value) {
    remove(link, &["stats", "stats64"]);
    let is_bridge = link["linkinfo"]["info_kind"] == "bridge";
    if is_bridge {
        // Without a port that is up a bridge has no carrier; its address is its ports' lowest, and
        // so are its limits.
        remove(link, &["operstate", "address", "tso_max_size", "tso_max_segs"]);
        if let Some(flags) = link["flags"].as_array_mut() {
            flags.retain(|flag| flag != "NO-CARRIER" && flag != "LOWER_UP");
        }
    }
    for info in ["info_data", "info_slave_data"] {
        if let Some(info) = link["linkinfo"].get_mut(info) {
            remove(info, &BRIDGE_STATE);
        }
    }
}

pub(super) fn address(address: &mut Value) {
    // Duplicate address detection comes to its end at some time.
    remove(address, &["tentative", "optimistic"]);
    // 2^32 - 1 seconds is for ever; what is less is counted down.
    for key in ["valid_life_time", "preferred_life_time"] {
        if address[key].as_u64() != Some(u64::from(u32::MAX)) {
            remove(address, &[key]);
        }
    }
}

pub(super) fn route(route: &mut Value) {
    remove(route, &["expires", "cache", "users", "age", "used"]);
    // Without a carrier or with one: the bridge's own routes follow its ports.
    if let Some(flags) = route["flags"].as_array_mut() {
        flags.retain(|flag| flag != "linkdown");
    }
}

pub(super) fn qdisc(qdisc: &mut Value) {
    // Handles are given out one after the other.
    remove(qdisc, &["handle", "refcnt"]);
}

pub(super) fn filter(filter: &mut Value) {
    for action in filter["options"]["actions"].as_array_mut().into_iter().flatten() {
        remove(action, &["index", "ref", "bind"]);
    }
}

/// Handles, counters and expiry, wherever they are in an nft object.
pub(super) fn nft(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            for key in ["handle", "index", "packets", "bytes", "expires", "used"] {
                fields.shift_remove(key);
            }
            fields.values_mut().for_each(nft);
        }
        Value::Array(items) => items.iter_mut().for_each(nft),
        _ => {}
    }
}

fn remove(object: &mut Value, keys: &[&str]) {
    if let Some(fields) = object.as_object_mut() {
        for key in keys {
            // Keeps the order of the others, which `remove` would not.
            fields.shift_remove(*key);
        }
    }
}
