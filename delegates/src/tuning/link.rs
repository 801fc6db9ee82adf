//! The settings of an interface that tuning knows.

use crate::{
    interface::Findings,
    net::{
        Mac,
        link::{Change, Link},
    },
};

/// Settings to be made or restored; what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkSettings {
    /// The hardware address.
    pub mac: Option<Mac>,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// The MTU.
    pub mtu: Option<u32>,
    /// All-multicast mode.
    pub allmulti: Option<bool>,
    /// The length of the transmit queue, in packets.
    pub tx_queue_len: Option<u32>,
}

impl LinkSettings {
    /// The requests that make them: one for each, so that a refusal names what was refused. In the reference's order.
    pub(super) fn changes(&self) -> Vec<Change> {
        let none = Change::default;
        [
            self.mac.map(|mac| Change { mac: Some(mac), ..none() }),
            self.promisc.map(|on| Change { promisc: Some(on), ..none() }),
            self.mtu.map(|mtu| Change { mtu: Some(mtu), ..none() }),
            self.allmulti.map(|on| Change { allmulti: Some(on), ..none() }),
            self.tx_queue_len.map(|length| Change { tx_queue_len: Some(length), ..none() }),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// CHECK of each. As with the reference the interface must not be promiscuous where that is not asked for.
    pub(super) fn compare(&self, link: &Link, findings: &mut Findings) {
        let name = &link.name;
        if let Some(mac) = self.mac {
            let wanted = mac.to_string();
            findings.expect(
                &format!("the hardware address of {name}"),
                wanted.as_str(),
                &link.mac_text(),
            );
        }
        let promisc = self.promisc.unwrap_or_default();
        findings.expect_on(&format!("promiscuous mode of {name}"), promisc, link.promisc);
        if let Some(mtu) = self.mtu {
            findings.expect(&format!("the MTU of {name}"), mtu, link.mtu);
        }
        if let Some(on) = self.allmulti {
            findings.expect_on(&format!("all-multicast mode of {name}"), on, link.allmulti);
        }
        if let Some(length) = self.tx_queue_len {
            findings.expect(
                &format!("the transmit queue length of {name}"),
                length,
                link.tx_queue_len,
            );
        }
    }
}
