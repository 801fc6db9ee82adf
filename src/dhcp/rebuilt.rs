//! A record that was damaged, made anew from that of the attachment's chain. What is lost is the lease itself: the server knows the
//! container, and gives it again when it is asked.

use chain::{Dirs, Result, result::IpConfig};
use serde_json::Value;

use super::{call::Key, record::Record};

/// A record for a damaged one; `None` where there is nothing to make it from, as the log says.
pub fn record(key: &Key, dirs: &Dirs) -> Option<Record> {
    match find(key, dirs) {
        Ok(Found::Record(record)) => {
            tracing::warn!(
                "{key}: the record of its lease was damaged, and is made anew: a server is asked for the lease again"
            );
            return Some(*record);
        }
        Ok(Found::Gone) => {}
        Ok(Found::Nothing) => tracing::error!(
            "{key}: the record of its lease was damaged, and no plugin of Catena's has another one: the lease ends in its time, \
             unless a CHECK takes it up again; else have the container made anew"
        ),
        Err(error) => {
            tracing::error!("{key}: the record of its lease was damaged, and is lost: {error}");
        }
    }
    None
}

/// What is known of an attachment beside its record.
enum Found {
    /// It lives, and this is its new record.
    Record(Box<Record>),
    /// It was the last boot's, or its container is gone.
    Gone,
    /// No plugin of Catena's has made it.
    Nothing,
}

/// What the records of chains know of an attachment.
fn find(key: &Key, dirs: &Dirs) -> Result<Found> {
    let boot = dirs.boot()?;
    let Key { network, container_id, ifname } = key;
    let chains = chain::Records::open(dirs).find(network, container_id, ifname)?;
    let mut alive = chains.iter().filter(|one| one.complete && one.namespace_lives(&boot));
    Ok(match alive.find_map(|chain| of(chain, key, &boot)) {
        Some(record) => Found::Record(Box::new(record)),
        None if chains.is_empty() => Found::Nothing,
        None => Found::Gone,
    })
}

fn of(chain: &chain::Record, key: &Key, boot: &str) -> Option<Record> {
    let ipam = |conf: &serde_json::Map<String, Value>| {
        let ipam = conf.get("ipam").and_then(Value::as_object);
        ipam.filter(|ipam| ipam.get("type").is_some_and(|kind| kind == "dhcp")).cloned()
    };
    let ipam = chain.delegates.iter().find_map(|delegate| ipam(&delegate.conf))?;
    let netns = chain.netns.clone()?;
    let mut record = Record::new(key.clone(), netns, chain.netns_id?, boot.to_owned());
    record.args.clone_from(&chain.args);
    record.ipam = ipam;
    record.begins = false;
    if let Some(result) = &chain.result {
        let is_own = |ip: &&IpConfig| {
            let interface = ip.interface.and_then(|index| result.interfaces.get(index));
            interface.is_none_or(|interface| interface.name == key.ifname)
        };
        record.before = result.ips.iter().filter(is_own).map(|ip| ip.address).collect();
    }
    Some(record)
}
