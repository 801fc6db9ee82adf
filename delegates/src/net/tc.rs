//! `tc`: queueing disciplines and filters.

mod redirect;
mod tbf;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcHandle, TcMessage},
};
use nix::errno::Errno;

use super::{Net, Refusal, Result, link::Link};

pub use self::{redirect::redirect_message, tbf::Tbf};

/// `1:`, the handle of a root qdisc.
const ROOT_HANDLE: TcHandle = TcHandle { major: 1, minor: 0 };
/// `ffff:`, the handle of the ingress qdisc.
const INGRESS_HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// The traffic control of one namespace.
pub struct Tc<'a>(pub(super) &'a Net);

impl Tc<'_> {
    /// The namespace it acts in.
    pub fn net(&self) -> &Net {
        self.0
    }

    /// Shapes what leaves by a device: `tc qdisc add dev … root handle 1: tbf …`.
    ///
    /// The error's [`NetError::errno`] is EEXIST where the device has a root qdisc other than the default one.
    pub fn tbf_add(&self, dev: &Link, tbf: &Tbf) -> Result<()> {
        self.new_qdisc(tbf_message(dev.index, tbf), || {
            format!("shape interface {} to {tbf}", dev.name)
        })
    }

    /// How a device's root qdisc shapes; `None` where it is no tbf.
    pub fn tbf(&self, dev: &Link) -> Result<Option<Tbf>> {
        let message = about(dev.index, TcHandle::ROOT);
        // The answer is a notification of all who listen, and of the asker where it wants the echo.
        let answers =
            match self.0.request(RouteNetlinkMessage::GetQueueDiscipline(message), NLM_F_ECHO) {
                Err(refusal) if is_absent(&refusal) => return Ok(None),
                answers => answers
                    .map_err(|r| r.on(format!("read the root qdisc of interface {}", dev.name)))?,
            };
        Ok(answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message) => Tbf::from_message(message),
            _ => None,
        }))
    }

    /// `tc qdisc del dev … root`; false where there is none but the default one.
    pub fn root_del(&self, dev: &Link) -> Result<bool> {
        self.del_qdisc(about(dev.index, TcHandle::ROOT), || {
            format!("delete the root qdisc of interface {}", dev.name)
        })
    }

    /// Opens a device's incoming side to filters: `tc qdisc add dev … ingress`.
    ///
    /// The error's [`NetError::errno`] is EEXIST where it is open, by this or by `clsact`.
    pub fn ingress_add(&self, dev: &Link) -> Result<()> {
        self.new_qdisc(ingress_message(dev.index), || {
            format!("add an ingress qdisc to interface {}", dev.name)
        })
    }

    /// `tc qdisc del dev … ingress`, with its filters; false where there is none.
    pub fn ingress_del(&self, dev: &Link) -> Result<bool> {
        self.del_qdisc(about(dev.index, TcHandle::INGRESS), || {
            format!("delete the ingress qdisc of interface {}", dev.name)
        })
    }

    fn new_qdisc(&self, message: TcMessage, doing: impl Fn() -> String) -> Result<()> {
        self.0
            .request(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|refusal| refusal.on(doing()))?;
        Ok(())
    }

    fn del_qdisc(&self, message: TcMessage, doing: impl Fn() -> String) -> Result<bool> {
        match self.0.request(RouteNetlinkMessage::DelQueueDiscipline(message), 0) {
            Ok(_) => Ok(true),
            Err(refusal) if is_absent(&refusal) => Ok(false),
            Err(refusal) => Err(refusal.on(doing())),
        }
    }
}

/// What shapes what leaves by the device of this index.
pub fn tbf_message(dev: u32, tbf: &Tbf) -> TcMessage {
    let mut message = about(dev, TcHandle::ROOT);
    message.header.handle = ROOT_HANDLE;
    message.attributes.push(TcAttribute::Kind(tbf::KIND.to_owned()));
    message.attributes.push(TcAttribute::Options(tbf.options()));
    message
}

/// What opens the incoming side of the device of this index to filters.
pub fn ingress_message(dev: u32) -> TcMessage {
    let mut message = about(dev, TcHandle::INGRESS);
    message.header.handle = INGRESS_HANDLE;
    message.attributes.push(TcAttribute::Kind("ingress".to_owned()));
    message.attributes.push(TcAttribute::Options(Vec::new()));
    message
}

/// A message about the qdisc or filters at `parent` of the device of this index.
fn about(dev: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(dev.cast_signed());
    message.header.parent = parent;
    message
}

/// Neither the device, nor the qdisc, nor (the default root qdisc has handle 0) one that can be deleted.
fn is_absent(refusal: &Refusal) -> bool {
    matches!(refusal.errno, Errno::ENODEV | Errno::ENOENT | Errno::EINVAL)
}
