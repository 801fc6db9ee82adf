//! The calls that come by the socket: which are taken, how many at once, and their end.

use std::{
    ffi::OsString,
    fs::File,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chain::{Code, Dirs, Error, Verb, Version};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::{interval, sleep, timeout},
};

use super::{
    Args,
    cached::Cached,
    metrics::Metrics,
    receive,
    socket::is_allowed,
    turns::Turns,
    work::{self, Caller},
};
use crate::{
    handover::{Answer, FileId, NodeId, PROTOCOL, Request},
    multus_shim::{self, DaemonConfig},
    plugin::{Invocation, Served, version_of},
    wiring,
};

/// How long a plugin may take to send its request.
const SENDING: Duration = Duration::from_secs(10);

/// How many calls may take long at once, beside those at work.
pub const LONG_AT_ONCE: usize = 128;

/// How often a plugin is told that the daemon is alive. The plugin's patience is ten times as long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Why a call is not begun any more.
const ENDING: &str = "the daemon is about to end";

/// A call that is taken and not answered.
struct Taken<'s>(&'s Server);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.metrics.taken.dec();
        self.0.taken.send_modify(|taken| *taken -= 1);
    }
}

/// Serves calls.
pub struct Server {
    dirs: Dirs,
    /// The network namespace of this process.
    network: Option<FileId>,
    turns: Turns,
    most_waiting: usize,
    /// The calls that are taken and not answered: those at work, and those that wait.
    taken: watch::Sender<usize>,
    most_at_work: usize,
    cluster: Option<Arc<Cached>>,
    multus: Option<DaemonConfig>,
    metrics: Arc<Metrics>,
}

impl Server {
    /// A server with the limits that the command line gives. Without a `cluster` a call's configuration says which.
    pub fn new(
        args: &Args,
        dirs: Dirs,
        cluster: Option<Arc<Cached>>,
        multus: Option<DaemonConfig>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            network: NodeId::own(&dirs).network,
            dirs,
            turns: Turns::new(args.at_once.into(), LONG_AT_ONCE, Some(metrics.clone())),
            most_waiting: args.waiting.into(),
            taken: watch::channel(0).0,
            most_at_work: args.at_once.into(),
            cluster,
            multus,
            metrics,
        }
    }

    /// How many calls are taken and not answered, whenever that changes.
    pub fn taken(&self) -> watch::Receiver<usize> {
        self.taken.subscribe()
    }

    /// Accepts connections for ever.
    pub async fn accept(self: Arc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().connected(stream));
                }
                Err(error) => {
                    // No descriptor is left, for instance: others have to end first.
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Takes no further calls, refuses those that wait, and waits for those at work, but not for longer than `limit`;
    /// returns how many of them are left.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.turns.close();
        let mut taken = self.taken.subscribe();
        let _ = timeout(limit, taken.wait_for(|taken| *taken == 0)).await;
        *taken.borrow()
    }

    async fn connected(self: Arc<Self>, stream: UnixStream) {
        if !is_allowed(&stream) {
            return;
        }
        let caller = Arc::new(Caller::new(stream));
        let read = match timeout(SENDING, receive::request(caller.stream())).await {
            Ok(Ok((request, netns))) => self.read(&request, netns),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("no request within {} s", SENDING.as_secs())),
        };
        match read {
            Ok(invocation) => self.serve(invocation, caller).await,
            Err(why) => self.refuse(&caller, why),
        }
    }

    /// A call, or why the plugin is to do it itself.
    fn read(&self, request: &[u8], netns: Option<File>) -> Result<Invocation, String> {
        let protocol = serde_json::from_slice::<Protocol>(request)
            .map_err(|error| format!("the request cannot be understood: {error}"))?;
        if protocol.protocol != PROTOCOL {
            return Err(format!(
                "the plugin speaks version {} of the exchange, and the daemon {PROTOCOL}",
                protocol.protocol
            ));
        }
        let request: Request = serde_json::from_slice(request)
            .map_err(|error| format!("the request cannot be understood: {error}"))?;
        let kind = wiring::builtin_kind(&request.kind)
            .ok_or_else(|| format!("the daemon knows no plugin {:?}", request.kind))?;
        if request.node.network != self.network {
            return Err("the daemon is in another network namespace".to_owned());
        }
        if request.node.state != FileId::at(&self.dirs.state) {
            return Err(format!("{} is another folder for the daemon", self.dirs.state.display()));
        }
        let get = |name: &str| request.env.get(name).map(OsString::from);
        let path = request.env.get("CNI_NETNS").filter(|path| !path.is_empty());
        if let Some(path) = path
            && FileId::at(Path::new(path)) != netns.as_ref().and_then(FileId::of)
        {
            return Err(format!("{path} is another namespace for the daemon"));
        }
        drop(netns);
        let command = get("CNI_COMMAND").unwrap_or_default();
        let stdin = request.stdin.into_bytes();
        let stdin = match &self.multus {
            Some(config) if kind == multus_shim::KIND => config.lay_over(stdin),
            _ => stdin,
        };
        Invocation::read(kind, &command, get, || Ok(stdin)).map_err(|error| error.to_string())
    }

    /// Does a call that came another way, for somebody who would not do it by himself.
    ///
    /// Errors: the daemon is about to end.
    pub async fn call(&self, invocation: Invocation) -> Result<Served, String> {
        let (dirs, cluster) = (self.dirs.clone(), self.cluster.clone());
        let verb = invocation.verb;
        let _taken = self.take();
        let served = if self.is_full() {
            self.put_off(&invocation)
        } else {
            let work = move || Some(work::alone(&invocation, &dirs, cluster.as_deref()));
            let served = self.take_turn(verb, work).await.ok_or(ENDING)?;
            served.ok_or("the call broke off; see the daemon's log")?
        };
        Ok(served)
    }

    async fn serve(&self, invocation: Invocation, caller: Arc<Caller>) {
        let _taken = self.take();
        if self.is_full() {
            caller.answer(&Answer::Served(self.put_off(&invocation)));
            return;
        }
        let (dirs, cluster) = (self.dirs.clone(), self.cluster.clone());
        let (verb, own) = (invocation.verb, caller.clone());
        let work = move || work::run(&invocation, &own, &dirs, cluster.as_deref());
        tokio::select! {
            turn = self.take_turn(verb, work) => {
                if turn.is_none() {
                    self.refuse(&caller, ENDING.to_owned());
                }
            }
            () = signs_of_life(&caller) => {}
        }
    }

    /// Counts a call as taken, until this is dropped.
    fn take(&self) -> Taken<'_> {
        self.taken.send_modify(|taken| *taken += 1);
        self.metrics.taken.inc();
        Taken(self)
    }

    /// Whether more calls are taken than may wait.
    fn is_full(&self) -> bool {
        *self.taken.borrow() > self.most_at_work + self.most_waiting
    }

    /// Waits for a call's turn, and for its end; `None` where the daemon is about to end. What `work` returns is `None` where
    /// there was nobody to work for.
    async fn take_turn(
        &self,
        verb: Verb,
        work: impl FnOnce() -> Option<Served> + Send + 'static,
    ) -> Option<Option<Served>> {
        let turn = self.turns.next().await?;
        let begun = Instant::now();
        let served = turn.work(work).await;
        match &served {
            Ok(Some(served)) => self.metrics.served(verb, served, begun.elapsed()),
            Ok(None) => tracing::info!(verb = verb.as_str(), "the plugin has not waited"),
            Err(error) => tracing::error!(%error, verb = verb.as_str(), "the call broke off"),
        }
        Some(served.ok().flatten())
    }

    /// Has the runtime try again later: the node is asked for more than it can do.
    fn put_off(&self, invocation: &Invocation) -> Served {
        let error = Error::new(
            Code::TryAgain,
            format!(
                "{} calls are at work on this node and {} wait for their turn; try again",
                self.most_at_work, self.most_waiting
            ),
        );
        let version = version_of(&invocation.stdin).unwrap_or(Version::LATEST);
        let served = Served::failed(&error, version);
        self.metrics.served(invocation.verb, &served, Duration::ZERO);
        served
    }

    fn refuse(&self, caller: &Caller, why: String) {
        tracing::info!(why, "a call is left to the plugin");
        self.metrics.refused.inc();
        caller.answer(&Answer::Refused(why));
    }
}

/// What every version of a request has.
#[derive(serde::Deserialize)]
struct Protocol {
    protocol: u32,
}

async fn signs_of_life(caller: &Caller) {
    let mut tick = interval(SIGN_OF_LIFE);
    loop {
        tick.tick().await;
        caller.sign_of_life();
    }
}
