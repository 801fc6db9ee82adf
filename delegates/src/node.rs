//! What the built-in delegates of one run share on the node.

mod container;
mod elements;
mod recorded;
mod undo;

use std::{
    cell::{OnceCell, RefCell},
    path::Path,
    rc::Rc,
};

use chain::{Attachment, Dirs, Result};
use nft_templates::{Element, Missing, Owner, Ruleset};

use crate::net::{
    Mac, Net, NetError, Netns,
    conntrack::{Conntrack, ConntrackFlush},
    link::Link,
};

pub use container::Container;
pub use elements::Elements;
pub use undo::Undo;

/// The host and the container of one run: sockets, opened when first used, and the work that is put off to be done
/// together.
#[derive(Default)]
pub struct Node {
    dirs: Dirs,
    host: OnceCell<Rc<Net>>,
    containers: RefCell<Vec<Rc<Container>>>,
    elements: Elements,
    conntrack: Vec<ConntrackFlush>,
    /// What this run has made, and the bridges that it has looked at for it.
    veths: Vec<Ends>,
    bridges: Vec<Link>,
    links: Vec<String>,
    /// What is done about devices that are not among those.
    put_off: Vec<(String, PutOff)>,
    /// Whether a delegate could not undo all that it had done.
    left_behind: bool,
}

/// A veth: the container's interface, and the host's end of it.
#[derive(Clone)]
pub(crate) struct Ends {
    pub inside: Link,
    pub outside: Link,
}

/// Something that is done when all delegates of the run are done.
type PutOff = Box<dyn FnOnce(&Node) -> Result<()>>;

/// Sockets of netfilter that are open while the run's work that was put off is done.
///
/// When one is closed the kernel waits until it has freed all that was deleted from the ruleset: for a grace period, which is what
/// deleting a device waits for as well. Kept open until the devices are gone, both waits are one.
#[derive(Default)]
struct Netfilter {
    ruleset: Option<Ruleset>,
    conntrack: Option<Conntrack>,
}

impl Node {
    /// A node without anything open.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with directories other than the default ones.
    pub fn with_dirs(dirs: Dirs) -> Self {
        Self { dirs, ..Self::default() }
    }

    /// Where the node keeps what it has to remember.
    pub fn dirs(&self) -> &Dirs {
        &self.dirs
    }

    /// The host's network configuration.
    pub fn host(&self) -> Result<Rc<Net>> {
        if let Some(net) = self.host.get() {
            return Ok(Rc::clone(net));
        }
        let net = Rc::new(Net::here("the host".to_owned())?);
        Ok(Rc::clone(self.host.get_or_init(|| net)))
    }

    /// The container at a path, which must be a network namespace other than the host's.
    pub fn container(&self, path: &Path) -> Result<Rc<Container>> {
        let known = self.containers.borrow().iter().find(|c| c.netns().path() == path).cloned();
        if let Some(container) = known {
            return Ok(container);
        }
        let netns = Netns::open(path)?;
        let container = Rc::new(Container::new(netns));
        self.containers.borrow_mut().push(Rc::clone(&container));
        Ok(container)
    }

    /// The container at a path, or `None` where it is gone: DEL has nothing to do in it then.
    pub fn container_if_there(&self, path: Option<&Path>) -> Result<Option<Rc<Container>>> {
        let Some(path) = path else { return Ok(None) };
        // What a namespace was mounted on may outlive it as a plain file.
        if let Err(NetError::NetnsGone { .. } | NetError::NotANetns { .. }) = Netns::open(path) {
            return Ok(None);
        }
        match self.container(path) {
            Ok(container) => Ok(Some(container)),
            Err(error) if error.code == chain::Code::UnknownContainer => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells the delegates that come next of a veth that was just made.
    pub(crate) fn remember(&mut self, veth: Ends) {
        self.veths.push(veth);
    }

    /// It is gone again.
    pub(crate) fn forget(&mut self, host_name: &str) {
        self.veths.retain(|veth| veth.outside.name != host_name);
    }

    /// The attachment's veth as it was made in this run, where no foreign delegate of the chain has run since: the kernel need
    /// not be asked.
    pub(crate) fn veth(&self, attachment: &Attachment) -> Option<&Ends> {
        let host_name = crate::host_veth(attachment);
        self.veths.iter().find(|veth| veth.outside.name == host_name)
    }

    /// Tells the delegates that come next of the bridge that a veth was just made a port of.
    pub(crate) fn remember_bridge(&mut self, bridge: Link) {
        self.bridges.push(bridge);
    }

    /// The device on the host, as [`Node::veth`].
    pub(crate) fn host_link(&self, index: u32) -> Result<Option<Link>> {
        match self.bridges.iter().rfind(|bridge| bridge.index == index) {
            Some(bridge) => Ok(Some(bridge.clone())),
            None => Ok(self.host()?.link().get_index(index)?),
        }
    }

    fn forget_all(&mut self) {
        self.veths.clear();
        self.bridges.clear();
    }

    /// The elements of the ruleset that are to be added and removed when the run's delegates are done, all in one
    /// transaction.
    pub fn elements(&mut self) -> &mut Elements {
        &mut self.elements
    }

    /// Has the ruleset repaired where these elements are not as they should be: a table that others took away or damaged
    /// comes back whole. Returns those that are to be added nevertheless.
    pub fn repair_ruleset(&mut self, wanted: &[(Element, Owner)]) -> Result<Vec<Missing>> {
        self.elements.repair(&self.dirs, wanted)
    }

    /// Whether another living attachment has better right to an element than its owner on record.
    pub fn is_anothers(&self, owner: &Owner, holder: &Owner) -> bool {
        recorded::is_anothers(&self.dirs, owner, holder)
    }

    /// The hardware address that living attachments know an interface of the node by.
    pub fn recorded_mac(&self, ifname: &str) -> Option<Mac> {
        recorded::mac(&self.dirs, ifname)
    }

    /// Forgets tracked connections once the elements are in place (ADD) or away (DEL).
    pub fn flush_conntrack(&mut self, flush: ConntrackFlush) {
        if !self.conntrack.contains(&flush) {
            self.conntrack.push(flush);
        }
    }

    /// Deletes a device on the host when all else of the run is done, together with all others.
    pub fn delete_link(&mut self, name: impl Into<String>) {
        let name = name.into();
        if !self.links.contains(&name) {
            self.links.push(name);
        }
    }

    /// Has something done about a device on the host when all delegates of the run are done, unless the device is deleted then:
    /// nothing of it is left in that case.
    pub fn unless_deleted(
        &mut self,
        device: impl Into<String>,
        work: impl FnOnce(&Node) -> Result<()> + 'static,
    ) {
        self.put_off.push((device.into(), Box::new(work)));
    }

    fn do_what_was_put_off(&mut self) -> Result<()> {
        let put_off = std::mem::take(&mut self.put_off);
        if put_off.is_empty() {
            return Ok(());
        }
        let _step = tracing::debug_span!("put off", count = put_off.len()).entered();
        let left = put_off.into_iter().filter(|(device, _)| !self.links.contains(device));
        let done = left.map(|(_, work)| work(self));
        chain::Error::join(done.filter_map(Result::err).collect()).map_or(Ok(()), Err)
    }

    fn forget_connections(&mut self, netfilter: &mut Netfilter) -> Result<()> {
        let flushes = std::mem::take(&mut self.conntrack);
        if flushes.is_empty() {
            return Ok(());
        }
        let _step = tracing::debug_span!("connections", ports = flushes.len()).entered();
        let Netfilter { ruleset, conntrack } = netfilter;
        let conntrack = conntrack.insert(Conntrack::host()?);
        let host = self.host()?;
        for flush in &flushes {
            // A port of one address goes before that of all addresses, which these connections never were to.
            let mut spared = |addresses: &[_]| {
                Elements::own_ports(&self.dirs, ruleset, (flush.protocol, flush.port), addresses)
            };
            conntrack.flush(flush, &host, &mut spared)?;
            tracing::debug!(?flush, "tracked connections forgotten");
        }
        Ok(())
    }
}

impl chain::Node for Node {
    /// Does what was put off, commits the elements, then forgets connections, then deletes devices. A failure of one does not keep back the
    /// others: DEL has to get as far as it can.
    fn flush(&mut self) -> Result<()> {
        let put_off = self.do_what_was_put_off();
        // A socket in the container would keep it alive while others run.
        tracing::debug_span!("leave namespaces").in_scope(|| self.containers.borrow_mut().clear());
        let mut netfilter = Netfilter::default();
        let committed = self.elements.commit(&self.dirs, &mut netfilter.ruleset);
        if let Ok(true) = committed {
            // What came meanwhile went past the ports of all attachments.
            let _step = tracing::debug_span!("ports on record").entered();
            let ports = recorded::elements(&self.dirs);
            let flushes = ports.iter().filter_map(|(element, _)| ConntrackFlush::of(element));
            flushes.for_each(|flush| self.flush_conntrack(flush));
        }
        let forgotten = match &committed {
            Ok(_) => self.forget_connections(&mut netfilter),
            Err(_) => Ok(()),
        };
        let links = std::mem::take(&mut self.links);
        let deleted = match links.as_slice() {
            [] => Ok(()),
            links => tracing::debug_span!("devices", count = links.len()).in_scope(|| {
                let host = self.host()?;
                host.link().del_together(links).map_err(chain::Error::from)
            }),
        };
        tracing::debug_span!("close sockets").in_scope(|| drop(netfilter));
        self.conntrack.clear();
        self.forget_all();
        let errors = [put_off, committed.map(drop), forgotten, deleted];
        let errors = errors.into_iter().filter_map(Result::err).collect();
        chain::Error::join(errors).map_or(Ok(()), Err)
    }

    fn discard(&mut self) {
        self.containers.borrow_mut().clear();
        self.elements = Elements::default();
        self.conntrack.clear();
        self.forget_all();
        self.links.clear();
        self.put_off.clear();
        self.left_behind = false;
    }

    fn left_behind(&self) -> bool {
        self.left_behind
    }
}

/// The owner of an attachment's elements.
pub fn owner(attachment: &Attachment) -> Owner {
    Owner::new(&attachment.network, &attachment.container_id, &attachment.ifname)
}
