//! What a state machine wants done.

use std::time::Duration;

use super::Failure;

/// What is to be done next: messages are of one kind, and what comes of it in the end of another.
#[derive(Debug)]
pub enum Step<M, L> {
    /// Send this, and call again when something arrives, or at that time.
    Send(M, Duration),
    /// Call again when something arrives, or at that time.
    Wait(Duration),
    /// It is done.
    Done(L),
    /// It is not to be done.
    Failed(Failure),
}
