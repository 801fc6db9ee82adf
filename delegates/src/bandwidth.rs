//! The plugin `bandwidth`: limits how fast a container receives and sends, by token buckets.
//!
//! What the container receives is shaped where it leaves the host's end of its veth. What it sends comes in there, and
//! only what leaves can be queued: it is taken out by an ifb of its own and shaped on that.

mod config;
mod shape;

use chain::{
    Attachment, Call, CniResult, Error, History, Plugin, Result, Version, result::Interface,
};
use data_encoding::HEXLOWER;
use nix::errno::Errno;
use sha2::{Digest, Sha512};

use self::{
    config::{Config, EgressAt, Limit},
    shape::{bucket, reference_bucket},
};
use crate::{
    Node, Undo,
    chained::prev_result,
    interface::Findings,
    net::{
        Net, NetError,
        link::{Change, Ifb, Link},
        tc::Tbf,
    },
    node::Ends,
};

/// `"type": "bandwidth"`.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth;

impl Plugin<Node> for Bandwidth {
    fn kind(&self) -> &'static str {
        "bandwidth"
    }

    fn oldest_version(&self) -> Version {
        Version::V0_3_0
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let config = Config::read(call.conf)?;
        let prev_result = prev_result(call)?;
        if config.is_unlimited() {
            return Ok(prev_result.clone());
        }
        let mut result = prev_result.clone();
        let ends = ends(call.attachment, node)?;
        let host = node.host()?;
        let mut undo = Undo::on(node);
        if let Some(limit) = config.ingress {
            let tbf = chosen(limit, &config, &ends, "ingress");
            let _step = tracing::debug_span!("qdiscs", of = "ingress").entered();
            host.tc().tbf_add(&ends.outside, &tbf)?;
            let dev = ends.outside.clone();
            undo.push("shaping of what the container receives", move |node| {
                node.host()?.tc().root_del(&dev)?;
                Ok(())
            });
        }
        if let Some(limit) = config.egress {
            let tbf = chosen(limit, &config, &ends, "egress");
            let _step = tracing::debug_span!("qdiscs", of = "egress").entered();
            match config.egress_at {
                EgressAt::Container => shape_inside(call.attachment, &ends, &tbf, &mut undo)?,
                EgressAt::Host => {
                    let ifb = shape_by_ifb(call.attachment, &ends, &tbf, &mut undo)?;
                    result.interfaces.push(Interface {
                        mac: ifb.mac_text(),
                        name: ifb.name,
                        ..Interface::default()
                    });
                }
            }
        }
        undo.keep();
        Ok(result)
    }

    /// The ifb goes together with the container's veth. The rest dies with the veth; where this plugin is undone alone,
    /// it is taken away.
    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        // What cannot be read any more may have been anything.
        let config = Config::read(call.conf).ok();
        let known = config.filter(|_| call.history == History::Added);
        if known.as_ref().is_some_and(Config::is_unlimited) {
            return Ok(());
        }
        let attachment = call.attachment;
        let at_host =
            |config: &Config| config.egress.is_some() && config.egress_at == EgressAt::Host;
        if known.as_ref().is_none_or(at_host) {
            node.delete_link(crate::ifb(attachment));
        }
        if call.history == History::Unknown {
            node.delete_link(reference_ifb(attachment));
        }
        // The veth's own shaping goes with it.
        let unshaped = attachment.clone();
        node.unless_deleted(crate::host_veth(attachment), move |node| {
            unshape(&unshaped, known.as_ref(), node)
        });
        Ok(())
    }

    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let config = Config::read(call.conf)?;
        if config.is_unlimited() {
            return Ok(());
        }
        let ends = ends(call.attachment, node)?;
        let host = node.host()?;
        let mut findings = Findings::default();
        if let Some(limit) = config.ingress {
            let tbf = wrong_tbf(&host, &ends.outside, limit, &config, &ends)?;
            tbf.into_iter().for_each(|wrong| findings.add(format!("ingress: {wrong}")));
        }
        if let Some(limit) = config.egress {
            let wrong = match config.egress_at {
                EgressAt::Host => wrong_at_host(call.attachment, limit, &config, &ends, &host)?,
                EgressAt::Container => {
                    let container = node.container(call.attachment.netns()?)?;
                    wrong_tbf(container.net()?, &ends.inside, limit, &config, &ends)?
                        .into_iter()
                        .collect()
                }
            };
            wrong.into_iter().for_each(|wrong| findings.add(format!("egress: {wrong}")));
        }
        findings.verdict()
    }

    fn repair(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let config = Config::read(call.conf)?;
        if config.is_unlimited() {
            return Ok(());
        }
        let ends = ends(call.attachment, node)?;
        let host = node.host()?;
        if let Some(limit) = config.ingress {
            repair_tbf(&host, &ends.outside, limit, &config, &ends, "ingress")?;
        }
        let Some(limit) = config.egress else { return Ok(()) };
        match config.egress_at {
            EgressAt::Host => repair_ifb(call.attachment, limit, &config, &ends, &host),
            EgressAt::Container => {
                let container = node.container(call.attachment.netns()?)?;
                repair_tbf(container.net()?, &ends.inside, limit, &config, &ends, "egress")
            }
        }
    }
}

/// The veth that `CNI_IFNAME` is an end of. Which is its other end the kernel says, not `prevResult`: weave-net's lists no
/// interfaces, and calico's has the host's end as if it was in the container.
fn ends(attachment: &Attachment, node: &Node) -> Result<Ends> {
    if let Some(made) = node.veth(attachment) {
        return Ok(made.clone());
    }
    let container = node.container(attachment.netns()?)?;
    let inside = container.net()?.link().require(&attachment.ifname)?;
    let ifname = &attachment.ifname;
    if inside.kind != "veth" {
        let kind = if inside.kind.is_empty() { "no virtual device" } else { &inside.kind };
        return Err(Error::config(format!(
            "bandwidth shapes the host's end of a veth, and {ifname} is {kind}: use it after bridge or ptp"
        )));
    }
    match node.host()?.link().other_end(&inside, container.netns())? {
        Some(outside) => Ok(Ends { inside, outside }),
        None => Err(Error::internal(format!(
            "bandwidth: the other end of {ifname} is not on the host: was it moved or deleted by someone else?"
        ))),
    }
}

fn chosen(limit: Limit, config: &Config, ends: &Ends, direction: &str) -> Tbf {
    let tbf = bucket(limit, config.latency, ends.outside.mtu);
    if let Some(asked) = limit.burst_bits.map(|bits| bits / 8)
        && asked != u64::from(tbf.burst_bytes)
    {
        tracing::warn!(
            direction,
            rate_bits = limit.rate_bits,
            asked_bytes = asked,
            burst_bytes = tbf.burst_bytes,
            "the burst does not suit the rate: it must be two frames and a millisecond at least, and longer than a \
             second it is no burst"
        );
    }
    tbf
}

fn shape_inside(
    attachment: &Attachment,
    ends: &Ends,
    tbf: &Tbf,
    undo: &mut Undo<'_, '_>,
) -> Result<()> {
    let netns = attachment.netns()?.to_owned();
    undo.container(&netns)?.net()?.tc().tbf_add(&ends.inside, tbf)?;
    let dev = ends.inside.clone();
    undo.push("shaping of what the container sends", move |node| {
        node.container(&netns)?.net()?.tc().root_del(&dev)?;
        Ok(())
    });
    Ok(())
}

fn shape_by_ifb(
    attachment: &Attachment,
    ends: &Ends,
    tbf: &Tbf,
    undo: &mut Undo<'_, '_>,
) -> Result<Link> {
    let host = undo.host()?;
    let name = crate::ifb(attachment);
    let made = name.clone();
    // Before: where the connection to the kernel is lost, nobody knows whether it was made.
    undo.push("the ifb", move |node| {
        node.host()?.link().del(&made)?;
        Ok(())
    });
    let ifb = add_ifb(&host, &name, ends.outside.mtu)?;
    host.link().set_up_without_ipv6(&name, &Change::default())?;
    host.tc().tbf_add(&ifb, tbf)?;
    host.tc().ingress_add(&ends.outside).map_err(|error| not_alone(error, &ends.outside))?;
    let dev = ends.outside.clone();
    undo.push("the redirection to the ifb", move |node| {
        node.host()?.tc().ingress_del(&dev)?;
        Ok(())
    });
    host.tc().redirect_add(&ends.outside, &ifb)?;
    Ok(ifb)
}

/// What comes in by an interface has one place to be looked at, and others may have taken it.
fn not_alone(error: NetError, dev: &Link) -> Error {
    if error.errno() != Some(Errno::EEXIST) {
        return error.into();
    }
    Error::internal(format!(
        "{error}; what comes in by {} is looked at by other software already (Cilium does that): shape what the container \
         sends on its own interface, by \"egressAt\": \"container\"",
        dev.name
    ))
}

/// A device of this name can only be what an ADD of this attachment left when it was killed. It is down yet.
fn add_ifb(host: &Net, name: &str, mtu: u32) -> Result<Link, NetError> {
    let ifb = Ifb { name, mtu: Some(mtu) };
    match host.link().add(&ifb) {
        Err(error) if error.errno() == Some(Errno::EEXIST) => {
            tracing::info!(name, "an ifb left by an unfinished ADD is replaced");
            host.link().del(name)?;
            host.link().add(&ifb)
        }
        added => added,
    }
}

/// Takes the qdiscs off the veth's ends that are still there.
fn unshape(attachment: &Attachment, known: Option<&Config>, node: &Node) -> Result<()> {
    let host = node.host()?;
    let mut outside = host.link().get(&crate::host_veth(attachment))?;
    let container = node.container_if_there(attachment.netns.as_deref());
    let inside = match &container {
        Ok(Some(container)) => container.net()?.link().get(&attachment.ifname)?,
        // Without the namespace the veth is gone, too.
        _ => None,
    };
    if let (None, Ok(Some(container)), Some(inside)) = (&outside, &container, &inside) {
        outside = host.link().other_end(inside, container.netns())?;
    }
    if let Some(dev) = outside {
        // On a device of another's naming only what is plainly this plugin's.
        let ours = dev.name == crate::host_veth(attachment);
        let (ingress, egress) = known
            .map_or((true, true), |config| (config.ingress.is_some(), config.egress.is_some()));
        if ingress && (ours || host.tc().tbf(&dev)?.is_some()) {
            host.tc().root_del(&dev)?;
        }
        if egress && (ours || host.tc().redirect(&dev)?.is_some()) {
            host.tc().ingress_del(&dev)?;
        }
    }
    let in_container = known
        .is_some_and(|config| config.egress.is_some() && config.egress_at == EgressAt::Container);
    if let (true, Ok(Some(container)), Some(dev)) = (in_container, &container, inside) {
        container.net()?.tc().root_del(&dev)?;
    }
    Ok(())
}

/// What is wrong with the way by which a container's packets are shaped on the host.
fn wrong_at_host(
    attachment: &Attachment,
    limit: Limit,
    config: &Config,
    ends: &Ends,
    host: &Net,
) -> Result<Vec<String>> {
    let own = crate::ifb(attachment);
    let ifb = match host.link().get(&own)? {
        None => host.link().get(&reference_ifb(attachment))?,
        ifb => ifb,
    };
    let Some(ifb) = ifb else { return Ok(vec![format!("its ifb {own} does not exist")]) };
    let mut wrong = Vec::new();
    if host.tc().redirect(&ends.outside)? != Some(ifb.index) {
        wrong.push(format!(
            "what comes in by {} is not redirected to {} (u32 and mirred at ffff:)",
            ends.outside.name, ifb.name
        ));
    }
    if !ifb.up {
        wrong.push(format!("its ifb {} is down", ifb.name));
    }
    wrong.extend(wrong_tbf(host, &ifb, limit, config, ends)?);
    Ok(wrong)
}

/// What is wrong with a device's token bucket.
fn wrong_tbf(
    net: &Net,
    dev: &Link,
    limit: Limit,
    config: &Config,
    ends: &Ends,
) -> Result<Option<String>> {
    let wanted = bucket(limit, config.latency, ends.outside.mtu);
    let Some(found) = net.tc().tbf(dev)? else {
        return Ok(Some(format!("{} has no tbf as its root qdisc", dev.name)));
    };
    // An attachment that the reference plugin made is as that one makes it.
    let as_wanted = |wanted: &Tbf| found.is_about(wanted);
    if as_wanted(&wanted) || reference_bucket(limit).as_ref().is_some_and(as_wanted) {
        return Ok(None);
    }
    Ok(Some(format!("{} is shaped to {found}, not {wanted}", dev.name)))
}

/// Replaces a device's root qdisc where it is not the token bucket.
fn repair_tbf(
    net: &Net,
    dev: &Link,
    limit: Limit,
    config: &Config,
    ends: &Ends,
    direction: &str,
) -> Result<()> {
    if wrong_tbf(net, dev, limit, config, ends)?.is_some() {
        net.tc().root_del(dev)?;
        net.tc().tbf_add(dev, &chosen(limit, config, ends, direction))?;
    }
    Ok(())
}

/// Puts back the ifb, its bucket, and the redirection to it.
fn repair_ifb(
    attachment: &Attachment,
    limit: Limit,
    config: &Config,
    ends: &Ends,
    host: &Net,
) -> Result<()> {
    let name = crate::ifb(attachment);
    if host.link().get(&name)?.is_none() {
        add_ifb(host, &name, ends.outside.mtu)?;
    }
    host.link().set_up_without_ipv6(&name, &Change::default())?;
    let ifb = host.link().require(&name)?;
    repair_tbf(host, &ifb, limit, config, ends, "egress")?;
    if host.tc().redirect(&ends.outside)? != Some(ifb.index) {
        host.tc().ingress_del(&ends.outside)?;
        host.tc().ingress_add(&ends.outside)?;
        host.tc().redirect_add(&ends.outside, &ifb)?;
    }
    Ok(())
}

/// The name of the reference plugin's ifb.
fn reference_ifb(attachment: &Attachment) -> String {
    let digest = Sha512::digest(format!("{}{}", attachment.network, attachment.container_id));
    format!("bwp{}", HEXLOWER.encode(&digest[..6]))
}
