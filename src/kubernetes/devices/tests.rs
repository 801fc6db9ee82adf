mod assignment;
mod information;
mod kubelet;

use serde_json::{Map, json};
use tempfile::TempDir;
use testnode::{PodDevices, PodResources, Says};

use super::*;
use crate::kubernetes::networks::Role;

/// A node's devices in a folder of the test's own.
struct Place {
    folder: TempDir,
    devices: Devices,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let devices = Devices {
            pod_resources: at("kubelet.sock"),
            checkpoint: at("kubelet_internal_checkpoint"),
            devinfo: at("devinfo"),
            // Of a kubelet that answers: nothing waits as long as that.
            patience: Duration::from_secs(10),
        };
        Self { folder, devices }
    }

    fn kubelet(&self, says: Says) -> PodResources {
        PodResources::start(&self.devices.pod_resources, says)
    }

    fn write_checkpoint(&self, text: impl ToString) {
        std::fs::write(&self.devices.checkpoint, text.to_string()).unwrap();
    }

    /// Assigns to networks of these resources, and says which devices they got.
    fn assign(&self, resources: &[Option<&str>]) -> Result<Vec<Option<String>>> {
        let mut networks: Vec<_> = resources.iter().map(|resource| network(*resource)).collect();
        self.devices.assign(&mut networks, &pod(), &[])?;
        Ok(networks.into_iter().map(|network| network.device_id).collect())
    }
}

fn pod() -> Pod {
    Pod {
        namespace: "blue".into(),
        name: "web".into(),
        uid: "6f1c8a52-0d4b-4e8e-9d43-2f8f7c6d1a11".into(),
        annotations: BTreeMap::new(),
    }
}

fn network(resource: Option<&str>) -> Network {
    let list = json!({ "cniVersion": "1.0.0", "name": "fast", "plugins": [
        { "type": "sriov", "capabilities": { "deviceID": true, "CNIDeviceInfoFile": true } },
        { "type": "tuning" },
    ]});
    Network {
        name: "blue/fast".into(),
        role: Role::Selected,
        list: ConfList::from_value(list).unwrap(),
        ifname: "net1".into(),
        capability_args: Map::new(),
        args: chain::CniArgs::default(),
        default_routes: Default::default(),
        asked: None,
        resource: resource.map(str::to_owned),
        device_id: None,
    }
}

fn got(ids: &[&str]) -> Vec<Option<String>> {
    ids.iter().map(|id| Some((*id).to_owned())).collect()
}
