//! What the built-in delegates of one run share on the node.

use std::{
    cell::{OnceCell, RefCell},
    path::Path,
    rc::Rc,
};

use chain::{Dirs, Result};
use tokio::runtime::{Builder, Runtime};

use crate::net::{Net, NetError, Netns, Sysctl, sysctl};

/// The host and the container of one run: sockets, opened when first used, and the work that is put off to be done
/// together.
#[derive(Default)]
pub struct Node {
    dirs: Dirs,
    runtime: OnceCell<Rc<Runtime>>,
    host: OnceCell<Rc<Net>>,
    containers: RefCell<Vec<Rc<Container>>>,
    links: Vec<String>,
}

/// A container's namespace, held open for the run, and a socket in it.
pub struct Container {
    netns: Netns,
    net: Net,
}

impl Container {
    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its network configuration.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Writes sysctls in it, all in one visit.
    pub fn write(&self, sysctls: &[Sysctl]) -> Result<()> {
        Ok(sysctl::write_in(&self.netns, sysctls)?)
    }
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
        let net = Rc::new(Net::host(&self.runtime()?)?);
        Ok(Rc::clone(self.host.get_or_init(|| net)))
    }

    /// The container at a path, which must be a network namespace other than the host's.
    pub fn container(&self, path: &Path) -> Result<Rc<Container>> {
        let known = self.containers.borrow().iter().find(|c| c.netns.path() == path).cloned();
        if let Some(container) = known {
            return Ok(container);
        }
        let netns = Netns::open(path)?;
        let net = Net::container(&self.runtime()?, &netns)?;
        let container = Rc::new(Container { netns, net });
        self.containers.borrow_mut().push(Rc::clone(&container));
        Ok(container)
    }

    /// The container at a path, or `None` where it is gone: DEL has nothing to do in it then.
    pub fn container_if_there(&self, path: Option<&Path>) -> Result<Option<Rc<Container>>> {
        let Some(path) = path else { return Ok(None) };
        match self.container(path) {
            Ok(container) => Ok(Some(container)),
            Err(error) if error.code == chain::Code::UnknownContainer => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a device on the host when the run's other work is done, together with all others.
    pub fn delete_link(&mut self, name: impl Into<String>) {
        let name = name.into();
        if !self.links.contains(&name) {
            self.links.push(name);
        }
    }

    fn runtime(&self) -> Result<Rc<Runtime>> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(Rc::clone(runtime));
        }
        let runtime =
            Builder::new_current_thread().enable_all().build().map_err(NetError::Runtime)?;
        Ok(Rc::clone(self.runtime.get_or_init(|| Rc::new(runtime))))
    }
}

impl chain::Node for Node {
    fn flush(&mut self) -> Result<()> {
        // A socket in the container would keep it alive while others run.
        self.containers.borrow_mut().clear();
        let links = std::mem::take(&mut self.links);
        if !links.is_empty() {
            self.host()?.link().del_together(&links)?;
        }
        Ok(())
    }

    fn discard(&mut self) {
        self.containers.borrow_mut().clear();
        self.links.clear();
    }
}
