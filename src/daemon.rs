//! `catena daemon`: serves the plugin's calls on a node.
//!
//! The daemon is an accelerator and a controller, never a single point of failure: where it is not there, or does not answer,
//! the plugin does the same work by the same code (see [`handover`]). One thread waits for what comes; each call
//! has a thread of its own, since delegates block, and no more than [`Args::at_once`] are at work, but for those that [wait for
//! others](turns).

mod cached;
mod cluster;
mod health;
mod host_mounts;
mod hotplug;
mod http;
mod memory;
mod metrics;
mod multus;
mod network;
mod receive;
mod server;
mod socket;
mod turns;
mod watch;
mod work;

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chain::{Dirs, Error, Result};
use delegates::ipam::dhcp::default_socket;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{Signal, SignalKind, signal},
};

use self::{
    health::Health, metrics::Metrics, multus::Shims, network::Network, server::Server,
    socket::Place,
};
pub use self::{memory::share_heap, socket::is_allowed};
use crate::{
    dhcp, handover,
    kubernetes::client::source::SERVICE_ACCOUNT,
    multus_shim::DaemonConfig,
    net_conf::{Keeper, NetConf, NetConfArgs},
    wiring,
};

/// What the daemon is told on the command line.
#[derive(clap::Args)]
pub struct Args {
    /// How many calls are at work at once; others wait.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..), value_name = "CALLS")]
    pub at_once: u16,
    /// How many calls may wait; beyond that the runtime is told to try again later.
    #[arg(long, default_value_t = 512, value_name = "CALLS")]
    pub waiting: u16,
    /// How many seconds the calls at work are given to end when the daemon is told to stop.
    #[arg(long, default_value_t = 25, value_name = "SECONDS")]
    pub drain: u16,
    /// A kubeconfig of the cluster [default: the account of the pod that the daemon runs in, if it runs in one].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name in the cluster [default: the host's name].
    #[arg(long, env = "NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Where the daemon's sockets and locks are. The plugin finds them by the variable.
    #[arg(long, env = wiring::RUN_DIR, default_value_os_t = Dirs::default().run, value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Where records are kept, and the leases of --pod-network. The plugin finds them by the variable.
    #[arg(long, env = wiring::STATE_DIR, default_value_os_t = Dirs::default().state, value_name = "DIR")]
    pub state_dir: PathBuf,
    /// Work in the host's mount namespace: for a daemon in a privileged pod with hostPID. All paths but those of its account
    /// and settings are the host's then.
    #[arg(long)]
    pub host_mounts: bool,
    /// Multus's daemon-config.json: its keys count for the calls of Multus's shim, which are served on its socket, too.
    #[arg(long, value_name = "FILE")]
    pub multus_config: Option<PathBuf>,
    #[command(flatten)]
    pub conf: NetConfArgs,
    /// The directory that the runtime looks for plugins in: no network is written for it before its plugins are there.
    #[arg(long, default_value = "/opt/cni/bin", value_name = "DIR")]
    pub bin_dir: PathBuf,
    #[command(flatten)]
    pub network: network::NetworkArgs,
    /// Where containers' plugins find the DHCP daemon that this one is, too
    /// [default: /run/cni/dhcp.sock, with another --run-dir dhcp.sock there].
    #[arg(long, value_name = "PATH", conflicts_with = "no_dhcp")]
    pub dhcp_socket: Option<PathBuf>,
    /// Ask DHCP servers to broadcast their answers: for networks where a unicast does not reach who has no address yet.
    #[arg(long, conflicts_with = "no_dhcp")]
    pub dhcp_broadcast: bool,
    /// Keep no leases of DHCP servers.
    #[arg(long)]
    pub no_dhcp: bool,
    /// Serve /metrics, /healthz and /readyz here as well, e.g. 127.0.0.1:9464.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_address: Option<SocketAddr>,
}

/// Runs the daemon until it is told to stop (SIGTERM, SIGINT).
pub fn run(args: &Args) -> Result<()> {
    let conf =
        args.conf.write_conf.then(|| NetConf::open(&args.conf, &args.bin_dir)).transpose()?;
    let conf = conf.map(Arc::new);
    let network = Network::open(args, conf.as_ref())?;
    share_heap();
    let multus = args.multus_config.as_deref().map(|path| {
        DaemonConfig::read(path)?.ok_or_else(|| {
            Error::config(format!("--multus-config {}: there is none", path.display()))
        })
    });
    let multus = multus.transpose()?;
    // There are no other threads yet.
    let account = match args.host_mounts {
        true => host_mounts::enter(Path::new(SERVICE_ACCOUNT))?,
        false => SERVICE_ACCOUNT.into(),
    };
    let dirs = [("--run-dir", Some(&args.run_dir)), ("--state-dir", Some(&args.state_dir))];
    for (flag, dir) in dirs.into_iter().chain([("--dhcp-socket", args.dhcp_socket.as_ref())]) {
        if let Some(dir) = dir.filter(|dir| !dir.is_absolute()) {
            return Err(Error::config(format!(
                "{flag} {}: it must be an absolute path",
                dir.display()
            )));
        }
    }
    wiring::set_dirs(args.state_dir.clone(), args.run_dir.clone());
    let dirs = wiring::dirs()?;
    let place = Place::take(&dirs)?;
    let dhcp_socket = args.dhcp_socket.clone().unwrap_or_else(|| default_socket(&dirs));
    // It ends last: calls at work may need it.
    let _dhcp = match args.no_dhcp {
        true => None,
        false => Some(dhcp::Service::start(dhcp::Serving {
            socket: dhcp_socket,
            dirs: dirs.clone(),
            manner: dhcp::Manner { broadcast: args.dhcp_broadcast, ..dhcp::Manner::default() },
            host_prefix: PathBuf::new(),
        })?),
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        // Beside the calls and the edits of pods there are look-ups of names.
        .max_blocking_threads(
            usize::from(args.at_once) + server::LONG_AT_ONCE + hotplug::THREADS + 4,
        )
        .thread_keep_alive(memory::THREADS_WAIT)
        .build()
        .map_err(|error| Error::io(format!("the runtime: {error}")))?;
    let done = runtime.block_on(serve(args, &account, &place, conf, network, multus));
    // What is still at work has had its time: it ends with the process, and its records say how far it came.
    runtime.shutdown_background();
    done
}

async fn serve(
    args: &Args,
    account: &Path,
    place: &Place,
    conf: Option<Arc<NetConf>>,
    network: Option<Network>,
    multus: Option<DaemonConfig>,
) -> Result<()> {
    let mut ends = [told(SignalKind::terminate())?, told(SignalKind::interrupt())?];
    let metrics = Arc::new(Metrics::default());
    let cluster = cluster::find(args, account).await?;
    let mut watches = if cluster.is_some() { cluster::WATCHES.to_vec() } else { Vec::new() };
    if network.as_ref().is_some_and(Network::watches_nodes) {
        if cluster.is_none() {
            return Err(Error::config(
                "--pod-routes and --pod-network need a cluster: give --kubeconfig, or run in a pod with a service account",
            ));
        }
        watches.push(network::WATCH);
    }
    let health = Arc::new(Health::new(&watches));
    let multus_metrics = multus.as_ref().and_then(DaemonConfig::metrics_port);
    let metrics_address =
        args.metrics_address.or(multus_metrics.map(|port| (Ipv6Addr::UNSPECIFIED, port).into()));
    if let Some(address) = metrics_address {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::io(format!("metrics on {address}: {error}")))?;
        tokio::spawn(http::serve(http::Door::Tcp(listener), metrics.clone(), health.clone()));
    }
    let inside = place.listen("health.sock")?;
    tokio::spawn(http::serve(http::Door::Unix(inside), metrics.clone(), health.clone()));

    let cluster = cluster.map(|found| {
        let node_name = found.node_name().to_owned();
        (node_name, found.watch(&metrics, &health))
    });
    match (network, &cluster) {
        (Some(network), Some((node_name, cluster))) if network.watches_nodes() => {
            network.follow_nodes(node_name.clone(), cluster, metrics.clone(), &health);
        }
        (Some(network), cluster) => {
            let cluster = cluster.as_ref().map(|(_, cluster)| cluster.clone());
            tokio::spawn(network.follow_subnet_env(cluster, metrics.clone()));
        }
        (None, _) => {}
    }
    let cluster = cluster.map(|(_, cluster)| cluster);
    let server =
        Arc::new(Server::new(args, place.dirs().clone(), cluster, multus.clone(), metrics));
    tokio::spawn(memory::give_back(server.taken()));
    let listener = place.listen(handover::SOCKET)?;
    let serving = tokio::spawn(server.clone().accept(listener));
    let shims = match multus {
        Some(config) => Some(Shims::serve(server.clone(), config)?),
        None => None,
    };
    health.set_serving(true);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), dir = %place.dirs().run.display(), "serving");
    // It leads runtimes here: from now on somebody answers.
    let _keeper = conf.map(Keeper::start).transpose()?;

    let [term, int] = &mut ends;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    health.set_serving(false);
    // From here on plugins find no socket; those that have just connected are told to do it themselves.
    place.leave(handover::SOCKET);
    drop(shims);
    let left = server.drain(Duration::from_secs(args.drain.into())).await;
    serving.abort();
    place.leave("health.sock");
    if left > 0 {
        tracing::warn!(
            left,
            "calls are still at work; they end here, and the next DEL goes on from their records"
        );
    }
    Ok(())
}

fn told(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|error| Error::io(format!("waiting for signals: {error}")))
}
