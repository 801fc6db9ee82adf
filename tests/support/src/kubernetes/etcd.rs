//! The store of the API server.

use serde_json::{Value, json};

use super::assets::Assets;
use super::client::Client;
use crate::exec::Background;
use crate::node::Node;

/// Where etcd answers, on the node's loopback.
pub(super) const URL: &str = "http://127.0.0.1:2379";
const PEERS: &str = "http://127.0.0.1:2380";

/// etcd with an empty store.
#[derive(Debug)]
pub(super) struct Etcd {
    process: Background,
}

impl Etcd {
    pub(super) fn start(node: &Node, assets: &Assets) -> Self {
        let data = node.dir("kubernetes/etcd").display().to_string();
        let process = node
            .cmd([assets.binary("etcd")])
            .args(["--data-dir", &data])
            .args(["--listen-client-urls", URL, "--advertise-client-urls", URL])
            .args(["--listen-peer-urls", PEERS, "--initial-advertise-peer-urls", PEERS])
            .args(["--initial-cluster", &format!("default={PEERS}")])
            .spawn(node.fresh_path("etcd.log"));
        Self { process }
    }

    pub(super) fn assert_alive(&mut self) {
        self.process.assert_alive();
    }

    /// Forgets all revisions before the present one, which it returns.
    pub(super) fn compact(&self) -> u64 {
        let address = ([127, 0, 0, 1], 2379).into();
        let client = Client::new(address, None, "");
        let call = |path: &str, body: Value| client.request("POST", path, Some(&body)).json();
        let answer = call("/v3/kv/range", json!({ "key": "AA==" }));
        // Its JSON has 64-bit numbers as strings.
        let revision = answer["header"]["revision"].as_str().and_then(|text| text.parse().ok());
        let revision: u64 = revision.unwrap_or_else(|| panic!("no revision: {answer}"));
        let body = json!({ "revision": revision.to_string(), "physical": true });
        call("/v3/kv/compaction", body);
        revision
    }
}
