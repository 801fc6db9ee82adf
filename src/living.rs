//! The attachments that Catena made and that live.

use std::collections::BTreeSet;

use chain::{Dirs, Records, Result};

/// All on record whose namespace is there, each as `network container-id/ifname`.
///
/// Errors (5): the records cannot be read.
pub fn living(dirs: &Dirs) -> Result<BTreeSet<String>> {
    let records = Records::open(dirs);
    let networks = records.networks()?;
    if networks.is_empty() {
        return Ok(BTreeSet::new());
    }
    let boot = dirs.boot()?;
    let mut living = BTreeSet::new();
    for network in networks {
        let records = records.list(&network)?.into_iter();
        living.extend(
            records
                .filter(|record| record.namespace_lives(&boot))
                .map(|record| format!("{network} {}/{}", record.container_id, record.ifname)),
        );
    }
    Ok(living)
}
