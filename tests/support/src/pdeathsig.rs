//! Children die with the thread that started them.
#![allow(unsafe_code, reason = "CommandExt::pre_exec is unsafe; the hook makes two system calls")]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

/// Has the kernel kill `command`'s process as soon as the calling *thread* is gone, be it by the
/// test's end, a panic, or SIGKILL of the whole test process.
pub(crate) fn die_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let hook = move || {
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have died between the fork and the line above.
        if getppid() != parent {
            return Err(io::Error::other("the test is gone already"));
        }
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; the hook makes
    // prctl(2) and getppid(2), and allocates in the branch alone that ends the child.
    unsafe { command.pre_exec(hook) };
}
