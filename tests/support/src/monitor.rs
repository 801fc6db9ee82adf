//! How many transactions of nf_tables something takes.

use std::time::Duration;

use crate::exec::Background;
use crate::node::Node;
use crate::wait::until;

const PATIENCE: Duration = Duration::from_secs(10);

/// Counts the transactions of the node's nftables ruleset, whoever makes them.
///
/// It marks what has been counted by a table that it adds and deletes.
#[derive(Debug)]
pub struct NftMonitor<'n> {
    node: &'n Node,
    monitor: Background,
    marks: u32,
    /// The ruleset's generation after the last mark.
    last: u32,
}

impl<'n> NftMonitor<'n> {
    /// Counts from now on.
    pub fn start(node: &'n Node) -> Self {
        let monitor = node.cmd(["nft", "monitor"]).spawn(node.fresh_path("nft-monitor"));
        let mut this = Self { node, monitor, marks: 0, last: 0 };
        // It says nothing when it begins to listen: only the marks from then on are seen.
        this.last = until("nft monitor listens", PATIENCE, || {
            let mark = this.mark();
            this.generation_of(&mark)
        });
        this.transactions();
        this
    }

    /// How many transactions there were since the start, or the last call.
    #[track_caller]
    pub fn transactions(&mut self) -> u32 {
        let mark = self.mark();
        let now = until("nft monitor shows the mark", PATIENCE, || self.generation_of(&mark));
        // The mark's own are two.
        let count = now - self.last - 2;
        self.last = now;
        count
    }

    /// What its deletion looks like.
    fn mark(&mut self) -> String {
        self.marks += 1;
        let table = format!("monitored_{}", self.marks);
        self.node.run(["nft", "add", "table", "ip", &table]);
        self.node.run(["nft", "delete", "table", "ip", &table]);
        format!("delete table ip {table}\n")
    }

    fn generation_of(&self, mark: &str) -> Option<u32> {
        let log = self.monitor.log();
        let (_, after) = log.split_once(mark)?;
        let (_, number) = after.split_once("# new generation ")?;
        number.split(' ').next()?.parse().ok()
    }
}
