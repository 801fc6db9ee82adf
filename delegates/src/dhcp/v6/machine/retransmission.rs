//! How long to wait before a message is repeated (RFC 8415, 15).

use std::time::Duration;

use crate::dhcp::backoff::vary;

/// The first wait where somebody waits for a lease (RFC 8415, 7.6: SOL_TIMEOUT, REQ_TIMEOUT and REL_TIMEOUT).
const FIRST: Duration = Duration::from_secs(1);
/// The first and the longest wait where a lease is extended (REN_TIMEOUT, REN_MAX_RT and those of REBIND).
const FIRST_OF_EXTENSION: Duration = Duration::from_secs(10);
const MOST_OF_EXTENSION: Duration = Duration::from_secs(600);

/// Waits that double from one to the next, up to a limit, and vary by a tenth.
#[derive(Debug)]
pub struct Retransmission {
    first: Duration,
    most: Duration,
    last: Option<Duration>,
    count: usize,
}

impl Retransmission {
    /// Where somebody waits for the answer; no wait is longer than that.
    pub fn new(most: Duration) -> Self {
        let first = FIRST.min(most).max(Duration::from_millis(50));
        Self { first, most: most.max(first), last: None, count: 0 }
    }

    /// For a lease of which more time is asked for during this time at most. Where that is short, a message that is lost shall not cost
    /// all of it.
    pub fn of_extension(during: Duration) -> Self {
        let first = FIRST_OF_EXTENSION.min(during / 4);
        Self { first, most: MOST_OF_EXTENSION, last: None, count: 0 }
    }

    /// Whether the message has not been repeated yet.
    pub fn is_first(&self) -> bool {
        self.count < 2
    }

    /// The next wait, varied by a random number.
    pub fn next(&mut self, random: u32) -> Duration {
        let varied = |wait, by| vary(wait, by / 10, random);
        let wait = match self.last {
            None => varied(self.first, self.first),
            Some(last) => varied(last * 2, last),
        };
        let wait = if wait > self.most { varied(self.most, self.most) } else { wait };
        self.last = Some(wait);
        self.count += 1;
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(mut of: Retransmission, random: u32) -> Vec<u64> {
        (0..8).map(|_| of.next(random).as_millis() as u64).collect()
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let most = Duration::from_secs(62);
        let middle = u32::MAX / 2;
        let extension = |during| Retransmission::of_extension(Duration::from_secs(during));
        assert_eq!(
            waits(Retransmission::new(most), 0),
            [900, 1710, 3249, 6173, 11728, 22284, 42341, 55800]
        );
        assert_eq!(waits(Retransmission::new(most), middle)[..4], [1000, 2000, 4000, 8000]);
        assert_eq!(waits(extension(1350), u32::MAX)[..3], [11000, 23100, 48510]);
        assert_eq!(waits(extension(1350), u32::MAX)[7], 660_000);
        assert_eq!(waits(extension(12), middle)[..3], [3000, 6000, 12_000]);
    }
}
