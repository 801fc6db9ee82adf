//! What an attachment's configuration has servers asked and told.

use chain::{CniArgs, CniResult};
use delegates::{
    dhcp::{
        Client, Family, Suppress, client_id,
        options::{Provide, Request, provides, requests},
    },
    net::Mac,
};
use serde::Deserialize;
use serde_json::Value;

use super::{lease::Lease, record::Record};

/// The daemon's part of `ipam`.
#[derive(Debug, Default, Deserialize)]
pub struct Ask {
    /// `request`: options that servers are asked for.
    #[serde(default)]
    request: Option<Vec<Request>>,
    /// `provide`: options that servers are told.
    #[serde(default)]
    provide: Option<Vec<Provide>>,
    /// `priority`: the metric of the lease's routes (absent or 0: none).
    #[serde(default)]
    priority: Option<u32>,
    /// `suppress`: what of a lease the container is not to have.
    #[serde(default)]
    suppress: Option<Vec<Suppress>>,
    /// `ipFamilies`: of which families there is a lease (default `["IPv4"]`).
    #[serde(rename = "ipFamilies", default)]
    families: Option<Value>,
}

impl Ask {
    pub fn of(record: &Record) -> Result<Self, String> {
        let ask = Self::deserialize(Value::Object(record.ipam.clone()));
        let ask =
            ask.map_err(|error| format!("ipam of network {}: {error}", record.key.network))?;
        Ok(Self { priority: ask.priority.filter(|priority| *priority > 0), ..ask })
    }

    /// The families of which there is to be a lease; the first one's comes first in the result.
    pub fn families(&self) -> Result<Vec<Family>, String> {
        Family::wanted(self.families.as_ref()).map_err(|error| error.to_string())
    }

    /// The result that a lease gives by this.
    pub fn result(&self, lease: &Lease) -> CniResult {
        let mut result = lease.result(self.priority);
        self.suppress.iter().flatten().for_each(|one| one.leave_out(&mut result));
        result
    }

    /// What all messages to servers say.
    pub fn client(&self, record: &Record, broadcast: bool) -> Result<Client, String> {
        let key = &record.key;
        let args = CniArgs::parse(&record.args).map_err(|error| error.to_string())?;
        let mac: Mac = record.mac.parse().map_err(|error: chain::Error| error.to_string())?;
        let requests = requests(self.request.as_deref().unwrap_or_default());
        let provides = provides(self.provide.as_deref().unwrap_or_default(), &args);
        Ok(Client {
            mac,
            client_id: client_id(&key.container_id, &key.network, &key.ifname),
            requests: requests.map_err(|error| error.to_string())?,
            provides: provides.map_err(|error| error.to_string())?,
            broadcast,
        })
    }
}
