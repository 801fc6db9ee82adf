//! The networks that are measured, as all peers can serve them.

use serde_json::{Value, json};
use testnode::Attachment;

/// A network's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// bridge, host-local, a tcp and a udp port, rates both ways, masquerade.
    Full,
    /// bridge and host-local.
    Bridge,
    /// ptp and host-local.
    Ptp,
    Loopback,
}

impl Kind {
    /// Its chain.
    pub fn chain(self) -> Value {
        let ipam = |subnet: &str| {
            let routes = json!([{ "dst": "0.0.0.0/0" }]);
            json!({ "type": "host-local", "ranges": [[{ "subnet": subnet }]], "routes": routes })
        };
        match self {
            Self::Full => json!([
                { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": ipam("10.1.0.0/16") },
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
            ]),
            Self::Bridge => json!([
                { "type": "bridge", "bridge": "cni1", "isGateway": true, "ipam": ipam("10.2.0.0/16") },
            ]),
            Self::Ptp => json!([{ "type": "ptp", "ipam": ipam("10.3.0.0/16") }]),
            Self::Loopback => json!([{ "type": "loopback" }]),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Bridge => "bridge",
            Self::Ptp => "ptp",
            Self::Loopback => "lo",
        }
    }

    /// Its conflist, each plugin executed by the runtime.
    pub fn conflist(self) -> Value {
        json!({ "cniVersion": "1.0.0", "name": self.name(), "plugins": self.chain() })
    }

    /// The same behind the meta plugin.
    pub fn in_one(self) -> Value {
        let capabilities = json!({ "portMappings": true, "bandwidth": true });
        let meta =
            json!({ "type": "catena", "capabilities": capabilities, "plugins": self.chain() });
        json!({ "cniVersion": "1.0.0", "name": self.name(), "plugins": [meta] })
    }

    /// What a runtime offers with a container's attachment to it; no two containers with other numbers have the same ports.
    pub fn offer(self, attachment: Attachment, number: u16) -> Attachment {
        match self {
            Self::Loopback => attachment.ifname("lo"),
            Self::Full => attachment
                .capability(
                    "portMappings",
                    json!([
                        { "hostPort": 20_000 + 2 * number, "containerPort": 80, "protocol": "tcp" },
                        { "hostPort": 20_001 + 2 * number, "containerPort": 53, "protocol": "udp" },
                    ]),
                )
                .capability("bandwidth", rates(100_000_000)),
            _ => attachment,
        }
    }
}

/// The same rate both ways, in bits per second, and a tenth of a second's worth as burst.
pub fn rates(rate: u64) -> Value {
    let burst = (rate / 10).max(400_000);
    json!({ "ingressRate": rate, "ingressBurst": burst, "egressRate": rate, "egressBurst": burst })
}
