//! The interface between a chain and its built-in delegates.

use crate::{Attachment, CniResult, PluginConf, Result, Version, runner::Runner};

/// A built-in delegate. `N` is what the delegates share on the node (sockets, work put off to be done together).
///
/// `add` leaves nothing behind where it fails or panics: a plugin undoes what it did before it returns an error, by
/// guards that undo on drop. What it was killed over is undone by `del` from the record.
pub trait Plugin<N>: Send + Sync {
    /// The plugin's `type` in a configuration.
    fn kind(&self) -> &'static str;

    /// The oldest version of the specification it speaks.
    fn oldest_version(&self) -> Version {
        Version::V0_1_0
    }

    /// Whether it runs chains of its own.
    fn runs_chains(&self) -> bool {
        false
    }

    /// ADD: attaches the container, or adds to what the chain did before; the result passes on `prev_result`.
    fn add(&self, call: &Call<'_, N>, node: &mut N) -> Result<CniResult>;

    /// DEL: undoes ADD. What is already gone is no error.
    fn del(&self, call: &Call<'_, N>, node: &mut N) -> Result<()>;

    /// CHECK: whether the container is as ADD left it; the error names what is missing.
    fn check(&self, call: &Call<'_, N>, node: &mut N) -> Result<()>;

    /// Puts back what CHECK finds missing, by the steps of ADD; what is as it should be is not touched. What it cannot put
    /// back (the interface itself) it passes over: CHECK, which is asked again, tells of it.
    fn repair(&self, _call: &Call<'_, N>, _node: &mut N) -> Result<()> {
        Ok(())
    }

    /// GC: removes what belongs to attachments of this network that are not in `call.valid`.
    fn gc(&self, _call: &NetworkCall<'_, N>, _node: &mut N) -> Result<()> {
        Ok(())
    }

    /// STATUS: whether ADD can be served now (codes 50 and 51 where not).
    fn status(&self, _call: &NetworkCall<'_, N>, _node: &mut N) -> Result<()> {
        Ok(())
    }
}

/// What ADD, DEL, CHECK and a repair of one delegate get.
pub struct Call<'a, N> {
    /// The container, its namespace and interface.
    pub attachment: &'a Attachment,
    /// The delegate's configuration, `runtimeConfig` in it.
    pub conf: &'a PluginConf,
    /// The result of the chain so far (ADD), or of the whole ADD (DEL, CHECK, repair).
    pub prev_result: Option<&'a CniResult>,
    /// Runs other delegates, IPAM among them.
    pub runner: &'a Runner<'a, N>,
    /// DEL: what is known of this delegate's ADD.
    pub history: History,
}

/// What DEL knows of the ADD that it undoes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Its record says it was done: everything it made can be named from configuration and result.
    Added,
    /// Its record says it was begun: it may have made anything that it makes, or nothing.
    Begun,
    /// There is no record: another implementation made it, or nobody did.
    Unknown,
}

/// What GC and STATUS of one delegate get.
pub struct NetworkCall<'a, N> {
    /// The delegate's configuration.
    pub conf: &'a PluginConf,
    /// GC: the attachments of this network that are to stay.
    pub valid: &'a [ValidAttachment],
    /// Runs other delegates, IPAM among them.
    pub runner: &'a Runner<'a, N>,
}

/// An attachment that GC is to leave alone (`cni.dev/valid-attachments`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ValidAttachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// Its interface.
    pub ifname: String,
}

/// What the built-in delegates of one run share on the node.
pub trait Node {
    /// Does what they have put off to do together: before a foreign delegate runs, and at the end of the chain.
    fn flush(&mut self) -> Result<()>;

    /// Forgets what they have put off, since the chain has failed.
    fn discard(&mut self);

    /// Whether one of them failed and could not undo all that it had done: then its DEL has to.
    fn left_behind(&self) -> bool {
        false
    }
}

/// The built-in delegates, by type.
pub struct Registry<'a, N> {
    plugins: &'a [&'a dyn Plugin<N>],
}

impl<'a, N> Registry<'a, N> {
    /// A registry of these.
    pub const fn new(plugins: &'a [&'a dyn Plugin<N>]) -> Self {
        Self { plugins }
    }

    /// The plugin of this type.
    pub fn get(&self, kind: &str) -> Option<&'a dyn Plugin<N>> {
        self.plugins.iter().copied().find(|plugin| plugin.kind() == kind)
    }

    /// All types.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.plugins.iter().map(|plugin| plugin.kind())
    }
}
