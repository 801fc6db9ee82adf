//! A service account as pods have it, and the kubeconfig that is made of it.

use std::{
    env,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use chain::{Error, Result};

use super::folder::failed;
use crate::kept_folder::KeptFolder;

/// The kubeconfig. It names its token's file, so that whoever reads it has the token of that moment.
pub const KUBECONFIG: &str = "catena.kubeconfig";

/// The files beside it.
pub const BESIDE: [&str; 2] = [TOKEN, CA];

/// By this a kubeconfig is known to be written here.
pub const MARK: &str = "# Written by catena, which overwrites changes.\n";

const TOKEN: &str = "token";
const CA: &str = "ca.crt";

/// Where a pod is told its API server.
const HOST: &str = "KUBERNETES_SERVICE_HOST";
const PORT: &str = "KUBERNETES_SERVICE_PORT";

/// A service account's folder, held open.
#[derive(Debug)]
pub struct Account {
    folder: KeptFolder,
    server: String,
}

impl Account {
    /// Opens the folder. Errors: 5 where it is not there, 4 where the environment does not name the API server.
    pub fn open(folder: &Path) -> Result<Self> {
        let [host, port] = [HOST, PORT].map(|variable| env::var(variable).unwrap_or_default());
        if host.is_empty() || port.is_empty() {
            return Err(Error::environment(format!(
                "{HOST} and {PORT} do not say where the API server is: pods have them in their environment; elsewhere, \
                 set them to an address that answers on this node"
            )));
        }
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => host,
        };
        Ok(Self {
            folder: KeptFolder::open(folder).map_err(failed("open", folder))?,
            server: format!("https://{host}:{port}"),
        })
    }

    /// The folder, wherever this process has its files by now.
    pub fn path(&self) -> PathBuf {
        self.folder.path()
    }

    /// The files for the node with their names. The kubeconfig is the first: by it the others are known as Catena's.
    pub fn files(&self) -> Result<[(&'static str, String); 3]> {
        let token = self.read(TOKEN)?;
        let ca = self.read(CA)?;
        if !ca.contains("-----BEGIN CERTIFICATE-----") {
            return Err(Error::io(format!("the service account's {CA} has no certificate")));
        }
        let server = serde_json::Value::from(self.server.as_str());
        let kubeconfig = format!(
            "{MARK}\
apiVersion: v1
kind: Config
clusters:
  - name: cluster
    cluster:
      server: {server}
      certificate-authority: {CA}
users:
  - name: catena
    user:
      tokenFile: {TOKEN}
contexts:
  - name: catena
    context:
      cluster: cluster
      user: catena
current-context: catena
"
        );
        Ok([(KUBECONFIG, kubeconfig), (CA, ca), (TOKEN, token)])
    }

    fn read(&self, name: &str) -> Result<String> {
        let text = self
            .folder
            .read(name.as_ref())
            .map_err(failed("read", &Path::new("the service account's folder").join(name)))?;
        match text.trim().is_empty() {
            true => Err(Error::io(format!("the service account's {name} is empty"))),
            false => Ok(text),
        }
    }
}
