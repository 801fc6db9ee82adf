//! The configuration by which a node's runtime finds Catena: written for the network that is there, and kept in step.
//!
//! The runtime takes the first file of its folder. Catena's comes before that of the cluster's CNI software (the
//! [`master`]), and says no more of it than it must: the master is found anew at each call, so what depends on it here are the
//! capabilities that the runtime is to pass, and the versions.

mod account;
mod conflist;
mod folder;
mod plugins;
pub mod pod_network;
mod settings;
mod watch;

use std::path::{Path, PathBuf};

use chain::{ConfList, Result};
use clap::Args;

use self::{account::Account, folder::Folder, settings::Settings};
use crate::{
    kubernetes::{conf, master},
    meta,
};

pub use self::watch::{Keeper, keep};

/// The conflist's name: it comes before others, Multus's too.
pub const CONFLIST: &str = "00-catena.conflist";

/// The folder beside it with what the plugin needs to ask the API server.
pub const OWN_FOLDER: &str = "catena.d";

/// Which configuration is written, and where.
#[derive(Args, Clone, Debug)]
pub struct NetConfArgs {
    /// Write the runtime's configuration, too, once the cluster's own network is there.
    #[arg(long)]
    pub write_conf: bool,
    /// The directory that the runtime looks for networks in.
    #[arg(long, default_value = conf::NET_DIR, value_name = "DIR")]
    pub conf_dir: PathBuf,
    /// The cluster network: a file in --conf-dir, or a path [default: found anew for each pod, the first that is not
    /// Catena's or Multus's own].
    #[arg(long, value_name = "FILE", requires = "write_conf")]
    pub master: Option<PathBuf>,
    /// Write a kubeconfig for the plugin with the token and CA of this directory, as pods have it of their service account.
    #[arg(long, value_name = "DIR", requires = "write_conf")]
    pub kubeconfig_from_service_account: Option<PathBuf>,
    /// A JSON object with further keys for the plugin, such as namespaceIsolation.
    #[arg(long, value_name = "FILE", requires = "write_conf")]
    pub settings: Option<PathBuf>,
}

/// The configuration, ready to be written again and again.
#[derive(Debug)]
pub struct NetConf {
    conf_dir: PathBuf,
    bin_dir: PathBuf,
    master: Option<PathBuf>,
    account: Option<Account>,
    settings: Settings,
}

/// What [`NetConf::update`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All was as it should be.
    Unchanged,
    /// Something was written.
    Written,
}

impl NetConf {
    /// Opens what is read: it goes on being read when this process has another file system before it. The folder for
    /// networks is looked for when it is written. `bin_dir`: where the runtime looks for plugins.
    ///
    /// Errors (5): the service account's or the settings' folder is not there.
    pub fn open(args: &NetConfArgs, bin_dir: &Path) -> Result<Self> {
        let account = args.kubeconfig_from_service_account.as_deref().map(Account::open);
        Ok(Self {
            conf_dir: args.conf_dir.clone(),
            bin_dir: bin_dir.to_owned(),
            master: args.master.as_ref().map(|file| args.conf_dir.join(file)),
            account: account.transpose()?,
            settings: Settings::open(args.settings.as_deref())?,
        })
    }

    /// Writes what is not as it should be: first what the plugin needs, then the conflist by which the runtime comes to use it.
    /// Each file changes by one rename, and only where its content does.
    ///
    /// Where there is no master (yet, or any more), nothing is written and nothing taken away: a runtime that lost Catena's
    /// conflist would give pods the master's network alone, as soon as that is back.
    ///
    /// Errors: 11 where there is no master, or it cannot be read, or the runtime would not find the plugin; 5 where a file cannot
    /// be; 7 where somebody else's has the name, or the settings are none.
    pub fn update(&self) -> Result<Outcome> {
        let master = self.master()?;
        self.put(&Folder::make(&self.conf_dir, 0o755)?, &master)
    }

    /// The same, where `network` is about to be put into the folder, and may be the master there.
    fn lead_to(&self, folder: &Folder, network: ConfList) -> Result<Outcome> {
        self.put(folder, &self.master().unwrap_or(network))
    }

    fn put(&self, folder: &Folder, master: &ConfList) -> Result<Outcome> {
        // Under the folder's lock: catena uninstall has it, too, while it takes the plugin away.
        plugins::require(&self.bin_dir, &[meta::KIND])?;
        let settings = self.settings.read()?;
        let own = self.conf_dir.join(OWN_FOLDER);
        let mut written = false;
        if let Some(account) = &self.account {
            let files = account.files()?;
            let own = Folder::make(&own, 0o700)?;
            own.require_own(account::KUBECONFIG, account::MARK)?;
            for (name, content) in files {
                written |= own.put(name, &content)?;
            }
        }
        let kubeconfig = self.account.as_ref().map(|_| own.join(account::KUBECONFIG));
        let named = self.master.as_deref();
        let text = conflist::text(master, named, &self.conf_dir, kubeconfig.as_deref(), settings)?;
        folder.require_own(CONFLIST, conflist::MARK)?;
        written |= folder.put(CONFLIST, &text)?;
        Ok(if written { Outcome::Written } else { Outcome::Unchanged })
    }

    fn master(&self) -> Result<ConfList> {
        match &self.master {
            None => master::find(&self.conf_dir),
            Some(file) => master::load(file),
        }
    }
}

/// Removes from a folder for networks what [`NetConf::update`] has written, the conflist first. What others have written under
/// these names stays. The folder is locked until what is returned is dropped: who keeps the configuration in step waits, and
/// finds out then whether the plugins are still there.
///
/// Errors (5): a file cannot be read or removed.
pub fn remove(conf_dir: &Path) -> Result<Option<Folder>> {
    let Some(folder) = Folder::open(conf_dir)? else { return Ok(None) };
    folder.remove_own(CONFLIST, conflist::MARK)?;
    folder.remove_own(pod_network::FILE, conflist::MARK)?;
    let own = conf_dir.join(OWN_FOLDER);
    let Some(own_folder) = Folder::open(&own)? else { return Ok(Some(folder)) };
    if own_folder.is_own(account::KUBECONFIG, account::MARK)? {
        for name in account::BESIDE {
            own_folder.remove(name)?;
        }
    }
    own_folder.remove_own(account::KUBECONFIG, account::MARK)?;
    own_folder.remove_if_empty()?;
    Ok(Some(folder))
}
