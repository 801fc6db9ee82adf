//! The cluster's own pod network: a node's conflist, from its part of the pods' addresses.

use std::{path::PathBuf, sync::Arc};

use chain::{ConfList, Result, Version};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::{NetConf, Outcome, conflist::MARK, folder::Folder, plugins};
use crate::meta;

/// The conflist's name. Other networks of a node may come before it; Catena's meta plugin takes it for its master.
pub const FILE: &str = "10-catena.conflist";

/// The plugin that runtimes attach each pod to its own loopback by, whatever its network is.
const LOOPBACK: &str = "loopback";

/// How a node's runtime is led to networks.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The directory that it looks for networks in.
    pub conf_dir: PathBuf,
    /// The directory that it looks for plugins in.
    pub bin_dir: PathBuf,
    /// Where host-local keeps leases, if not where the reference does.
    pub data_dir: Option<PathBuf>,
    /// The meta plugin's configuration, where that is to come before the pods' network.
    pub meta: Option<Arc<NetConf>>,
}

impl Runtime {
    /// Refuses where Catena is not among the runtime's plugins: by others of the same names pods get no such network.
    ///
    /// Errors (11): it is not installed, or no longer.
    pub fn require_catena(&self) -> Result<()> {
        plugins::require(&self.bin_dir, &[meta::KIND])
    }
}

/// What a node's pods get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork<'a> {
    /// The node's part of the pods' addresses.
    pub pod_cidrs: &'a [IpNet],
    /// What reaches the other nodes in one piece.
    pub mtu: u32,
    /// Whether what leaves the cluster leaves it under the node's address.
    pub masquerades: bool,
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
        let mut plugins = vec![
            json!({
                "type": "ptp",
                "mtu": self.mtu,
                "ipam": { "type": "host-local", "ranges": ranges, "routes": routes },
            }),
            json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
            json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
            json!({ "type": "firewall" }),
        ];
        if self.masquerades {
            plugins.push(json!({ "type": "snat", "nonMasqueradeCluster": true }));
        }
        json!({
            "cniVersion": "0.3.1",
            "cniVersions": versions,
            "name": "catena-pods",
            "writtenBy": "catena",
            "plugins": plugins,
        })
    }

    /// Writes it into a runtime's folder for networks, by one rename, where it is not there as it should be. Before it comes to be
    /// there, what is to be before it is: no pod gets this network alone.
    ///
    /// Errors: 5 where it cannot be written; 7 where somebody else's file has the name; 11 where the runtime would not find its
    /// plugins; those of [`NetConf::update`].
    pub fn write(&self, runtime: &Runtime) -> Result<Outcome> {
        let mut list = self.conflist();
        if let Some(dir) = &runtime.data_dir {
            list["plugins"][0]["ipam"]["dataDir"] = dir.to_string_lossy().into();
        }
        let text = format!("{list:#}\n");
        let list = ConfList::from_value(list)?;
        let folder = Folder::make(&runtime.conf_dir, 0o755)?;
        folder.require_own(FILE, MARK)?;
        let mut kinds = plugins::of(&list);
        kinds.extend([LOOPBACK, meta::KIND]);
        plugins::require(&runtime.bin_dir, &kinds)?;
        if !folder.prepare(FILE, &text)? {
            return Ok(Outcome::Unchanged);
        }
        if !folder.has(FILE)
            && let Some(meta) = &runtime.meta
        {
            meta.lead_to(&folder, list)?;
        }
        folder.publish(FILE)?;
        Ok(Outcome::Written)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt,
        path::Path,
    };

    use super::*;

    /// A runtime with all plugins, and networks in `dir`.
    fn runtime(dir: &Path) -> Runtime {
        let bin_dir = dir.join("bin");
        fs::create_dir_all(&bin_dir).unwrap();
        for kind in
            ["ptp", "host-local", "portmap", "bandwidth", "firewall", "snat", "loopback", "catena"]
        {
            fs::write(bin_dir.join(kind), "").unwrap();
            fs::set_permissions(bin_dir.join(kind), Permissions::from_mode(0o755)).unwrap();
        }
        Runtime { conf_dir: dir.join("net.d"), bin_dir, data_dir: None, meta: None }
    }

    fn nets(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_have_a_range_and_a_default_route() {
        let pod_cidrs = nets(&["10.1.2.0/24", "fd10:0:0:2::/64"]);
        let network = PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1450, masquerades: true };
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
        let runtime = runtime(dir.path());
        let pod_cidrs = nets(&["10.1.2.0/24"]);
        let network = PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1500, masquerades: true };
        assert_eq!(network.write(&runtime), Ok(Outcome::Written));
        assert_eq!(network.write(&runtime), Ok(Outcome::Unchanged));
        let larger = PodNetwork { mtu: 9000, ..network.clone() };
        assert_eq!(larger.write(&runtime), Ok(Outcome::Written));
        fs::write(runtime.conf_dir.join(FILE), r#"{ "name": "theirs" }"#).unwrap();
        let error = network.write(&runtime).unwrap_err();
        assert!(error.msg.contains("was written by somebody else"), "{error}");
    }

    #[test]
    fn it_is_taken_away_with_what_else_is_written_and_others_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime(dir.path());
        let pod_cidrs = nets(&["10.1.2.0/24"]);
        let network = PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1500, masquerades: true };
        network.write(&runtime).unwrap();
        super::super::remove(&runtime.conf_dir).unwrap();
        assert!(!runtime.conf_dir.join(FILE).exists());
        fs::write(runtime.conf_dir.join(FILE), r#"{ "name": "theirs" }"#).unwrap();
        super::super::remove(&runtime.conf_dir).unwrap();
        assert!(runtime.conf_dir.join(FILE).exists());
    }

    #[test]
    fn it_is_not_written_before_each_of_its_plugins_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = runtime(dir.path());
        let pod_cidrs = nets(&["10.1.2.0/24"]);
        let network = PodNetwork { pod_cidrs: &pod_cidrs, mtu: 1500, masquerades: true };
        for kind in ["ptp", "host-local", "portmap", "bandwidth", "firewall", "snat", "loopback"] {
            let plugin = runtime.bin_dir.join(kind);
            fs::set_permissions(&plugin, Permissions::from_mode(0o644)).unwrap();
            let error = network.write(&runtime).unwrap_err();
            assert!(error.msg.contains(&format!("no plugin {kind},")), "{error}");
            assert!(!runtime.conf_dir.join(FILE).exists());
            fs::set_permissions(&plugin, Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(network.write(&runtime), Ok(Outcome::Written));
    }
}
