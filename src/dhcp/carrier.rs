//! Waiting for an interface to carry packets. No thread is taken meanwhile, and none of the few that visit containers: others have
//! carriers, and are not to wait for those that have none.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{keeper::blocking, place, record::Record};

/// The first pause between two looks: as a rule the carrier is there by then. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause: each look is a visit.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Waits until the container's interface carries packets, or for as long as `limit`; returns whether it does.
pub async fn wait(record: &Record, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    while Instant::now() < end {
        sleep(pause).await;
        let record = record.clone();
        match blocking(move || place::carries(&record)).await {
            Ok(Some(false)) => {}
            Ok(Some(true)) => return true,
            // Whoever wants to send finds that out, and says it.
            Ok(None) | Err(_) => return false,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    false
}
