//! The tool's command line.

use std::{env, ffi::OsStr, io::IsTerminal, path::PathBuf, process::ExitCode};

use chain::{Error, Result, Version};
use clap::{
    Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::Resettable,
};

use crate::{commands, daemon, logging, output};

/// Gives containers their networks: a whole CNI chain in one process.
///
/// Under the name of a plugin (bridge, portmap, …) this binary is that CNI plugin; run by a container runtime as
/// "catena" it is the meta plugin. On the command line it runs networks as a runtime would.
#[derive(Parser)]
#[command(name = "catena", version, max_term_width = 100)]
struct Cli {
    /// Log the time of each step to standard error (CATENA_LOG sets it in detail).
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Attach a container to a network (ADD), and print the result.
    Add(Target),
    /// Undo ADD; what is already gone is no error (DEL).
    Del(Target),
    /// Tell whether a container is as ADD left it (CHECK).
    Check(Target),
    /// Remove what no valid attachment of a network owns (GC).
    Gc(GcTarget),
    /// Tell whether a network can take containers now (STATUS).
    Status(NetworkTarget),
    /// Put back what others took away from running containers: rules, bridges, addresses, routes, rates.
    Repair(commands::repair::RepairArgs),
    /// Print the versions of the CNI specification that are spoken, and of this binary.
    Version,
    /// Try a network in a throw-away node, step by step, and prove that nothing is left.
    Try(commands::try_::TryArgs),
    /// Put this binary and its plugins' names into a directory, also over a running version.
    Install(commands::install::InstallArgs),
    /// Serve the plugin's calls on this node: a faster way, and never the only one.
    Daemon(Box<daemon::Args>),
    /// Undo install: what had the plugins' names before has them again.
    Uninstall(commands::uninstall::UninstallArgs),
}

/// A network.
#[derive(Args)]
pub struct NetworkArgs {
    /// A configuration file (.conflist, .conf or .json), or the name of a network in --conf-dir.
    #[arg(value_name = "CONFLIST|NETWORK")]
    pub network: String,
    /// Where networks are looked for by name.
    #[arg(long, env = "NETCONFPATH", default_value = crate::kubernetes::conf::NET_DIR)]
    pub conf_dir: PathBuf,
    /// Where foreign plugins are looked for (directories with ':' between them).
    #[arg(long, env = "CNI_PATH", default_value = "/opt/cni/bin", value_name = "DIRS")]
    pub cni_path: std::ffi::OsString,
}

/// A container on a network.
#[derive(Args)]
pub struct Target {
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The container's network namespace: a path, or a name that "ip netns" knows.
    #[arg(value_name = "NETNS")]
    pub netns: String,
    /// The container's id [default: cnitool- and a hash of the namespace's path, as cnitool has it].
    #[arg(long, env = "CNI_CONTAINERID")]
    pub container_id: Option<String>,
    /// The interface to make inside the container.
    #[arg(long, env = "CNI_IFNAME", default_value = "eth0")]
    pub ifname: String,
    /// Arguments for the plugins, KEY=VALUE with ';' between them.
    #[arg(long, env = "CNI_ARGS", default_value = "")]
    pub args: String,
    /// Capability arguments as a JSON object, e.g. '{"portMappings":[{"hostPort":8080,"containerPort":80}]}'.
    #[arg(long, env = "CAP_ARGS", default_value = "{}", value_name = "JSON")]
    pub cap_args: String,
    /// How to print the result [default: table on a terminal, json elsewhere].
    #[arg(short, long, value_enum)]
    pub output: Option<Format>,
}

/// A network whose attachments are looked over.
#[derive(Args)]
pub struct GcTarget {
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Not used; taken since cnitool takes it.
    #[arg(value_name = "NETNS", hide = true)]
    pub netns: Option<String>,
    /// An attachment to keep; all others of the network are removed. May be given several times.
    #[arg(long, value_name = "CONTAINERID/IFNAME")]
    pub keep: Vec<String>,
    /// Keep none: remove every attachment of the network, live ones too.
    #[arg(long, conflicts_with = "keep")]
    pub all: bool,
}

/// A network that is asked for its state.
#[derive(Args)]
pub struct NetworkTarget {
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Not used; taken since cnitool takes it.
    #[arg(value_name = "NETNS", hide = true)]
    pub netns: Option<String>,
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The result as the specification has it.
    Json,
    /// A table for people.
    Table,
}

impl Format {
    /// The format asked for, or what suits standard output.
    pub fn or_suitable(asked: Option<Self>) -> Self {
        asked.unwrap_or(if std::io::stdout().is_terminal() { Self::Table } else { Self::Json })
    }
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let command = without_empty(Cli::command());
    let cli = Cli::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
    logging::init(match &cli.command {
        _ if cli.verbose => "debug",
        Verb::Daemon(_) => "info",
        _ => "warn",
    });
    if matches!(&cli.command, Verb::Try(args) if args.trace) {
        logging::measure_steps();
    }
    let done = match cli.command {
        Verb::Add(target) => commands::verbs::add(&target),
        Verb::Del(target) => commands::verbs::del(&target),
        Verb::Check(target) => commands::verbs::check(&target),
        Verb::Gc(target) => commands::verbs::gc(&target),
        Verb::Status(target) => commands::verbs::status(&target),
        Verb::Version => commands::verbs::version(),
        Verb::Try(args) => commands::try_::run(&args),
        Verb::Install(args) => commands::install::run(&args),
        Verb::Daemon(args) => daemon::run(&args),
        Verb::Uninstall(args) => commands::uninstall::run(&args),
        // Its report says what failed.
        Verb::Repair(args) => return exit(commands::repair::run(&args)),
    };
    exit(done.map(|()| ExitCode::SUCCESS))
}

/// The same, and variables that are empty count as not set: a ConfigMap or a unit's file cannot leave one out.
fn without_empty(command: Command) -> Command {
    let is_empty = |name: &OsStr| {
        env::var_os(name)
            .is_some_and(|value| value.to_str().is_some_and(|value| value.trim().is_empty()))
    };
    let command = command.mut_args(|arg| match arg.get_env().is_some_and(is_empty) {
        true => arg.env(Resettable::Reset),
        false => arg,
    });
    command.mut_subcommands(without_empty)
}

fn exit(outcome: Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| {
        report(&error);
        ExitCode::FAILURE
    })
}

/// A failure as cnitool's users know it: the error object on standard output, and a sentence for people on the terminal.
fn report(error: &Error) {
    eprintln!("catena: {error}");
    if !std::io::stdout().is_terminal()
        && let Err(error) = output::print_json(&error.to_json(Version::LATEST))
    {
        tracing::error!("standard output: {error}");
    }
}
