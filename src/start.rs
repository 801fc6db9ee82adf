//! The process's entry point, in place of the standard library's.
//!
//! That one reads `/proc/self/maps`, to find where the first thread's stack ends: a tenth of a millisecond, a sixth of what the
//! answer to VERSION takes. What is left out is only what it does with that: a stack that overflows ends the process by SIGSEGV all the
//! same, without a word of whose it was. Where the C library is another one than glibc, which gives a program its arguments before
//! this, it is the library's own.
#![allow(
    unsafe_code,
    reason = "an entry point, and what the process has from its parent, have no safe interface"
)]

use std::{
    ffi::c_int,
    panic,
    process::{self, ExitCode},
};

use nix::{
    libc,
    sys::signal::{SigHandler, Signal, signal},
};

/// The exit code after a panic, as of every Rust program.
const PANICKED: c_int = 101;

#[unsafe(no_mangle)]
extern "C" fn main() -> c_int {
    prepare();
    let code = match panic::catch_unwind(crate::run) {
        Ok(ExitCode::SUCCESS) => 0,
        Ok(_) => 1,
        Err(_) => PANICKED,
    };
    // Returning would leave what is buffered for standard output unwritten.
    process::exit(code)
}

/// Opens the standard streams that the parent has closed, or whatever is opened next would take their place; and has writing to
/// a pipe that nobody reads be an error, not the end.
fn prepare() {
    for stream in 0..=2 {
        // SAFETY: numbers go in and come out, and a text that is static.
        let is_there = unsafe {
            libc::fcntl(stream, libc::F_GETFD) != -1
                || libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != -1
        };
        assert!(is_there, "standard stream {stream} is closed, and /dev/null cannot be opened");
    }
    // SAFETY: there is no handler that could do anything.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) }.expect("SIGPIPE can be ignored");
}
