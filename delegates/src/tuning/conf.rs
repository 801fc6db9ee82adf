//! The configuration of tuning.

use std::path::PathBuf;

use chain::{Attachment, Code, Error, PluginConf, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::link::LinkSettings;
use crate::interface::{check_mtu, null_is_default};

/// Where backups are if the configuration does not say: on tmpfs, since no container outlives a boot.
const DATA_DIR: &str = "/run/cni/tuning";

/// tuning's configuration, checked.
///
/// `args.cni` has fields of the same names, which come before the configuration's own. A hardware address may also come
/// by the capability `mac` and by `MAC` of `CNI_ARGS`: in this order after `args.cni.mac`, and before `mac`.
pub(super) struct Conf {
    /// `sysctl`, in the order written; those of `args.cni` that the configuration does not have come last.
    pub sysctls: Vec<NetSysctl>,
    /// `mac`, `promisc`, `mtu`, `allmulti`, `txQLen`.
    pub link: LinkSettings,
    /// `dataDir`: where what is changed is saved.
    pub data_dir: PathBuf,
}

/// A sysctl below `net`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetSysctl {
    /// As it is in the configuration.
    pub written: String,
    /// As it is below `/proc/sys`: "net/ipv4/conf/eth0/arp_filter".
    pub key: String,
    /// The value.
    pub value: String,
}

/// The fields that `args.cni` has as well.
#[derive(Default, Deserialize)]
struct Settings {
    #[serde(default)]
    sysctl: Option<Map<String, Value>>,
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    promisc: Option<bool>,
    #[serde(default)]
    mtu: Option<i64>,
    #[serde(default)]
    allmulti: Option<bool>,
    #[serde(rename = "txQLen", default)]
    tx_queue_len: Option<i64>,
}

/// The fields beside these.
#[derive(Deserialize)]
struct Written {
    #[serde(rename = "runtimeConfig", default, deserialize_with = "null_is_default")]
    runtime_config: HasMac,
    #[serde(default, deserialize_with = "null_is_default")]
    args: Args,
}

#[derive(Default, Deserialize)]
struct HasMac {
    #[serde(default)]
    mac: Option<String>,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default, deserialize_with = "null_is_default")]
    cni: Settings,
}

/// `dataDir`, also of a configuration that is invalid otherwise: DEL needs no more.
pub(super) fn data_dir(conf: &PluginConf) -> PathBuf {
    let written = conf.raw.get("dataDir").and_then(Value::as_str).unwrap_or_default();
    PathBuf::from(if written.is_empty() { DATA_DIR } else { written })
}

impl Conf {
    /// Reads the configuration.
    pub(super) fn of(conf: &PluginConf, attachment: &Attachment) -> Result<Self> {
        let own: Settings = conf.decode()?;
        let Written { runtime_config, args: Args { cni } } = conf.decode()?;
        let data_dir = data_dir(conf);
        if !data_dir.is_absolute() {
            return Err(Error::config(format!(
                "dataDir {:?} is not an absolute path: begin it with \"/\"",
                data_dir.display()
            )));
        }
        let given = |mac: Option<String>| mac.filter(|mac| !mac.is_empty());
        let mac = cni
            .mac
            .or(given(runtime_config.mac))
            .or(given(attachment.args.get("MAC").map(str::to_owned)))
            .or(own.mac);
        let mac = given(mac).map(|mac| mac.parse()).transpose()?;
        let mtu = number("mtu", cni.mtu.or(own.mtu))?.filter(|mtu| *mtu != 0);
        check_mtu(mtu.unwrap_or_default())?;
        let mut sysctl = own.sysctl.unwrap_or_default();
        sysctl.extend(cni.sysctl.unwrap_or_default());
        Ok(Self {
            sysctls: sysctls(&sysctl, &attachment.ifname)?,
            link: LinkSettings {
                mac,
                // Off is what the reference takes for "not asked for".
                promisc: cni.promisc.or(own.promisc).filter(|on| *on),
                mtu,
                allmulti: cni.allmulti.or(own.allmulti),
                tx_queue_len: number("txQLen", cni.tx_queue_len.or(own.tx_queue_len))?,
            },
            data_dir,
        })
    }

    /// Whether nothing is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.link == LinkSettings::default()
    }
}

fn number(field: &str, written: Option<i64>) -> Result<Option<u32>> {
    let number = written.map(u32::try_from).transpose();
    number.map_err(|_| {
        let written = written.unwrap_or_default();
        Error::config(format!("{field} {written} is out of range: 0 to {}", u32::MAX))
    })
}

fn sysctls(written: &Map<String, Value>, ifname: &str) -> Result<Vec<NetSysctl>> {
    let mut sysctls: Vec<NetSysctl> = Vec::new();
    for (written, value) in written {
        let Value::String(value) = value else {
            return Err(Error::new(
                Code::Decode,
                format!("sysctl {written} is {value}: write it as a string, \"{value}\""),
            ));
        };
        let key = key(written, ifname)?;
        if let Some(other) = sysctls.iter().find(|other| other.key == key) {
            return Err(Error::config(format!(
                "sysctl {} and {written} are the same: leave one out",
                other.written
            )));
        }
        sysctls.push(NetSysctl { written: written.clone(), key, value: value.clone() });
    }
    Ok(sysctls)
}

/// The file below `/proc/sys`. Dots are as good as slashes, and so no part is "..". The first `IFNAME` is the interface's
/// name, which may have dots of its own, but no slash.
fn key(written: &str, ifname: &str) -> Result<String> {
    let invalid = |why: &str| {
        Err(Error::config(format!(
            "sysctl {written:?} {why}; write it as \"net.ipv4.conf.IFNAME.arp_filter\""
        )))
    };
    if written.contains('\0') {
        return invalid("has a NUL byte");
    }
    let slashed = written.replace('.', "/").replacen("IFNAME", ifname, 1);
    let parts: Vec<_> = slashed.split('/').filter(|part| !part.is_empty()).collect();
    match parts[..] {
        ["net", _, ..] => Ok(parts.join("/")),
        _ => invalid("is not one of net"),
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_key_stays_below_net() {
        for (written, is) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            ("/net//core.somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0.5/arp_filter"),
            ("net/ipv6/conf/IFNAME/IFNAME", "net/ipv6/conf/eth0.5/IFNAME"),
            // Dots are slashes: there is no way up.
            ("net/../kernel/core_pattern", "net/kernel/core_pattern"),
        ] {
            assert_eq!(key(written, "eth0.5").unwrap(), is);
        }
        for wrong in
            ["", ".", "net", "net.", "kernel.core_pattern", "network.x", "../net/x/y\0", "IFNAME"]
        {
            assert!(key(wrong, "eth0").is_err(), "{wrong}");
        }
        assert!(key("IFNAME.net.x", "..").is_err(), "the door refuses this name already");
    }
}
