//! The configuration of bridge.

use chain::{Code, Error, PluginConf, Result, check_ifname};
use serde::Deserialize;

use crate::interface::{MasqBackend, check_mtu, null_is_default};

/// The configuration, as the reference plugin has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conf {
    /// The bridge's name (default "cni0"). It is created where it is missing, and never deleted.
    #[serde(default, deserialize_with = "null_is_default")]
    pub bridge: String,
    /// The bridge gets the gateway's address, and the node forwards packets.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_gateway: bool,
    /// The same, and the container's default route leads there.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_default_gateway: bool,
    /// Replaces another address that the bridge has (IPv6: an overlapping one); otherwise that is an error.
    #[serde(default, deserialize_with = "null_is_default")]
    pub force_address: bool,
    /// What leaves the container's subnets does so under the node's address.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ip_masq: bool,
    /// "iptables" or "nftables"; it is nftables always.
    #[serde(default, deserialize_with = "null_is_default")]
    pub ip_masq_backend: MasqBackend,
    /// The MTU of the veth, and of a bridge that is created, in bytes (0: the kernel's).
    #[serde(default, deserialize_with = "null_is_default")]
    pub mtu: u32,
    /// A frame may leave by the port that it came in by.
    #[serde(default, deserialize_with = "null_is_default")]
    pub hairpin_mode: bool,
    /// The bridge is promiscuous; excludes `hairpinMode`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub promisc_mode: bool,
    /// The VLAN of the port, untagged (0-4094; 0: none). Not supported yet.
    #[serde(default, deserialize_with = "null_is_default")]
    vlan: u16,
    /// The VLANs that the port carries tagged. Not supported yet.
    #[serde(default, deserialize_with = "null_is_default")]
    vlan_trunk: Vec<Vlans>,
    /// The port may send from the container's hardware address only.
    #[serde(default, rename = "macspoofchk", deserialize_with = "null_is_default")]
    pub mac_spoof_check: bool,
    /// IPv6 addresses are tried for duplicates before they are used (about a second).
    #[serde(default, rename = "enabledad", deserialize_with = "null_is_default")]
    pub enable_dad: bool,
    /// The port talks to the bridge and to ports that are not isolated only.
    #[serde(default, deserialize_with = "null_is_default")]
    pub port_isolation: bool,
    /// The container's end stays down; excludes IPAM.
    #[serde(default, deserialize_with = "null_is_default")]
    pub disable_container_interface: bool,
}

/// One VLAN, or a range of them.
#[derive(Debug, Deserialize)]
struct Vlans {
    /// A single one (1-4094).
    id: Option<u16>,
    /// The first of a range.
    #[serde(rename = "minID")]
    min_id: Option<u16>,
    /// Its last.
    #[serde(rename = "maxID")]
    max_id: Option<u16>,
}

impl Conf {
    /// Reads and checks the configuration.
    pub(super) fn of(plugin: &PluginConf) -> Result<Self> {
        let mut conf: Self = plugin.decode()?;
        if conf.bridge.is_empty() {
            "cni0".clone_into(&mut conf.bridge);
        }
        check_ifname(&conf.bridge)
            .map_err(|error| Error::config(error.msg).context("field bridge"))?;
        conf.is_gateway |= conf.is_default_gateway;
        if conf.hairpin_mode && conf.promisc_mode {
            return Err(Error::config(
                "hairpinMode and promiscMode exclude each other: leave one of them out",
            ));
        }
        if conf.disable_container_interface && plugin.ipam.is_some() {
            return Err(Error::config(
                "disableContainerInterface excludes ipam: an interface that stays down has no address",
            ));
        }
        check_mtu(conf.mtu)?;
        conf.check_vlans()?;
        Ok(conf)
    }

    fn check_vlans(&self) -> Result<()> {
        if self.vlan > 4094 {
            return Err(Error::config(format!("vlan {} is out of range: 0 to 4094", self.vlan)));
        }
        for vlans in &self.vlan_trunk {
            vlans.check()?;
        }
        let field = match (self.vlan, self.vlan_trunk.len()) {
            (0, 0) => return Ok(()),
            (0, _) => "vlanTrunk".to_owned(),
            (vlan, _) => format!("vlan {vlan}"),
        };
        Err(Error::new(
            Code::UnsupportedField,
            format!("{field}: this version of catena's bridge has no VLANs: leave the field out"),
        ))
    }

    /// The MTU, where one is asked for.
    pub(super) fn mtu(&self) -> Option<u32> {
        (self.mtu != 0).then_some(self.mtu)
    }
}

impl Vlans {
    fn check(&self) -> Result<()> {
        let valid = |id: u16| (1..=4094).contains(&id);
        let problem = match (self.id, self.min_id, self.max_id) {
            (Some(id), _, _) if !valid(id) => format!("id {id} is out of range: 1 to 4094"),
            (_, Some(min), Some(max)) if !valid(min) || !valid(max) => {
                format!("minID {min} to maxID {max} is out of range: 1 to 4094")
            }
            (_, Some(min), Some(max)) if min > max => {
                format!("minID {min} is greater than maxID {max}")
            }
            (_, Some(_), None) | (_, None, Some(_)) => "minID and maxID belong together".to_owned(),
            (None, None, None) => "an entry needs id, or minID and maxID".to_owned(),
            _ => return Ok(()),
        };
        Err(Error::config(format!("vlanTrunk: {problem}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn conf(fields: Value) -> Result<Conf> {
        let mut raw = json!({ "name": "net", "type": "bridge" });
        raw.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Conf::of(&PluginConf::from_object(raw.as_object().unwrap().clone())?)
    }

    #[test]
    fn defaults_and_null_are_the_references() {
        let defaults = conf(json!({ "bridge": null, "isGateway": null, "mtu": null })).unwrap();
        assert_eq!(defaults.bridge, "cni0");
        assert!(!defaults.is_gateway && !defaults.ip_masq && defaults.mtu().is_none());
        assert!(conf(json!({ "isDefaultGateway": true })).unwrap().is_gateway);
    }

    #[test]
    fn what_excludes_each_other_or_is_absurd_is_refused_with_its_name() {
        for (fields, code, part) in [
            (json!({ "hairpinMode": true, "promiscMode": true }), 7, "promiscMode"),
            (
                json!({ "disableContainerInterface": true, "ipam": { "type": "static" } }),
                7,
                "disableContainerInterface",
            ),
            (json!({ "bridge": "a/b" }), 7, "field bridge"),
            (json!({ "bridge": "sixteen-letters-" }), 7, "field bridge"),
            (json!({ "mtu": -1 }), 6, "mtu"),
            (json!({ "mtu": 67 }), 7, "mtu 67"),
            (json!({ "mtu": 65536 }), 7, "mtu 65536"),
            (json!({ "isGateway": "yes" }), 6, "isGateway"),
            (json!({ "ipMasqBackend": "pf" }), 6, "ipMasqBackend"),
            (json!({ "vlan": 4095 }), 7, "vlan 4095"),
            (json!({ "vlan": 7 }), 2, "vlan 7"),
            (json!({ "vlanTrunk": [{ "id": 7 }] }), 2, "vlanTrunk"),
            (json!({ "vlanTrunk": [{ "id": 0 }] }), 7, "id 0"),
            (json!({ "vlanTrunk": [{ "minID": 7 }] }), 7, "belong together"),
            (json!({ "vlanTrunk": [{ "minID": 9, "maxID": 7 }] }), 7, "greater"),
            (json!({ "vlanTrunk": [{}] }), 7, "needs id"),
        ] {
            let error = conf(fields.clone()).unwrap_err();
            assert_eq!(error.code.number(), code, "{fields}: {error}");
            assert!(error.msg.contains(part), "{fields}: {error}");
        }
    }
}
