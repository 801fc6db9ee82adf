//! GC and STATUS: the verbs about a network.

use std::{collections::HashSet, mem};

use serde_json::Map;

use super::{Executor, Observer, position, step};
use crate::{
    ConfList, Delegate, Error, Node, Record, Result, ValidAttachment, Verb, record::DelegateRecord,
};

impl<N: Node> Executor<'_, N> {
    /// GC: DELs each recorded attachment of the network that is not valid, and from 1.1.0 asks the delegates to remove
    /// what else belongs to none. Goes on over errors, and returns them together. A list with `disableGC` is left alone.
    ///
    /// `network` is the name under which the attachments are recorded: that of the list, or of the meta plugin whose
    /// chain the list is. In that case the list may be another network's. What its delegates keep is then that
    /// network's, and they are not asked; and when it is that network's turn, the attachments that others have through
    /// its list are valid as well.
    ///
    /// Only this network's attachments are touched, and of those only the ones in this executor's scope. One whose ADD
    /// or DEL is at work right now is left to it.
    pub fn gc(
        &self,
        network: &str,
        list: &ConfList,
        valid: &[ValidAttachment],
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<()> {
        if list.disable_gc {
            return Ok(());
        }
        let _step = step::begin_of_network(Verb::Gc, network);
        let mut errors = Vec::new();
        self.gc_records(network, valid, observer, node).unwrap_or_else(|error| errors.push(error));
        if list.cni_version.has_gc() && list.name == network {
            self.valid_for_delegates(network, valid)
                .and_then(|valid| self.gc_delegates(list, &valid, observer, node))
                .unwrap_or_else(|error| errors.push(error));
        }
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// The part of GC that needs no plugin's own knowledge: DELs each recorded attachment of the network that is not
    /// valid, and sweeps up what killed processes left of records. What has no record, such as a lease of another implementation's, is not looked at.
    pub fn gc_records(
        &self,
        network: &str,
        valid: &[ValidAttachment],
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<()> {
        let valid: HashSet<_> = valid
            .iter()
            .map(|valid| (valid.container_id.as_str(), valid.ifname.as_str()))
            .collect();
        let boot = self.records.dirs().boot()?;
        let mut errors = Vec::new();
        for record in self.records.list(network)? {
            let stale = !valid.contains(&(record.container_id.as_str(), record.ifname.as_str()));
            if !self.is_own(&record) || !stale {
                continue;
            }
            let key = record.key();
            let removed = self.records.try_lock(&key).and_then(|lock| {
                let Some(lock) = lock else { return Ok(()) };
                // It may have been removed since it was listed.
                if let Some(mut record) = self.records.read(&key)? {
                    record.take_begun();
                    self.undo(record, None, &boot, observer, node)?;
                }
                lock.remove();
                Ok(())
            });
            removed.unwrap_or_else(|error| {
                let stale = format!("stale attachment {}/{}", record.container_id, record.ifname);
                errors.push(error.context(stale));
            });
        }
        self.records.sweep(network).unwrap_or_else(|error| errors.push(error));
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// What is valid, and the attachments that other networks have through this one's list.
    fn valid_for_delegates(
        &self,
        network: &str,
        valid: &[ValidAttachment],
    ) -> Result<Vec<ValidAttachment>> {
        let mut valid = valid.to_vec();
        for other in self.records.networks()?.iter().filter(|other| *other != network) {
            for record in self.records.list(other)? {
                let through = |delegate: &DelegateRecord| {
                    delegate.conf.get("name").is_some_and(|name| name == network)
                };
                if record.delegates.iter().any(through) {
                    let Record { container_id, ifname, .. } = record;
                    valid.push(ValidAttachment { container_id, ifname });
                }
            }
        }
        Ok(valid)
    }

    fn gc_delegates(
        &self,
        list: &ConfList,
        valid: &[ValidAttachment],
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<()> {
        let confs = list.delegates(&Map::new())?;
        let mut errors = Vec::new();
        let mut put_off = false;
        for (index, conf) in confs.iter().enumerate() {
            let delegate = Delegate::of(conf);
            if self.runner.is_on_its_own(delegate) && mem::take(&mut put_off) {
                self.flush(observer, Verb::Gc, node).unwrap_or_else(|error| errors.push(error));
            }
            put_off |= !self.runner.is_foreign(delegate);
            let collected =
                self.step(observer, delegate, Verb::Gc, || self.runner.gc(delegate, valid, node));
            collected.unwrap_or_else(|error| errors.push(position(error, index, confs.len())));
        }
        self.flush(observer, Verb::Gc, node).unwrap_or_else(|error| errors.push(error));
        Error::join(errors).map_or(Ok(()), Err)
    }

    /// STATUS: the first delegate's error that cannot serve ADD now. Versions before 1.1.0 have no STATUS, and are
    /// taken to be able to.
    pub fn status(
        &self,
        list: &ConfList,
        observer: Option<&Observer<'_>>,
        node: &mut N,
    ) -> Result<()> {
        if !list.cni_version.has_gc() {
            return Ok(());
        }
        let _step = step::begin_of_network(Verb::Status, &list.name);
        let confs = list.delegates(&Map::new())?;
        for (index, conf) in confs.iter().enumerate() {
            let delegate = Delegate::of(conf);
            let ready =
                self.step(observer, delegate, Verb::Status, || self.runner.status(delegate, node));
            ready.map_err(|error| position(error, index, confs.len()))?;
        }
        Ok(())
    }
}
