//! What a plugin asks for.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use chain::{check_container_id, check_ifname, check_network_name};
use delegates::ipam::dhcp::gob::Value;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Map;

/// Whose a lease is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, container_id, ifname } = self;
        write!(f, "{network} {container_id}/{ifname}")
    }
}

/// The arguments of a call.
#[derive(Clone, Debug)]
pub struct Asked {
    pub key: Key,
    /// The container's namespace; empty in a DEL that is given none.
    pub netns: PathBuf,
    /// `CNI_ARGS`.
    pub args: String,
    /// `ipam` of the configuration.
    pub ipam: Map<String, serde_json::Value>,
    /// CHECK asks by the same method as ADD. It alone has a `prevResult`.
    pub is_check: bool,
}

#[derive(Deserialize)]
struct NetConf {
    #[serde(default)]
    name: String,
    #[serde(default)]
    ipam: Map<String, serde_json::Value>,
    #[serde(rename = "prevResult", default)]
    prev_result: Option<IgnoredAny>,
}

impl Asked {
    /// Reads Go's `skel.CmdArgs`.
    pub fn read(args: &Value, host_prefix: &Path) -> Result<Self, String> {
        let conf: NetConf = serde_json::from_slice(args.bytes("StdinData"))
            .map_err(|error| format!("the configuration: {error}"))?;
        let key = Key {
            network: conf.name,
            container_id: args.text("ContainerID").to_owned(),
            ifname: args.text("IfName").to_owned(),
        };
        check_network_name(&key.network)
            .and_then(|()| check_container_id(&key.container_id))
            .and_then(|()| check_ifname(&key.ifname))
            .map_err(|error| error.to_string())?;
        let netns = match args.text("Netns") {
            "" => PathBuf::new(),
            netns => {
                let mut path = OsString::from(host_prefix);
                path.push(netns);
                PathBuf::from(path)
            }
        };
        let (args, is_check) = (args.text("Args").to_owned(), conf.prev_result.is_some());
        Ok(Self { key, netns, args, ipam: conf.ipam, is_check })
    }
}
