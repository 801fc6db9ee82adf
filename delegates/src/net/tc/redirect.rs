//! The filter that takes all that comes in by one device out by another: u32 and mirred.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{
        TcAction, TcActionAttribute, TcActionMirror, TcActionMirrorOption, TcActionOption,
        TcActionType, TcAttribute, TcFilterU32, TcFilterU32Option, TcHandle, TcMessage, TcMirror,
        TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
    },
};

use super::{INGRESS_HANDLE, Tc, about, is_absent};
use crate::net::{Result, link::Link};

/// The filter's place among those of the device: the first.
const PRIORITY: u16 = 1;
/// `ETH_P_ALL`, in the byte order of the network.
const ALL_PROTOCOLS: u16 = 3_u16.to_be();

impl Tc<'_> {
    /// Takes all that comes in by `from`, which has an ingress qdisc, out by `to`:
    /// `tc filter add dev … parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev …`.
    pub fn redirect_add(&self, from: &Link, to: &Link) -> Result<()> {
        let message = redirect_message(from.index, to.index);
        self.net()
            .request(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|refusal| {
                refusal.on(format!("redirect what comes in by {} to {}", from.name, to.name))
            })?;
        Ok(())
    }

    /// The index of the device that all that comes in by `from` is taken out by; `None` where there is none.
    pub fn redirect(&self, from: &Link) -> Result<Option<u32>> {
        let message = about(from.index, INGRESS_HANDLE);
        let filters = match self.net().dump(RouteNetlinkMessage::GetTrafficFilter(message)) {
            Err(refusal) if is_absent(&refusal) => return Ok(None),
            filters => filters
                .map_err(|refusal| refusal.on(format!("list the filters of {}", from.name)))?,
        };
        Ok(filters.iter().find_map(|filter| match filter {
            RouteNetlinkMessage::NewTrafficFilter(message) => redirect_of(message),
            _ => None,
        }))
    }
}

/// The filter's message, of two devices' indexes.
pub fn redirect_message(from: u32, to: u32) -> TcMessage {
    let mut message = about(from, INGRESS_HANDLE);
    message.header.info = TcHandle { major: PRIORITY, minor: ALL_PROTOCOLS }.into();
    message.attributes.push(TcAttribute::Kind(TcFilterU32::KIND.to_owned()));
    message.attributes.push(TcAttribute::Options(
        [TcFilterU32Option::Selector(everything()), TcFilterU32Option::Action(vec![mirred(to)])]
            .map(TcOption::U32)
            .to_vec(),
    ));
    message
}

/// A selector with one key that any packet has: mask 0.
fn everything() -> TcU32Selector {
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];
    selector
}

fn mirred(ifindex: u32) -> TcAction {
    let mut mirror = TcMirror::default();
    mirror.generic.action = TcActionType::Stolen;
    mirror.eaction = TcMirrorActionType::EgressRedir;
    mirror.ifindex = ifindex;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            mirror,
        ))]),
    ];
    action
}

/// Where a filter takes everything, if it does.
fn redirect_of(message: &TcMessage) -> Option<u32> {
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let u32s = || {
        options.iter().filter_map(|option| match option {
            TcOption::U32(option) => Some(option),
            _ => None,
        })
    };
    let all = u32s().any(|option| match option {
        TcFilterU32Option::Selector(selector) => selector.keys.iter().all(|key| key.mask == 0),
        _ => false,
    });
    let actions = u32s().find_map(|option| match option {
        TcFilterU32Option::Action(actions) => Some(actions),
        _ => None,
    })?;
    let target = actions.iter().flat_map(|action| &action.attributes).find_map(|a| match a {
        TcActionAttribute::Options(options) => options.iter().find_map(|option| match option {
            TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))
                if mirror.eaction == TcMirrorActionType::EgressRedir =>
            {
                Some(mirror.ifindex)
            }
            _ => None,
        }),
        _ => None,
    });
    target.filter(|_| all)
}
