//! The cluster's own pod network: a node's conflist, from its part of the pods' addresses.

use std::path::Path;

use chain::{Result, Version};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{Outcome, conflist::MARK, folder::Folder};

/// The conflist's name. Other networks of a node may come before it; Catena's meta plugin takes it for its master.
pub const FILE: &str = "10-catena.conflist";

/// What a node's pods get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork<'a> {
    /// The node's part of the pods' addresses.
    pub pod_cidrs: &'a [IpNet],
    /// What reaches the other nodes in one piece.
    pub mtu: u32,
    /// The cluster's addresses: what goes there keeps the pod's address.
    pub cluster_cidrs: &'a [IpNet],
}

impl PodNetwork<'_> {
    /// Each pod has a link of its own to the node, which routes: so a Service's packets pass the node's IP hooks on their way
    /// to a pod of the same node, too, whatever br_netfilter is set to.
    fn conflist(&self) -> Value {
        let ranges: Vec<_> =
            self.pod_cidrs.iter().map(|net| json!([{ "subnet": net.trunc() }])).collect();
        let default = |net: &IpNet| if net.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let mut routes: Vec<_> = self.pod_cidrs.iter().map(default).collect();
        routes.dedup();
        let routes: Vec<_> = routes.iter().map(|dst| json!({ "dst": dst })).collect();
        // What every runtime since 2018 speaks, and all that is newer.
        let versions: Vec<_> = Version::ALL
            .into_iter()
            .filter(|version| *version >= Version::V0_3_1)
            .map(|version| version.as_str())
            .collect();
        json!({
            "cniVersion": "0.3.1",
            "cniVersions": versions,
            "name": "catena-pods",
            "writtenBy": "catena",
            "plugins": [
                {
                    "type": "ptp",
                    "mtu": self.mtu,
                    "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
                { "type": "firewall" },
                { "type": "snat", "nonMasqueradeCIDRs": self.cluster_cidrs },
            ],
        })
    }

    /// Writes it into a runtime's folder for networks, by one rename, where it is not there as it should be.
    ///
    /// Errors: 5 where it cannot be written; 7 where somebody else's file has the name.
    pub fn write(&self, conf_dir: &Path) -> Result<Outcome> {
        let text = format!("{:#}\n", self.conflist());
        let folder = Folder::make(conf_dir, 0o755)?;
        folder.require_own(FILE, MARK)?;
        Ok(if folder.put(FILE, &text)? { Outcome::Written } else { Outcome::Unchanged })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use chain::ConfList;

    use super::*;

    fn nets(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_have_a_range_and_a_default_route() {
        let pod_cidrs = nets(&["10.1.2.0/24", "fd10:0:0:2::/64"]);
        let cluster_cidrs = nets(&["10.1.0.0/16", "fd10::/48"]);
        let network =
            PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1450, cluster_cidrs: &cluster_cidrs };
        let list = network.conflist();
        let ipam = &list["plugins"][0]["ipam"];
        assert_eq!(
            ipam["ranges"],
            json!([[{ "subnet": "10.1.2.0/24" }], [{ "subnet": "fd10:0:0:2::/64" }]])
        );
        assert_eq!(ipam["routes"], json!([{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]));
        assert_eq!(list["plugins"][0]["mtu"], 1450);
        ConfList::from_value(list).unwrap();
    }

    #[test]
    fn only_its_own_file_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let pod_cidrs = nets(&["10.1.2.0/24"]);
        let network = PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1500, cluster_cidrs: &[] };
        assert_eq!(network.write(dir.path()), Ok(Outcome::Written));
        assert_eq!(network.write(dir.path()), Ok(Outcome::Unchanged));
        let larger = PodNetwork { mtu: 9000, ..network.clone() };
        assert_eq!(larger.write(dir.path()), Ok(Outcome::Written));
        std::fs::write(dir.path().join(FILE), r#"{ "name": "theirs" }"#).unwrap();
        let error = network.write(dir.path()).unwrap_err();
        assert!(error.msg.contains("was written by somebody else"), "{error}");
    }

    #[test]
    fn it_is_taken_away_with_what_else_is_written_and_others_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pod_cidrs = nets(&["10.1.2.0/24"]);
        let network = PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1500, cluster_cidrs: &[] };
        network.write(dir.path()).unwrap();
        super::super::remove(dir.path()).unwrap();
        assert!(!dir.path().join(FILE).exists());
        std::fs::write(dir.path().join(FILE), r#"{ "name": "theirs" }"#).unwrap();
        super::super::remove(dir.path()).unwrap();
        assert!(dir.path().join(FILE).exists());
    }
}
