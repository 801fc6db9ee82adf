//! The addresses of an attachment without a record.

use std::{cell::OnceCell, fs, net::IpAddr};

use chain::{Attachment, Call, CniResult};

use crate::{chained::own_ips, node::Node};

/// Where the reference's host-local keeps its leases, unless the configuration says otherwise.
const LEASES: &str = "/var/lib/cni/networks";

/// The addresses of an attachment, looked for when they are first asked for.
pub(crate) struct Addresses<'c> {
    attachment: &'c Attachment,
    prev_result: Option<&'c CniResult>,
    node: &'c Node,
    found: OnceCell<Vec<IpAddr>>,
}

impl<'c> Addresses<'c> {
    /// Those of the attachment that is called for.
    pub(crate) fn of(call: &Call<'c, Node>, node: &'c Node) -> Self {
        let (attachment, prev_result) = (call.attachment, call.prev_result);
        Self { attachment, prev_result, node, found: OnceCell::new() }
    }

    /// The attachment.
    pub(crate) fn attachment(&self) -> &'c Attachment {
        self.attachment
    }

    /// Those of the result; where the runtime has none, those of the interface; where that is gone, those that are leased to
    /// it. Empty: nobody knows.
    pub(super) fn get(&self) -> &[IpAddr] {
        self.found.get_or_init(|| {
            let mut found = self.of_result();
            for look in [Self::of_interface, Self::of_leases] {
                if found.is_empty() {
                    found = look(self).unwrap_or_default();
                }
            }
            // A DEL that comes late has the result of then, and an address may be leased to another container by now.
            found.retain(|address| !self.is_anothers(*address));
            found
        })
    }

    /// Whether an address is one of these, or none is known.
    pub(super) fn may_have(&self, address: Option<IpAddr>) -> bool {
        self.get().is_empty() || address.is_some_and(|address| self.get().contains(&address))
    }

    fn of_result(&self) -> Vec<IpAddr> {
        let result = self.prev_result.into_iter();
        result
            .flat_map(|result| own_ips(self.attachment, result))
            .map(|ip| ip.address.addr())
            .collect()
    }

    fn of_interface(&self) -> Option<Vec<IpAddr>> {
        let container = self.node.container_if_there(self.attachment.netns.as_deref()).ok()??;
        let net = container.net().ok()?;
        let link = net.link().get(&self.attachment.ifname).ok()??;
        let addresses = net.addr().list(link.index).ok()?;
        Some(addresses.iter().map(|address| address.net.addr()).collect())
    }

    fn is_anothers(&self, address: IpAddr) -> bool {
        let Attachment { network, container_id, .. } = self.attachment;
        let lease = fs::read_to_string(format!("{LEASES}/{network}/{address}"));
        lease.is_ok_and(|text| text.lines().next().is_some_and(|id| id.trim() != container_id))
    }

    fn of_leases(&self) -> Option<Vec<IpAddr>> {
        let Attachment { network, container_id, ifname, .. } = self.attachment;
        let owner = format!("{container_id}\r\n{ifname}");
        let files = fs::read_dir(format!("{LEASES}/{network}")).ok()?.filter_map(Result::ok);
        let leased = files.filter_map(|file| {
            let address = file.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(file.path()).ok()?;
            (text.trim() == owner).then_some(address)
        });
        Some(leased.collect())
    }
}
