//! loopback: sets up `lo` of the container.
//!
//! <https://www.cni.dev/plugins/current/main/loopback/>
//!
//! It has no configuration, and passes over `CNI_IFNAME`.

use chain::{
    Call, CniResult, Error, Plugin, Result,
    result::{Interface, IpConfig},
};

use crate::{
    net::{Net, link::Change},
    node::{Node, Undo},
};

/// The plugin.
pub struct Loopback;

const LO: &str = "lo";

impl Plugin<Node> for Loopback {
    fn kind(&self) -> &'static str {
        "loopback"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let netns = call.attachment.netns()?;
        let container = node.container(netns)?;
        let net = container.net()?;
        let lo = net.link().require(LO)?;
        let mut node = Undo::on(node);
        if !lo.up {
            set(net, true)?;
            node.push("interface lo", move |node| set(node.container(netns)?.net()?, false));
        }
        let addresses = net.addr().list(lo.index)?;
        if let Some(foreign) = addresses.iter().find(|address| !address.net.addr().is_loopback()) {
            return Err(Error::config(format!(
                "lo in {} has the address {}, which is no loopback address: remove it",
                net.place(),
                foreign.net
            )));
        }
        node.keep();
        if let Some(result) = call.prev_result {
            return Ok(result.clone());
        }
        let first = |v6: bool| {
            let address = addresses.iter().find(|address| address.net.addr().is_ipv6() == v6)?;
            Some(IpConfig { address: address.net, gateway: None, interface: Some(0) })
        };
        Ok(CniResult {
            interfaces: vec![Interface {
                name: LO.to_owned(),
                mac: "00:00:00:00:00:00".to_owned(),
                sandbox: netns.display().to_string(),
                ..Interface::default()
            }],
            ips: [first(false), first(true)].into_iter().flatten().collect(),
            ..CniResult::default()
        })
    }

    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        match node.container_if_there(call.attachment.netns.as_deref())? {
            Some(container) => set(container.net()?, false),
            None => Ok(()),
        }
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let container = node.container(call.attachment.netns()?)?;
        let net = container.net()?;
        if net.link().require(LO)?.up {
            return Ok(());
        }
        Err(Error::internal(format!("interface lo in {} is off, not on", net.place())))
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        set(node.container(call.attachment.netns()?)?.net()?, true)
    }
}

fn set(net: &Net, up: bool) -> Result<()> {
    Ok(net.link().set(LO, &Change { up: Some(up), ..Change::default() })?)
}
