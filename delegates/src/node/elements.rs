//! The run's changes to the nftables ruleset.

use std::{collections::HashSet, io::ErrorKind, net::IpAddr, path::Path};

use chain::{Code, Dirs, Error, Result, record::Record};
use nft_templates::{
    Cluster, Conflict, Element, Gap, Held, Key, Missing, OtherVersion, Owner, Problem, Protocol,
    Resolution, Ruleset, Transaction,
    others::{Others, Removal},
};

use super::{Node, recorded};
use crate::cluster;

/// Elements to be added and removed in one transaction when the run's delegates are done.
#[derive(Default)]
pub struct Elements {
    transaction: Transaction,
    /// What it removes, and what does not come back if the table has to be made anew.
    removed: Vec<(Key, Owner)>,
    /// Owners of whose elements nothing is known.
    purged: Vec<Owner>,
    /// Whether a table has been made anew already.
    restored: bool,
}

impl Elements {
    /// Adds an element.
    pub fn add(&mut self, element: Element, owner: &Owner) {
        self.transaction.add(element, owner.clone());
    }

    /// Removes an element, if it is (still) this owner's.
    pub fn remove(&mut self, key: impl Into<Key>, owner: &Owner) {
        let key = key.into();
        self.removed.push((key.clone(), owner.clone()));
        self.transaction.remove(key, owner.clone());
    }

    /// Removes whatever is this owner's: for DEL where ADD was not finished or has no record.
    pub fn purge(&mut self, owner: &Owner) {
        if !self.purged.contains(owner) {
            self.purged.push(owner.clone());
        }
    }

    /// Lets an interface that is spoof-checked (if it is) send from another hardware address from now on.
    pub fn move_spoof_check(
        &mut self,
        dirs: &Dirs,
        port: &str,
        (from, to): ([u8; 6], [u8; 6]),
        owner: &Owner,
    ) {
        let check = |mac| Element::SpoofCheck { port: port.to_owned(), mac };
        if self.transaction.retract(&check(from), owner) {
            // It is on record, and would come with a new table.
            self.removed.push((check(from).key(), owner.clone()));
            self.add(check(to), owner);
        } else if Self::has(dirs, &check(from), owner) {
            self.remove(check(from).key(), owner);
            self.add(check(to), owner);
        }
    }

    /// Whether the kernel has an element of this owner's. One that has no nftables has none.
    pub fn has(dirs: &Dirs, element: &Element, owner: &Owner) -> bool {
        let missing = Self::check(dirs, &[(element.clone(), owner.clone())]);
        missing.is_ok_and(|missing| {
            missing.iter().all(|one| matches!(one.problem, Problem::Damaged(_)))
        })
    }

    /// Compares elements with those in the kernel; what is returned is not as it should be.
    pub fn check(dirs: &Dirs, wanted: &[(Element, Owner)]) -> Result<Vec<Missing>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        open(dirs)?.check(wanted).map_err(into_error)
    }

    /// Puts back tables that others took away or damaged, with the elements of all living attachments, in one transaction
    /// that is not put off. Returns those of `wanted` that are still not as they should be.
    pub(super) fn repair(
        &mut self,
        dirs: &Dirs,
        wanted: &[(Element, Owner)],
    ) -> Result<Vec<Missing>> {
        if Self::check(dirs, wanted)?.is_empty() {
            return Ok(Vec::new());
        }
        let mut ruleset = open(dirs)?;
        let records = dirs.clone();
        ruleset.on_install(move || (recorded::elements(&records), cluster::recorded(&records)));
        let committed = ruleset.repair().map_err(into_error)?;
        self.restored |= committed.installed || committed.upgraded;
        ruleset.check(wanted).map_err(into_error)
    }

    /// Those of these addresses of the node of which a port leads somewhere of its own, whoever has it. `ruleset` is opened
    /// where it is not open yet.
    pub(super) fn own_ports(
        dirs: &Dirs,
        ruleset: &mut Option<Ruleset>,
        (protocol, host_port): (Protocol, u16),
        addresses: &[IpAddr],
    ) -> Result<Vec<IpAddr>> {
        let keys: Vec<_> = addresses
            .iter()
            .map(|host_ip| Key::HostPort { protocol, host_ip: *host_ip, host_port })
            .collect();
        let held = match opened(dirs, ruleset).and_then(|rules| rules.held_of(&keys)) {
            Err(nft_templates::Error::NoNfTables(_)) => Vec::new(),
            held => held.map_err(into_error)?,
        };
        Ok(addresses
            .iter()
            .zip(&keys)
            .filter(|(_, key)| held.contains(key))
            .map(|(ip, _)| *ip)
            .collect())
    }

    /// Has the sets of the cluster's addresses be these. Whether anything had to be changed for it.
    pub fn keep_cluster(dirs: &Dirs, addresses: &Cluster, other: OtherVersion) -> Result<bool> {
        let mut ruleset = open(dirs)?;
        let records = dirs.clone();
        ruleset.on_install(move || (recorded::elements(&records), Cluster::default()));
        ruleset.keep_cluster(addresses, other).map_err(into_error)
    }

    /// All elements in the kernel, sorted. For people who look at a node: it lists whole maps.
    pub fn held(dirs: &Dirs) -> Result<Vec<Held>> {
        open(dirs)?.held().map_err(into_error)
    }

    /// GC: removes the policies of egress that no element leads to any more. DEL of the last container of a policy does
    /// so itself, but not where somebody else took the element away.
    pub fn collect_policies(dirs: &Dirs) -> Result<()> {
        match ruleset(dirs).and_then(|mut rules| rules.collect_unused_policies()) {
            Ok(count) => {
                tracing::debug!(count, "unused policies removed");
                Ok(())
            }
            // A kernel without nf_tables holds nothing that could be left.
            Err(nft_templates::Error::NoNfTables(_)) => Ok(()),
            Err(error) => Err(into_error(error)),
        }
    }

    /// GC: removes what is known of bridges that are gone, and opens those that are closed for nobody's sake.
    pub fn collect_bridges(node: &Node) -> Result<()> {
        let host = node.host()?;
        let names: HashSet<_> = host.link().list()?.into_iter().map(|link| link.name).collect();
        let collected = ruleset(node.dirs())
            .and_then(|mut rules| rules.collect_bridges(&|name| names.contains(name)));
        match collected {
            Ok(count) => {
                tracing::debug!(count, "elements of bridges that are gone removed");
                Ok(())
            }
            Err(nft_templates::Error::NoNfTables(_)) => Ok(()),
            Err(error) => Err(into_error(error)),
        }
    }

    /// Has the forward chains of others let containers' packets through, and says what they lacked. `admin` is the chain
    /// of iptables that the administrator's own rules are in.
    pub fn let_through(dirs: &Dirs, admin: &str) -> Result<Vec<Gap>> {
        let _step = tracing::debug_span!("others' chains").entered();
        open(dirs)?.let_through(admin).map_err(into_error)
    }

    /// Whether that could be done, where it is not; nothing is changed.
    pub fn can_let_through(dirs: &Dirs, admin: &str) -> Result<()> {
        open(dirs)?.can_let_through(admin).map_err(into_error)
    }

    /// What others' forward chains lack for that.
    pub fn forward_gaps(dirs: &Dirs, admin: &str) -> Result<Vec<String>> {
        let gaps = open(dirs)?.check_let_through(admin).map_err(into_error)?;
        Ok(gaps.iter().map(ToString::to_string).collect())
    }

    /// Runs `work` while no other process of Catena changes rules on the node.
    pub fn alone<T>(dirs: &Dirs, work: impl FnOnce() -> Result<T>) -> Result<T> {
        open(dirs)?.alone(work).map_err(into_error)?
    }

    /// Takes the tables away with all that is in them, for a node that Catena leaves. They stay where an attachment that is not
    /// on record has elements in them: it is returned.
    pub fn take_tables_away(dirs: &Dirs) -> Result<Option<Owner>> {
        let owners = recorded::owners(dirs)?;
        let is_known = |owner: &Owner| owners.contains(owner);
        match ruleset(dirs).and_then(|mut rules| rules.take_away(&is_known)) {
            Err(nft_templates::Error::NoNfTables(_)) => Ok(None),
            done => done.map_err(into_error),
        }
    }

    /// Takes it away from them.
    pub fn withdraw(dirs: &Dirs) -> Result<()> {
        match ruleset(dirs).and_then(|mut rules| rules.withdraw()) {
            Ok(_) | Err(nft_templates::Error::NoNfTables(_)) => Ok(()),
            Err(error) => Err(into_error(error)),
        }
    }

    /// Takes away what `find` says of others' rules and chains, and says how many that were.
    pub fn remove_of_others(
        dirs: &Dirs,
        find: impl FnMut(&mut Others<'_>) -> Result<Removal, nft_templates::Error>,
    ) -> Result<usize> {
        match ruleset(dirs).and_then(|mut rules| rules.remove_of_others(find)) {
            // A kernel without nf_tables holds nothing that could be left.
            Err(nft_templates::Error::NoNfTables(_)) => Ok(0),
            removed => removed.map_err(into_error),
        }
    }

    /// Looks at others' rules and chains.
    pub fn look_at_others<T>(
        dirs: &Dirs,
        look: impl FnOnce(&mut Others<'_>) -> Result<T, nft_templates::Error>,
    ) -> Result<T> {
        look(&mut open(dirs)?.others()).map_err(into_error)
    }

    /// Returns whether a table was made anew, and with it the elements of other attachments. `ruleset` is opened where it is
    /// not open yet.
    pub(super) fn commit(&mut self, dirs: &Dirs, ruleset: &mut Option<Ruleset>) -> Result<bool> {
        let Self { transaction, removed, purged, restored } = std::mem::take(self);
        if transaction.is_empty() && purged.is_empty() {
            return Ok(restored);
        }
        let _step = tracing::debug_span!("ruleset", elements = transaction.len()).entered();
        let opened = opened(dirs, ruleset).and_then(|ruleset| {
            for owner in &purged {
                let gone = ruleset.remove_owned(owner)?;
                tracing::debug!(%owner, count = gone.len(), "elements of an unfinished ADD removed");
            }
            Ok(ruleset)
        });
        let ruleset = match opened {
            Ok(_) if transaction.is_empty() => return Ok(restored),
            // A kernel without nf_tables holds nothing that could be left.
            Err(nft_templates::Error::NoNfTables(_)) if transaction.is_empty() => {
                return Ok(restored);
            }
            opened => opened.map_err(into_error)?,
        };
        let records = dirs.clone();
        ruleset.on_install(move || {
            let mut elements = recorded::elements(&records);
            elements.retain(|(element, owner)| {
                !purged.contains(owner) && !removed.contains(&(element.key(), owner.clone()))
            });
            (elements, cluster::recorded(&records))
        });
        let mut living = None;
        let committed = ruleset.commit(&transaction, &mut |conflict| {
            let (resolution, holder) = resolve(conflict, dirs);
            living = holder;
            resolution
        });
        let committed = committed.map_err(|error| match living {
            Some(holder) => held(&error, &holder),
            None => into_error(error),
        })?;
        for (element, holder) in &committed.taken_over {
            tracing::info!(%element, %holder, "taken over from an attachment that is gone");
        }
        for (key, holder) in &committed.left {
            tracing::info!(%key, %holder, "left to the attachment that has it by now");
        }
        Ok(restored || committed.installed || committed.upgraded)
    }
}

/// Who gets an element that another has.
///
/// An address is whose IPAM gave it to: the other one's element is out of date. A port stays with an attachment that
/// lives, which is returned.
fn resolve(conflict: &Conflict, dirs: &Dirs) -> (Resolution, Option<Record>) {
    let holder = match conflict.element {
        Element::HostPort { .. } => recorded::living_holder(dirs, &conflict.holder),
        _ => None,
    };
    match holder {
        Some(holder) => (Resolution::Refuse, Some(holder)),
        None => (Resolution::TakeOver, None),
    }
}

/// The error for a port of an attachment that lives. It may be on its way out, so another try is worth it.
fn held(error: &nft_templates::Error, holder: &Record) -> Error {
    let netns = holder.netns.as_deref().unwrap_or(Path::new("")).display();
    Error::new(
        Code::TryAgain,
        format!(
            "{error}: container {} has it by interface {} on network {}, and its namespace {netns} exists; DEL that \
             attachment, or choose another port",
            holder.container_id, holder.ifname, holder.network
        ),
    )
}

fn open(dirs: &Dirs) -> Result<Ruleset> {
    ruleset(dirs).map_err(into_error)
}

/// The ruleset, opened where it is not open yet.
fn opened<'r>(
    dirs: &Dirs,
    open: &'r mut Option<Ruleset>,
) -> Result<&'r mut Ruleset, nft_templates::Error> {
    match open {
        Some(ruleset) => Ok(ruleset),
        None => Ok(open.insert(ruleset(dirs)?)),
    }
}

fn ruleset(dirs: &Dirs) -> Result<Ruleset, nft_templates::Error> {
    let mut ruleset = Ruleset::open(&dirs.run.join("nft.lock"))?;
    let longest = dirs.lock_wait;
    ruleset.on_lock(move |file, path| chain::lock::exclusive(file, path, longest));
    Ok(ruleset)
}

fn into_error(error: nft_templates::Error) -> Error {
    use nft_templates::Error as Nft;
    let code = match &error {
        // The holder may be on its way out.
        Nft::Held { .. } | Nft::Busy { .. } => Code::TryAgain,
        Nft::Lock { source, .. } if source.kind() == ErrorKind::TimedOut => Code::TryAgain,
        Nft::Duplicate { .. } | Nft::Invalid { .. } => Code::InvalidConfig,
        Nft::NoNfTables(_) | Nft::NoBridgeFamily(_) => Code::UnsupportedField,
        Nft::Lock { .. } | Nft::Io(_) => Code::Io,
        _ => Code::Internal,
    };
    Error::new(code, error.to_string())
}
