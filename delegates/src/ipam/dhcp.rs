//! The IPAM plugin `dhcp`: has a DHCP daemon get a lease for the container's interface, keep it and give it back.
//!
//! The daemon is spoken to as the reference plugin does it, so it may be the reference's.

pub mod gob;
pub mod interface;
pub mod result;
pub mod rpc;

use std::{
    env,
    path::{Path, PathBuf},
};

use chain::{
    Attachment, Call, CniArgs, CniResult, Code, Dirs, Error, NetworkCall, Plugin, PluginConf,
    Result,
};
use serde::{Deserialize, de::DeserializeOwned};

use self::{
    gob::{Type, Value},
    rpc::{Client, Failure},
};
use crate::{
    dhcp::{
        Family, Suppress,
        options::{provides, requests},
    },
    node::Node,
};

/// `"type": "dhcp"` in `ipam`.
#[derive(Clone, Copy, Debug)]
pub struct Dhcp;

/// Where the daemon listens, unless the configuration says otherwise.
pub const SOCKET: &str = "/run/cni/dhcp.sock";

/// Where the daemon of a node with these directories listens: among its sockets, where they are not at the usual place.
pub fn default_socket(dirs: &Dirs) -> PathBuf {
    match dirs.run == Dirs::default().run {
        true => SOCKET.into(),
        false => dirs.run.join("dhcp.sock"),
    }
}

/// What a method of the daemon's takes (Go: `skel.CmdArgs`).
const ARGS: Type = Type::Struct(
    "CmdArgs",
    &[
        ("ContainerID", Type::String),
        ("Netns", Type::String),
        ("IfName", Type::String),
        ("Args", Type::String),
        ("Path", Type::String),
        ("NetnsOverride", Type::String),
        ("StdinData", Type::Bytes),
    ],
);

#[derive(Deserialize)]
struct NetConf {
    #[serde(default)]
    ipam: Option<Ipam>,
}

/// What the plugin itself reads; the rest is the daemon's.
#[derive(Deserialize)]
struct Ipam {
    /// Where the daemon listens (default `/run/cni/dhcp.sock`).
    #[serde(rename = "daemonSocketPath", default)]
    socket: Option<PathBuf>,
    /// The families that there is to be a lease of (default `["IPv4"]`). DEL does without them.
    #[serde(rename = "ipFamilies", default)]
    families: Option<serde_json::Value>,
}

/// What is the daemon's to carry out. DEL does without it.
#[derive(Deserialize)]
struct Options {
    #[serde(default)]
    ipam: Option<IpamOptions>,
}

#[derive(Default, Deserialize)]
struct IpamOptions {
    #[serde(default)]
    request: Option<serde_json::Value>,
    #[serde(default)]
    provide: Option<serde_json::Value>,
    #[serde(default)]
    priority: Option<serde_json::Value>,
    #[serde(default)]
    suppress: Option<serde_json::Value>,
}

fn socket(conf: &PluginConf, dirs: &Dirs) -> Result<PathBuf> {
    let conf: NetConf = conf.decode()?;
    let socket = conf.ipam.and_then(|ipam| ipam.socket);
    let socket = socket.filter(|path| !path.as_os_str().is_empty());
    Ok(socket.unwrap_or_else(|| default_socket(dirs)))
}

fn families(conf: &PluginConf) -> Result<Vec<Family>> {
    let conf: NetConf = conf.decode()?;
    Family::wanted(conf.ipam.and_then(|ipam| ipam.families).as_ref())
}

/// Sees that what the daemon is to ask and to tell servers can be: it would say so itself, but not before a container comes, and
/// without a code. Returns what is to be left out of a lease.
fn see_to_options(conf: &PluginConf, told: &CniArgs) -> Result<Vec<Suppress>> {
    let conf: Options = conf.decode()?;
    let ipam = conf.ipam.unwrap_or_default();
    fn list<T: DeserializeOwned>(key: &str, value: Option<serde_json::Value>) -> Result<T> {
        let value = value.unwrap_or(serde_json::Value::Null);
        serde_json::from_value(value)
            .map_err(|error| Error::config(format!("ipam: {key}: {error}")))
    }
    requests(&list::<Option<Vec<_>>>("request", ipam.request)?.unwrap_or_default())?;
    provides(&list::<Option<Vec<_>>>("provide", ipam.provide)?.unwrap_or_default(), told)?;
    list::<Option<u32>>("priority", ipam.priority)?;
    Ok(list::<Option<_>>("suppress", ipam.suppress)?.unwrap_or_default())
}

/// The arguments of an attachment's call. CHECK asks by the same method as ADD: the daemon tells it by its `prevResult`.
fn args(conf: &PluginConf, attachment: &Attachment, is_check: bool) -> Result<Value> {
    let mut conf = conf.raw.clone();
    if is_check {
        conf.insert("prevResult".to_owned(), serde_json::json!({}));
    }
    let stdin = serde_json::to_vec(&conf)
        .map_err(|error| Error::internal(format!("the configuration: {error}")))?;
    let netns = attachment.netns.as_deref().unwrap_or(Path::new("")).display().to_string();
    let text = |name: &str, text: String| (name.to_owned(), Value::String(text));
    Ok(Value::Struct(vec![
        text("ContainerID", attachment.container_id.clone()),
        text("Netns", netns),
        text("IfName", attachment.ifname.clone()),
        text("Args", attachment.args.to_string()),
        text("Path", env::var("CNI_PATH").unwrap_or_default()),
        text("NetnsOverride", env::var("CNI_NETNS_OVERRIDE").unwrap_or_default()),
        ("StdinData".to_owned(), Value::Bytes(stdin)),
    ]))
}

/// Has the daemon at a socket do something for an attachment.
fn ask(
    socket: &Path,
    call: &Call<'_, Node>,
    method: &str,
    is_check: bool,
) -> Result<std::result::Result<Value, Failure>> {
    let args = args(call.conf, call.attachment, is_check)?;
    let _step = tracing::debug_span!("ask DHCP daemon", socket = %socket.display()).entered();
    Ok(Client::connect(socket).and_then(|client| client.call(method, &ARGS, &args)))
}

fn lease(call: &Call<'_, Node>, node: &Node, is_check: bool) -> Result<CniResult> {
    call.attachment.netns()?;
    families(call.conf)?;
    let socket = socket(call.conf, node.dirs())?;
    let suppress = see_to_options(call.conf, &call.attachment.args)?;
    let told = ask(&socket, call, rpc::ALLOCATE, is_check)?
        .map_err(|failure| failed(&failure, &socket))?;
    let mut leased = result::of(&told).map_err(|why| {
        Error::internal(format!("the DHCP daemon's answer for {}: {why}", call.attachment))
    })?;
    // Catena's daemon has left it out already, the reference's knows no such key.
    suppress.iter().for_each(|one| one.leave_out(&mut leased));
    Ok(leased)
}

/// Sees that there is a lease of each family: the reference's daemon passes `ipFamilies` over.
fn see_that_all_are_there(call: &Call<'_, Node>, node: &Node, leased: &CniResult) -> Result<()> {
    let has =
        |family: &Family| leased.ips.iter().any(|ip| Family::of(ip.address.addr()) == *family);
    let wanted = families(call.conf)?;
    let Some(family) = wanted.iter().find(|family| !has(family)) else { return Ok(()) };
    Err(Error::new(
        Code::NotAvailable,
        format!(
            "the DHCP daemon on {} gave no lease of {family}, which ipFamilies asks for: only Catena's knows that key",
            socket(call.conf, node.dirs())?.display()
        ),
    ))
}

fn failed(failure: &Failure, socket: &Path) -> Error {
    let at = socket.display();
    match failure {
        Failure::Nobody(error) => Error::new(
            Code::NotAvailable,
            format!(
                "no DHCP daemon listens on {at} ({error}): start \"catena daemon\" or \"dhcp daemon\", or name the \
                 socket of one that runs by daemonSocketPath"
            ),
        ),
        Failure::Answer(error) => {
            Error::new(Code::TryAgain, format!("the DHCP daemon on {at}: {error}"))
        }
        Failure::Said(why) => Error::internal(format!("the DHCP daemon on {at}: {why}")),
    }
}

impl Plugin<Node> for Dhcp {
    fn kind(&self) -> &'static str {
        "dhcp"
    }

    fn add(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<CniResult> {
        let leased = lease(call, node, false)?;
        if let Err(error) = see_that_all_are_there(call, node, &leased) {
            if let Err(also) = self.del(call, node) {
                tracing::warn!("the lease of {} is not given back: {also}", call.attachment);
            }
            return Err(error);
        }
        Ok(leased)
    }

    /// The daemon knows whether there is a lease to be given back. Where none runs any more, the next one finds the lease on
    /// record, and that its namespace is gone; of one that keeps no records the lease ends by itself.
    fn del(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let socket = socket(call.conf, node.dirs())?;
        match ask(&socket, call, rpc::RELEASE, false)? {
            Ok(_) => Ok(()),
            Err(failure @ Failure::Nobody(_)) => {
                let error = failed(&failure, &socket);
                tracing::warn!(
                    "{error}; until then the lease of {} is not given back",
                    call.attachment
                );
                Ok(())
            }
            Err(failure) => Err(failed(&failure, &socket)),
        }
    }

    /// The daemon says again what it leased, and takes another lease where it knows of none.
    fn check(&self, call: &Call<'_, Node>, node: &mut Node) -> Result<()> {
        let leased = lease(call, node, true)?;
        let Some(result) = call.prev_result else { return Ok(()) };
        match leased.ips.iter().find(|ip| !result.ips.iter().any(|has| has.address == ip.address)) {
            None => Ok(()),
            Some(ip) => Err(Error::internal(format!(
                "the lease is of {} by now, which is not in prevResult",
                ip.address
            ))),
        }
    }

    fn status(&self, call: &NetworkCall<'_, Node>, node: &mut Node) -> Result<()> {
        families(call.conf)?;
        see_to_options(call.conf, &CniArgs::default())?;
        let socket = socket(call.conf, node.dirs())?;
        let nothing = Value::Struct(Vec::new());
        let asked = Client::connect(&socket)
            .and_then(|client| client.call(rpc::STATUS, &rpc::NOTHING, &nothing));
        match asked {
            Ok(_) => Ok(()),
            // One that answers at all is all that can be known then.
            Err(failure) if failure.is_unknown() => Ok(()),
            Err(failure) => Err(Error { code: Code::NotAvailable, ..failed(&failure, &socket) }),
        }
    }
}
