//! Killing a process at one of its system calls.
#![allow(unsafe_code, reason = "CommandExt::pre_exec is unsafe; the hook makes one system call")]

use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{ExitStatus, Stdio};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::exec::{Output, Run};
use crate::pdeathsig::die_with_this_thread;

impl Run {
    /// Runs the process until it comes to its `point`-th system call (from 1), those of all its threads counted
    /// together, and kills it with SIGKILL instead of that call. `None` if it was killed; where it ended before, what
    /// came of it.
    ///
    /// (`strace -f -e inject=all:signal=KILL:when=N` counts each thread's calls by themselves, so that a thread that
    /// makes few calls is never killed at any of them.)
    ///
    /// The process may read and write no more than a pipe holds. Nothing else that the calling thread
    /// has started may end meanwhile.
    pub fn killed_at(mut self, point: usize) -> Option<Output> {
        let input = self.take_stdin();
        let command = self.command_mut();
        die_with_this_thread(command);
        // SAFETY: between fork and exec this makes one system call, ptrace(2).
        unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[allow(clippy::zombie_processes, reason = "it is waited for as a tracer does")]
        let mut child = self.spawn_child();
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(&input).unwrap_or_else(|e| panic!("`{}`: {e}", self.line()));
        }
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let leader = Pid::from_raw(child.id().cast_signed());
        let status = follow(leader, point)
            .unwrap_or_else(|e| panic!("tracing `{}` to call {point}: {e}", self.line()))?;
        let mut texts = [Vec::new(), Vec::new()];
        stdout.and_then(|mut pipe| pipe.read_to_end(&mut texts[0]).ok());
        stderr.and_then(|mut pipe| pipe.read_to_end(&mut texts[1]).ok());
        let [stdout, stderr] = texts;
        Some(self.into_output(status, &stdout, &stderr))
    }
}

/// Follows a process, stopped at its first instruction, to its end: `None` where that was being killed.
fn follow(leader: Pid, point: usize) -> nix::Result<Option<ExitStatus>> {
    let every_thread = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    waitpid(leader, Some(every_thread))?;
    ptrace::setoptions(
        leader,
        Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_EXITKILL,
    )?;
    resume(leader, None)?;
    let mut calls = 0;
    loop {
        match waitpid(None, Some(every_thread))? {
            WaitStatus::PtraceSyscall(thread) => {
                calls += usize::from(is_entry(thread));
                if calls >= point {
                    kill(leader, Signal::SIGKILL)?;
                }
                resume(thread, None)?;
            }
            WaitStatus::PtraceEvent(thread, ..) => resume(thread, None)?,
            // A new thread's first stop, which nobody sent.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) => resume(thread, None)?,
            WaitStatus::Stopped(thread, signal) => resume(thread, Some(signal))?,
            WaitStatus::Exited(thread, code) if thread == leader => {
                return Ok(Some(ExitStatus::from_raw(code << 8)));
            }
            WaitStatus::Signaled(thread, Signal::SIGKILL, _) if thread == leader => {
                return Ok(None);
            }
            WaitStatus::Signaled(thread, signal, _) if thread == leader => {
                return Ok(Some(ExitStatus::from_raw(signal as i32)));
            }
            _ => {}
        }
    }
}

/// Whether a thread has stopped before a system call, and not after one.
fn is_entry(thread: Pid) -> bool {
    ptrace::syscall_info(thread).is_ok_and(|info| info.op == nix::libc::PTRACE_SYSCALL_INFO_ENTRY)
}

/// Lets a thread go on to its next stop. It may just have been killed.
fn resume(thread: Pid, signal: Option<Signal>) -> nix::Result<()> {
    match ptrace::syscall(thread, signal) {
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        resumed => resumed,
    }
}
