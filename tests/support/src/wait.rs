//! Waiting for a condition, never for a time.

use std::thread;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(5);

/// Asks `probe` again and again until it answers with a value; panics after `deadline` with
/// `what` was waited for.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, probe: impl FnMut() -> Option<T>) -> T {
    within(deadline, probe).unwrap_or_else(|| panic!("waited {deadline:?} in vain until {what}"))
}

/// The same for what may never come: `None` after `deadline`.
pub(crate) fn within<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let answer = probe();
        if answer.is_some() || start.elapsed() >= deadline {
            return answer;
        }
        thread::sleep(POLL);
    }
}
