//! What the daemon keeps of the node's memory.
#![allow(unsafe_code, reason = "the allocator has no safe interface")]

/// Has all threads share one heap. By default each has its own, and what a call has freed stays in that of its thread: with
/// many at once that was twice as much. Calls spend their time in the kernel, not in the allocator.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it sets a number; no thread has been started yet.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
    }
}
