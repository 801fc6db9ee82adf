//! A child process that cannot hang, flood or outlive its caller.
#![allow(
    unsafe_code,
    reason = "what a child asks for itself between fork and exec (PR_SET_PDEATHSIG) has no safe interface"
)]

use std::{
    ffi::OsString,
    io,
    os::fd::AsFd,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, killpg},
    },
    unistd::{Pid, getpid, getppid},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::Limits;

/// What came of it.
pub(super) struct Output {
    pub end: Result<ExitStatus, Stopped>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// Why it was killed.
#[derive(Debug)]
pub(super) enum Stopped {
    /// It took too long.
    Time,
    /// It wrote too much to this stream.
    Output(&'static str),
}

/// Runs a program to its end. Blocks the calling thread, which must live on meanwhile: its end is the child's.
pub(super) fn run(
    program: &Path,
    env: &[(&'static str, OsString)],
    stdin: &[u8],
    limits: Limits,
) -> io::Result<Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut child = spawn(program, env).await?;
        let (mut stdout, mut stderr) = (Vec::with_capacity(8192), Vec::with_capacity(1024));
        let end = timeout(limits.time, follow(&mut child, stdin, &mut stdout, &mut stderr, limits));
        let end = match end.await {
            Ok(Ok(end)) => end?,
            Ok(Err(stopped)) => {
                kill(&mut child).await;
                return Ok(Output { end: Err(stopped), stdout, stderr });
            }
            Err(_elapsed) => {
                kill(&mut child).await;
                return Ok(Output { end: Err(Stopped::Time), stdout, stderr });
            }
        };
        Ok(Output { end: Ok(end), stdout, stderr })
    })
}

/// Starts the program in a process group of its own, so that its children can be killed with it.
async fn spawn(program: &Path, env: &[(&'static str, OsString)]) -> io::Result<Child> {
    let mut command = Command::new(program);
    command
        .envs(env.iter().map(|(key, value)| (*key, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let caller = getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl and getppid.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // The caller may have died before the line above.
            if getppid() == caller { Ok(()) } else { Err(Errno::ESRCH.into()) }
        });
    }
    // A plugin that is just being replaced cannot be executed for a moment (libcni tries six times as well).
    let mut tries = 1;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < 6 => {
                tries += 1;
                sleep(Duration::from_millis(200)).await;
            }
            spawned => return spawned,
        }
    }
}

/// Feeds and reads the child until it has ended; what it then has written is all there is. Its children may hold the
/// pipes open for ever, and nobody waits for those.
async fn follow(
    child: &mut Child,
    stdin: &[u8],
    stdout: &mut Vec<u8>,
    stderr: &mut Vec<u8>,
    limits: Limits,
) -> Result<io::Result<ExitStatus>, Stopped> {
    let taken = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut to), Some(mut out), Some(mut err)) = taken else {
        unreachable!("all three streams are pipes")
    };
    let status = {
        let write = async move {
            // A plugin need not read its stdin; what becomes of it is seen by how it ends.
            let _ = to.write_all(stdin).await;
            Ok(())
        };
        // Ends when all are through, or with the first that floods.
        let reading = async {
            tokio::try_join!(
                write,
                read(&mut out, stdout, "stdout", limits.output),
                read(&mut err, stderr, "stderr", limits.output),
            )
        };
        tokio::pin!(reading);
        let waiting = child.wait();
        tokio::pin!(waiting);
        tokio::select! {
            status = &mut waiting => status,
            read = &mut reading => {
                read?;
                waiting.await
            }
        }
    };
    drain(&out, stdout, "stdout", limits.output)?;
    drain(&err, stderr, "stderr", limits.output)?;
    Ok(status)
}

async fn read(
    pipe: &mut (impl AsyncRead + Unpin),
    into: &mut Vec<u8>,
    stream: &'static str,
    limit: usize,
) -> Result<(), Stopped> {
    while let Ok(1..) = pipe.read_buf(into).await {
        if into.len() > limit {
            return Err(Stopped::Output(stream));
        }
    }
    Ok(())
}

/// Reads what is left in a pipe (it is non-blocking).
fn drain(
    pipe: &impl AsFd,
    into: &mut Vec<u8>,
    stream: &'static str,
    limit: usize,
) -> Result<(), Stopped> {
    let mut chunk = [0; 8192];
    loop {
        match nix::unistd::read(pipe, &mut chunk) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => into.extend_from_slice(&chunk[..count]),
        }
        if into.len() > limit {
            return Err(Stopped::Output(stream));
        }
    }
}

/// Kills the process group and reaps the child.
async fn kill(child: &mut Child) {
    if let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may just have ended by itself.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    // A process in an uninterruptible call dies when that returns: not waited for beyond this.
    let _ = timeout(Duration::from_secs(5), child.wait()).await;
}
