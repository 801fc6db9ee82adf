//! The IPAM plugin `dhcp`: has a DHCP daemon get a lease for the container's interface, keep it and give it back.
//!
//! The daemon is spoken to as the reference plugin does it, so it may be the reference's.

mod gob;
mod result;
mod rpc;

use std::{
    env,
    path::{Path, PathBuf},
};

use chain::{Attachment, Call, CniResult, Code, Error, NetworkCall, Plugin, PluginConf, Result};
use serde::Deserialize;

use self::{
    gob::{Type, Value},
    rpc::{Client, Failure},
};

/// `"type": "dhcp"` in `ipam`.
#[derive(Clone, Copy, Debug)]
pub struct Dhcp;

/// Where the daemon listens, unless the configuration says otherwise.
const SOCKET: &str = "/run/cni/dhcp.sock";

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
}

fn socket(conf: &PluginConf) -> Result<PathBuf> {
    let conf: NetConf = conf.decode()?;
    let socket = conf.ipam.and_then(|ipam| ipam.socket);
    Ok(socket.filter(|path| !path.as_os_str().is_empty()).unwrap_or_else(|| SOCKET.into()))
}

fn args(conf: &PluginConf, attachment: &Attachment) -> Result<Value> {
    let stdin = serde_json::to_vec(&conf.raw)
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

/// Has the daemon do something for an attachment.
fn ask(
    conf: &PluginConf,
    attachment: &Attachment,
    method: &str,
) -> Result<std::result::Result<Value, Failure>> {
    let (socket, args) = (socket(conf)?, args(conf, attachment)?);
    Ok(Client::connect(&socket).and_then(|client| client.call(method, &ARGS, &args)))
}

fn lease(call: &Call<'_, impl Sized>) -> Result<CniResult> {
    call.attachment.netns()?;
    let told = ask(call.conf, call.attachment, "DHCP.Allocate")?;
    let told = told.map_err(|failure| failed(&failure, call.conf))?;
    result::of(&told).map_err(|why| {
        Error::internal(format!("the DHCP daemon's answer for {}: {why}", call.attachment))
    })
}

fn failed(failure: &Failure, conf: &PluginConf) -> Error {
    let at = socket(conf).unwrap_or_default();
    let at = at.display();
    match failure {
        Failure::Nobody(error) => Error::new(
            Code::NotAvailable,
            format!(
                "no DHCP daemon listens on {at} ({error}): start \"dhcp daemon\" of the reference plugins, or name \
                 its socket by daemonSocketPath"
            ),
        ),
        Failure::Answer(error) => {
            Error::new(Code::TryAgain, format!("the DHCP daemon on {at}: {error}"))
        }
        Failure::Said(why) => Error::internal(format!("the DHCP daemon on {at}: {why}")),
    }
}

impl<N> Plugin<N> for Dhcp {
    fn kind(&self) -> &'static str {
        "dhcp"
    }

    fn add(&self, call: &Call<'_, N>, _node: &mut N) -> Result<CniResult> {
        lease(call)
    }

    /// The daemon knows whether there is a lease to be given back. Where none runs any more, nobody keeps the lease, and it
    /// ends by itself.
    fn del(&self, call: &Call<'_, N>, _node: &mut N) -> Result<()> {
        match ask(call.conf, call.attachment, "DHCP.Release")? {
            Ok(_) => Ok(()),
            Err(failure @ Failure::Nobody(_)) => {
                let error = failed(&failure, call.conf);
                tracing::warn!("{error}; the lease of {} ends in its time", call.attachment);
                Ok(())
            }
            Err(failure) => Err(failed(&failure, call.conf)),
        }
    }

    /// The daemon says again what it leased, and takes another lease where it knows of none.
    fn check(&self, call: &Call<'_, N>, _node: &mut N) -> Result<()> {
        let leased = lease(call)?;
        let Some(result) = call.prev_result else { return Ok(()) };
        match leased.ips.iter().find(|ip| !result.ips.iter().any(|has| has.address == ip.address)) {
            None => Ok(()),
            Some(ip) => Err(Error::internal(format!(
                "the lease is of {} by now, which is not in prevResult",
                ip.address
            ))),
        }
    }

    fn status(&self, call: &NetworkCall<'_, N>, _node: &mut N) -> Result<()> {
        match Client::connect(&socket(call.conf)?) {
            Ok(_) => Ok(()),
            Err(failure) => Err(Error { code: Code::NotAvailable, ..failed(&failure, call.conf) }),
        }
    }
}
