//! The addresses of the cluster that the node belongs to, in its rules: a policy of the cluster's network (`snat` with
//! `nonMasqueradeCluster`) leaves them alone, `portmap` takes no Service's, and `firewall` lets nodes and their pods through.
//!
//! They are on record as well, so that a table that others took away has them again with the first ADD, whoever is there to
//! say them.

use chain::{
    Dirs, Error, Result,
    files::{self, Found},
};

use crate::node::Elements;

pub use nft_templates::{Cluster, OtherVersion};

/// The record's name in the directory of what outlives a boot.
const FILE: &str = "cluster.json";

/// Has the node's rules know these addresses, whichever they knew before. Whether anything had to be changed for it.
///
/// Errors: those of the ruleset.
pub fn keep(dirs: &Dirs, cluster: &Cluster, other: OtherVersion) -> Result<bool> {
    Elements::keep_cluster(dirs, cluster, other)
}

/// Puts these addresses on record, whatever has the record's name.
///
/// Errors (5): they cannot be written.
pub fn record(dirs: &Dirs, cluster: &Cluster) -> Result<()> {
    let path = dirs.state.join(FILE);
    match files::read(&path) {
        Ok(Found::Content(text))
            if serde_json::from_slice::<Cluster>(&text).is_ok_and(|known| known == *cluster) =>
        {
            return Ok(());
        }
        Ok(Found::NoFile(why)) => files::set_aside(&path, why),
        Ok(Found::Content(_) | Found::Nothing) | Err(_) => {}
    }
    let text = serde_json::to_vec(cluster)
        .map_err(|error| Error::internal(format!("the cluster's addresses: {error}")))?;
    files::write(&path, &text).map(drop)
}

/// Takes them off the record.
///
/// Errors (5): the record cannot be removed.
pub fn forget(dirs: &Dirs) -> Result<()> {
    let path = dirs.state.join(FILE);
    files::remove_file(&files::draft(&path))?;
    files::remove_file(&path)
}

/// Those on record; none where nobody has said any, or the record is damaged: it is written again.
pub fn recorded(dirs: &Dirs) -> Cluster {
    let path = dirs.state.join(FILE);
    match files::read(&path) {
        Ok(Found::Content(text)) => serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; it is passed over", path.display());
            Cluster::default()
        }),
        Ok(Found::Nothing | Found::NoFile(_)) => Cluster::default(),
        Err(error) => {
            tracing::warn!("{}: {error}; it is passed over", path.display());
            Cluster::default()
        }
    }
}
