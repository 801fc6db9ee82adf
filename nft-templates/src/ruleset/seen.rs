//! What was seen of others' rules, and at which generation of the ruleset: it need not be looked at again before
//! somebody else has changed something.

use std::{fs, os::unix::fs::MetadataExt as _, path::PathBuf};

use super::Ruleset;

/// The state of a node's whole ruleset, and what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The network namespace's inode.
    netns: u64,
    generation: u32,
    /// What was seen to be in place.
    what: String,
}

impl Seen {
    fn text(&self) -> String {
        format!("{} {} {}", self.netns, self.generation, self.what)
    }
}

impl Ruleset {
    /// Whether this was seen in place, and nobody else has changed the ruleset since. To be asked under the lock.
    pub(super) fn is_seen(&mut self, what: &str) -> bool {
        self.still_seen().is_some_and(|seen| seen.what == what)
    }

    /// Remembers that this is in place at this generation.
    pub(super) fn remember(&mut self, what: &str, generation: u32) {
        if let Some(netns) = own_netns() {
            self.write_seen(&Seen { netns, generation, what: what.to_owned() });
        }
    }

    /// What was seen, where nobody has changed the ruleset since. Nodes that never looked pay for the attempt to open a
    /// file.
    pub(super) fn still_seen(&mut self) -> Option<Seen> {
        let text = fs::read_to_string(self.seen_path()).ok()?;
        let mut words = text.splitn(3, ' ');
        let netns = words.next()?.parse().ok()?;
        let generation = words.next()?.parse().ok()?;
        let what = words.next()?.to_owned();
        let now = (own_netns()?, self.generation().ok()?);
        (now == (netns, generation)).then_some(Seen { netns, generation, what })
    }

    /// Takes what was seen along to the generation that `commits` of our own led to. Where that is not the present one,
    /// others were at work, too, and it is left to be out of date. What was forgotten or seen anew meanwhile is so.
    pub(super) fn carry(&mut self, seen: &Seen, commits: u32) {
        let as_it_was = fs::read_to_string(self.seen_path()).is_ok_and(|text| text == seen.text());
        let generation = seen.generation.wrapping_add(commits);
        if commits > 0 && as_it_was && self.generation().ok() == Some(generation) {
            self.write_seen(&Seen { generation, ..seen.clone() });
        }
    }

    /// It is only a shortcut: without it the next one looks again.
    fn write_seen(&self, seen: &Seen) {
        if let Err(error) = fs::write(self.seen_path(), seen.text()) {
            tracing::debug!(path = %self.seen_path().display(), %error, "not remembered");
        }
    }

    /// Forgets what was seen, since the rules of others are about to be changed. To be asked under the lock.
    pub(super) fn forget(&self) {
        // What cannot be removed was never written.
        let _ = fs::remove_file(self.seen_path());
    }

    fn seen_path(&self) -> PathBuf {
        self.lock_path.with_extension("seen")
    }
}

fn own_netns() -> Option<u64> {
    fs::metadata("/proc/thread-self/ns/net").ok().map(|metadata| metadata.ino())
}
