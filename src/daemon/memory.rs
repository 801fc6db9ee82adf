//! What the daemon keeps of the node's memory.
#![allow(unsafe_code, reason = "the allocator has no safe interface")]

use std::time::Duration;

use tokio::{sync::watch, time::sleep};

/// How long a thread that has done its call waits for the next one before it ends.
pub const THREADS_WAIT: Duration = Duration::from_secs(10);

/// How often memory is given back at most: what a thread keeps at hand for itself comes back to the heap when it ends.
const PAUSE: Duration = Duration::from_secs(12);

/// Has all threads share one heap. By default each has its own, and what a call has freed stays in that of its thread: with
/// many at once that was twice as much. Calls spend their time in the kernel, not in the allocator.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number; no thread has been started yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}

/// Gives back to the kernel what calls have freed, after each pause in which some came or ended, so that the last time is when
/// their threads have ended, too. By itself the heap keeps what the most calls at once took, but for its very end. Returns when
/// nobody counts `calls` any more.
pub async fn give_back(mut calls: watch::Receiver<usize>) {
    while calls.changed().await.is_ok() {
        sleep(PAUSE).await;
        trim();
    }
}

/// Gives back all free pages of the heap. It takes a millisecond at most after 32 calls at once.
fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches only what is free, under the heap's lock.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
