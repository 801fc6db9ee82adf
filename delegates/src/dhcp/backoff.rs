//! How long to wait before a message is repeated.

use std::time::Duration;

use super::Timing;

/// The first wait (RFC 2131, 4.1).
const FIRST: Duration = Duration::from_secs(4);
/// By how much a wait is varied at most, up or down, so that clients that began together do not go on together.
const VARIED: Duration = Duration::from_secs(1);
/// What no wait falls below, whatever is configured.
const LEAST: Duration = Duration::from_millis(50);

/// Waits that double from one to the next, up to a limit.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// From four seconds on, or from the time for one answer where that is shorter.
    pub fn new(timing: &Timing) -> Self {
        let most = timing.pause.max(LEAST);
        Self { next: FIRST.min(timing.answer).clamp(LEAST, most), most }
    }

    /// The next wait, varied by a random number.
    pub fn next(&mut self, random: u32) -> Duration {
        let wait = vary(self.next, VARIED, random);
        self.next = (self.next * 2).min(self.most);
        wait
    }
}

/// A duration, varied by up to `by` (but no more than a quarter of itself) in either direction.
pub fn vary(duration: Duration, by: Duration, random: u32) -> Duration {
    let by = by.min(duration / 4);
    duration - by + (by * 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waits(timing: &Timing, random: u32) -> Vec<f64> {
        let mut backoff = Backoff::new(timing);
        (0..6).map(|_| backoff.next(random).as_secs_f64()).collect()
    }

    #[test]
    fn waits_double_up_to_the_limit() {
        let timing = Timing::default();
        assert_eq!(waits(&timing, 0), [3.0, 7.0, 15.0, 31.0, 61.0, 61.0]);
        assert_eq!(waits(&timing, u32::MAX), [5.0, 9.0, 17.0, 33.0, 63.0, 63.0]);
        let short = Timing { answer: Duration::from_millis(200), ..timing };
        assert_eq!(waits(&short, 0)[..3], [0.15, 0.3, 0.6]);
    }

    proptest! {
        #[test]
        fn no_wait_is_none_whatever_is_configured(answer in 0u64..10_000, pause in 0u64..10_000, random: u32) {
            let millis = Duration::from_millis;
            let timing = Timing { answer: millis(answer), pause: millis(pause), all: millis(0) };
            for wait in waits(&timing, random) {
                prop_assert!((0.03..=12.5).contains(&wait), "{wait}");
            }
        }
    }
}
