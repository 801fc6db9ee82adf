//! A container as the delegates of one run see it.

use std::cell::OnceCell;

use chain::Result;

use crate::net::{Net, Netns, Sysctl, sysctl};

/// A container's namespace, held open for the run, and a socket in it, opened when first used.
pub struct Container {
    netns: Netns,
    net: OnceCell<Net>,
}

impl Container {
    /// The one in a namespace.
    pub(super) fn new(netns: Netns) -> Self {
        Self { netns, net: OnceCell::new() }
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its network configuration.
    pub fn net(&self) -> Result<&Net> {
        if let Some(net) = self.net.get() {
            return Ok(net);
        }
        let _step = tracing::debug_span!("enter namespace").entered();
        let net = self.visit(|| ())?.1;
        Ok(self.net.get_or_init(|| net))
    }

    /// Writes sysctls in it, all in one visit.
    pub fn write(&self, sysctls: &[Sysctl]) -> Result<()> {
        let _step = tracing::debug_span!("sysctls", count = sysctls.len()).entered();
        if self.net.get().is_some() || sysctls.is_empty() {
            return Ok(sysctl::write_in(&self.netns, sysctls)?);
        }
        // Whoever visits it goes there and back. The socket is opened as well, which is used next.
        let place = self.netns.path().display().to_string();
        let (written, net) = self.visit(|| sysctl::write(sysctls, &place))?;
        self.net.get_or_init(|| net);
        Ok(written?)
    }

    /// Does something in the namespace, and opens a socket there.
    fn visit<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<(T, Net)> {
        let place = self.netns.path().display().to_string();
        let (done, net) = self.netns.enter(|| (work(), Net::here(place)))?;
        Ok((done, net?))
    }

    /// Reads sysctls in it, all in one visit (see [`sysctl::read_in`]).
    pub fn read(&self, keys: &[&str]) -> Result<Vec<std::io::Result<Option<String>>>> {
        Ok(sysctl::read_in(&self.netns, keys)?)
    }
}
