//! What the records of attachments say about the ruleset: which elements belong in it, and whose holder still lives.

use std::collections::{HashMap, hash_map::Entry};

use chain::{
    Attachment, CniResult, Dirs, PluginConf, Result,
    record::{Record, Records, State},
    result::Interface,
};
use nft_templates::{Element, Owner};

use super::Node;
use crate::{bridge, firewall, net::Mac, portmap, ptp, snat};

/// How a plugin names its elements. What it needs to know of the node, it looks up there.
type ElementsOf = fn(&PluginConf, &Attachment, &CniResult, &Node) -> Result<Vec<Element>>;

/// The plugins that have elements.
const WITH_ELEMENTS: &[(&str, ElementsOf)] = &[
    ("bridge", |conf, attachment, result, _| bridge::elements(conf, attachment, result)),
    ("ptp", |conf, attachment, result, _| ptp::elements(conf, attachment, result)),
    ("portmap", portmap::elements),
    ("firewall", |conf, attachment, result, _| firewall::elements(conf, attachment, result)),
    ("snat", |conf, attachment, result, _| snat::elements(conf, attachment, result)),
];

/// The records of attachments whose namespace lives, of all networks.
pub(super) fn living(dirs: &Dirs) -> Vec<Record> {
    let records = Records::open(dirs);
    let Ok(boot) = dirs.boot() else { return Vec::new() };
    let networks = records.networks().unwrap_or_else(|error| {
        tracing::warn!(%error, "the records cannot be listed");
        Vec::new()
    });
    networks
        .iter()
        .flat_map(|network| records.list(network).unwrap_or_default())
        .filter(|record| record.namespace_lives(&boot))
        .collect()
}

/// The owners of all attachments on record, whether they live or not.
pub(super) fn owners(dirs: &Dirs) -> Result<Vec<Owner>> {
    let records = Records::open(dirs);
    let mut owners = Vec::new();
    for network in records.networks()? {
        owners.extend(records.list(&network)?.iter().map(owner_of));
    }
    Ok(owners)
}

/// The living attachment that an element's owner is, if it is one.
pub(super) fn living_holder(dirs: &Dirs, owner: &Owner) -> Option<Record> {
    living(dirs).into_iter().find(|record| owner_of(record) == *owner)
}

/// The elements that living attachments have, for when the kernel has lost them all.
///
/// Where an attachment has two of one key (the egress of bridge, and of snat after it), the later one counts, as in ADD.
/// Records of one attachment come sorted by type, and of those it is snat that comes last. Of two attachments that know of
/// the same key one has lost it to the other unnoticed (a lease that somebody removed): an address is whose IPAM gave it to
/// last, a port is whose it was first.
pub(super) fn elements(dirs: &Dirs) -> Vec<(Element, Owner)> {
    let listed = living(dirs);
    let mut records = listed.clone();
    records.iter_mut().for_each(|record| record.take_later_result(&listed));
    // The one that is being added is the latest.
    records.sort_by_key(|record| (!record.complete, record.created));
    let mut places: HashMap<_, usize> = HashMap::new();
    let mut elements: Vec<(Element, Owner)> = Vec::new();
    let node = Node::with_dirs(dirs.clone());
    for (element, owner) in records.iter().flat_map(|record| elements_of(record, &node)) {
        match places.entry(element.key()) {
            Entry::Occupied(earlier) => {
                let earlier = &mut elements[*earlier.get()];
                if earlier.1 == owner || !matches!(element, Element::HostPort { .. }) {
                    *earlier = (element, owner);
                }
            }
            Entry::Vacant(free) => {
                free.insert(elements.len());
                elements.push((element, owner));
            }
        }
    }
    elements
}

/// Whether another attachment that lives has an element with better right than `owner`: it was made no earlier.
pub(super) fn is_anothers(dirs: &Dirs, owner: &Owner, holder: &Owner) -> bool {
    let created = |of: &Owner| living_holder(dirs, of).map(|record| record.created);
    created(holder).is_some_and(|theirs| created(owner).is_none_or(|ours| theirs >= ours))
}

/// The hardware address that living attachments know an interface of the node by: that of a bridge which comes back is the
/// one in its containers' neighbour tables.
pub(super) fn mac(dirs: &Dirs, ifname: &str) -> Option<Mac> {
    living(dirs).iter().filter_map(|record| record.result.as_ref()).find_map(|result| {
        let on_node = |one: &&Interface| one.name == ifname && one.sandbox.is_empty();
        result.interfaces.iter().find(on_node).and_then(|one| one.mac.parse().ok())
    })
}

fn owner_of(record: &Record) -> Owner {
    Owner::new(&record.network, &record.container_id, &record.ifname)
}

fn elements_of(record: &Record, node: &Node) -> Vec<(Element, Owner)> {
    let Ok(attachment) = record.attachment(None, &record.boot) else { return Vec::new() };
    let mut elements = Vec::new();
    for (index, delegate) in record.delegates.iter().enumerate() {
        let Some(result) = record.result_for(index) else { continue };
        let known = WITH_ELEMENTS.iter().find(|(kind, _)| *kind == delegate.kind());
        let Some((_, of)) = known.filter(|_| !delegate.foreign && delegate.state == State::Added)
        else {
            continue;
        };
        match delegate.plugin_conf().and_then(|conf| of(&conf, &attachment, result, node)) {
            Ok(found) => {
                elements.extend(found);
            }
            Err(error) => tracing::warn!(%attachment, %error, "a record's elements are not known"),
        }
    }
    let owner = owner_of(record);
    elements.into_iter().map(|element| (element, owner.clone())).collect()
}
