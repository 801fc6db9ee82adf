//! What attachments share, and what therefore outlives one of them.

use serde_json::Value;

/// Objects to be left out of a comparison.
///
/// ```
/// # use testnode::Shared;
/// let shared = Shared::none().device("cni0").table("inet catena").forwarding();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Shared {
    devices: Vec<String>,
    tables: Vec<String>,
    whole_tables: Vec<String>,
    sysctls: Vec<String>,
    directories: Vec<String>,
    files: Vec<String>,
    networks: Vec<String>,
}

impl Shared {
    /// Nothing is shared.
    pub fn none() -> Self {
        Self::default()
    }

    /// A device (the bridge) with its addresses, routes and queueing disciplines.
    pub fn device(mut self, name: &str) -> Self {
        self.devices.push(name.to_owned());
        self
    }

    /// The static part of an nftables table, named as in `inet catena`: the table, its chains,
    /// rules, sets and maps. The *elements* of its sets and maps are compared all the same.
    pub fn table(mut self, name: &str) -> Self {
        self.tables.push(name.to_owned());
        self
    }

    /// An nftables table with everything in it, elements included.
    pub fn whole_table(mut self, name: &str) -> Self {
        self.whole_tables.push(name.to_owned());
        self
    }

    /// The system control `net.<key>`.
    pub fn sysctl(mut self, key: &str) -> Self {
        self.sysctls.push(key.to_owned());
        self
    }

    /// Forwarding of both families.
    pub fn forwarding(self) -> Self {
        self.sysctl("ipv4.ip_forward")
            .sysctl("ipv4.conf.all.forwarding")
            .sysctl("ipv6.conf.all.forwarding")
    }

    /// A directory and those above it, but not what's in it.
    pub fn directory(mut self, path: &str) -> Self {
        self.directories.push(path.to_owned());
        self
    }

    /// A file; a `*` at the end stands for the rest of its path.
    pub fn file(mut self, path: &str) -> Self {
        self.files.push(path.to_owned());
        self
    }

    /// What host-local keeps for a network after its last lease: the directory, the lock and the
    /// last address given out. The leases themselves are compared.
    pub fn host_local(self, network: &str) -> Self {
        let dir = format!("/var/lib/cni/networks/{network}");
        self.directory(&dir).file(&format!("{dir}/lock")).file(&format!("{dir}/last_reserved_ip.*"))
    }

    /// What Catena keeps for a network after its last attachment: the static ruleset (pods' elements, and the chains that
    /// come and go with them, are compared), forwarding, the directories of records and leases, locks, and the mark of this
    /// boot.
    pub fn catena(mut self, network: &str) -> Self {
        self.networks.push(network.to_owned());
        self.forwarding()
            .host_local(network)
            .directory(&format!("/var/lib/catena/attachments/{network}"))
            .directory("/var/lib/catena/leases")
            .directory("/var/lib/catena/dhcp/run-cni-dhcp.sock")
            .directory("/run/catena/locks")
            .directory("/run/cni/tuning")
            .file("/run/catena/boot")
            .file("/run/catena/dhcp-run-cni-dhcp.sock.lock")
            .file("/run/catena/bridges.lock")
            .file("/run/catena/nft.lock")
            .file("/run/catena/nft.seen")
    }

    /// Whether the object `name` of a listing's `section` is one of these.
    pub(super) fn has(&self, section: &str, name: &str, object: &Value) -> bool {
        match section {
            "link" | "address" | "route" | "qdisc" | "filter" => {
                let first = name.split(' ').next().unwrap_or_default();
                self.devices.iter().any(|device| device == first)
            }
            "nft" => self.has_nft(name) || (!self.networks.is_empty() && is_static(name)),
            "sysctl" => self.sysctls.iter().any(|key| key == name),
            "files" if self.networks.iter().any(|network| is_index(network, name)) => true,
            "files" if object["kind"] == "directory" => {
                self.directories.iter().any(|dir| dir == name || is_below(dir, name))
            }
            "files" => self.files.iter().any(|file| match file.strip_suffix('*') {
                Some(start) => name.starts_with(start),
                None => file == name,
            }),
            _ => false,
        }
    }

    fn has_nft(&self, name: &str) -> bool {
        let mut words = name.splitn(4, ' ');
        let (Some(family), Some(table)) = (words.next(), words.next()) else {
            return false;
        };
        let table = format!("{family} {table}");
        let is_element = words.next() == Some("element");
        self.whole_tables.contains(&table) || (!is_element && self.tables.contains(&table))
    }
}

/// Whether an nftables object of Catena is nobody's: policies (`egress_...`, `ports_...`) and elements are somebody's, but for the
/// version and the pairs of bridges.
fn is_static(name: &str) -> bool {
    let ours = ["inet catena ", "bridge catena "];
    let Some(rest) = ours.iter().find_map(|table| name.strip_prefix(table)) else {
        return false;
    };
    match rest.split(' ').collect::<Vec<_>>()[..] {
        ["element", place, ..] => matches!(place, "version" | "bridges"),
        ["chain" | "rule", place, ..] => {
            !place.starts_with("egress_") && !place.starts_with("ports_")
        }
        _ => true,
    }
}

/// Whether a path is the directory that says whose the network's leases are, `<network>@<digest>`, or the time stamp in
/// it, but none of the leases.
fn is_index(network: &str, path: &str) -> bool {
    let name = path.strip_prefix("/var/lib/catena/leases/").unwrap_or_default();
    let digest = name.strip_prefix(network).and_then(|rest| rest.strip_prefix('@'));
    digest.is_some_and(|digest| digest.ends_with("/.stamp") || !digest.contains('/'))
}

fn is_below(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}
