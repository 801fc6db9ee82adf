//! What the Go plugins made is checked and deleted in place, where Debian's package has them.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

mod common;

use chain::CniResult;
use common::Case;
use serde_json::json;
use testnode::{Call, Node, Plugins};

#[test]
fn an_attachment_of_the_go_plugins_is_checked_and_deleted_in_place() {
    for kind in ["bridge", "ptp"] {
        let outer = Node::new();
        let c1 = outer.container("c1");
        let conf = json!({
            "cniVersion": "1.0.0", "name": "net", "type": kind, "bridge": "br0",
            "isGateway": true, "ipMasq": true, "hairpinMode": true,
            "ipam": { "type": "host-local", "subnet": "10.1.0.0/24", "routes": [{ "dst": "0.0.0.0/0" }] },
        });
        let mut call = Call::new("ADD");
        call.container_id = "c1".to_owned();
        call.ifname = "eth0".to_owned();
        call.netns = c1.path().display().to_string();
        let result = Plugins::debian(&outer).call(kind, &call, &conf.to_string()).result();
        let result: CniResult = serde_json::from_value(result).unwrap();
        let host_end = result.interfaces[result.interfaces.len() - 2].name.clone();

        let mut case = Case::new(conf, &c1);
        case.prev_result = Some(result);
        case.check().unwrap();
        case.del().unwrap();
        assert!(!c1.try_run(["ip", "link", "show", "eth0"]).is_success(), "{kind}");
        assert!(!outer.try_run(["ip", "link", "show", &host_end]).is_success(), "{kind}");
        assert!(!std::path::Path::new("/var/lib/cni/networks/net/10.1.0.2").exists(), "{kind}");
    }
}
