//! `catena try`: a network tried out, from ADD to the proof that nothing is left.

use std::{
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use chain::{
    Attachment, CniArgs, CniResult, Code, ConfList, Error, Executor, Request, Result, Step,
    StepKind,
};
use clap::Args;
use delegates::{
    Elements, Node,
    net::link::{Change, Veth, VethPeer},
    net::{Mac, Netns, addr::NewAddress},
};
use ipnet::IpNet;
use nft_templates::Key;
use serde_json::{Map, Value, json};

use crate::{
    cli::NetworkArgs,
    logging::steps,
    output,
    trial::{self, Namespace, View},
    wiring,
};

/// What to try.
#[derive(Args)]
pub struct TryArgs {
    #[command(flatten)]
    pub network: NetworkArgs,
    /// A port mapping to make and to fetch through [default: 8080:80/tcp where the chain has port mappings].
    #[arg(short, long, value_name = "[HOSTIP:]HOSTPORT:PORT[/PROTOCOL]")]
    pub publish: Vec<Publish>,
    /// Further capability arguments as a JSON object, e.g. '{"bandwidth":{"ingressRate":1000000,"ingressBurst":1000000}}'.
    #[arg(long, env = "CAP_ARGS", default_value = "{}", value_name = "JSON")]
    pub cap_args: String,
    /// Use this machine itself as the node, with its interfaces and rules, and not a throw-away one.
    #[arg(long)]
    pub on_this_node: bool,
    /// Show after each verb what each of its steps took.
    #[arg(long)]
    pub trace: bool,
}

/// A port mapping as podman and docker write it.
#[derive(Clone, Debug)]
pub struct Publish {
    host_ip: Option<IpAddr>,
    host_port: u16,
    container_port: u16,
    protocol: String,
}

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} must read [HOSTIP:]HOSTPORT:PORT[/PROTOCOL], for example 8080:80/tcp")
        };
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if !["tcp", "udp", "sctp"].contains(&protocol) {
            return Err(format!(
                "protocol {protocol:?} of {text:?} is not one of tcp, udp and sctp"
            ));
        }
        let (rest, container_port) = ports.rsplit_once(':').ok_or_else(wrong)?;
        let (host_ip, host_port) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((ip, port)) => (Some(ip.trim_matches(['[', ']'])), port),
        };
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong);
        Ok(Self {
            host_ip: host_ip.map(|ip| ip.parse().map_err(|_| wrong())).transpose()?,
            host_port: port(host_port)?,
            container_port: port(container_port)?,
            protocol: protocol.to_owned(),
        })
    }
}

/// The node's and its neighbour's addresses on the cable between them (RFC 5737 and RFC 3849: for documentation).
const NODE_END: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];
const OUTSIDE_END: [&str; 2] = ["192.0.2.2/24", "2001:db8::2/64"];

/// `catena try`.
pub fn run(args: &TryArgs) -> Result<()> {
    let list = args.network.load()?;
    let ports = ports(args, &list)?;
    let cap_args = capability_args(args, &ports)?;
    let place = if args.on_this_node {
        "on this node"
    } else {
        trial::throw_away_node()?;
        "in a throw-away node"
    };
    say(&format!("Trying network {} {place}\n\n", list.name))?;
    wiring::with_executor(None, args.network.path(), |executor, node| {
        let container = Namespace::new("container")?;
        let outside = if args.on_this_node { None } else { Some(lay_cable(node)?) };
        let attachment = Attachment {
            network: list.name.clone(),
            container_id: format!("try-{}", std::process::id()),
            ifname: "eth0".into(),
            netns: Some(container.path().into()),
            args: CniArgs::default(),
        };
        let observer = |step: &Step<'_>| report_step(step);
        let trial = Trial {
            executor,
            request: Request {
                list: &list,
                attachment: &attachment,
                capability_args: &cap_args,
                prev_result: None,
                observer: Some(&observer),
            },
            ports: &ports,
            container: &container,
            outside: outside.as_ref(),
            trace: args.trace,
        };
        let before = View::of(node)?;
        let tried = trial.go_through(node);
        let after = View::of(node)?;
        let left = report_what_is_left(&before, &after, tried.as_ref().ok());
        tried.and(left)
    })
}

/// One container on the network.
struct Trial<'t> {
    executor: &'t Executor<'t, Node>,
    request: Request<'t>,
    ports: &'t [Publish],
    container: &'t Namespace,
    outside: Option<&'t Namespace>,
    trace: bool,
}

impl Trial<'_> {
    /// ADD, a look at what it made, a fetch through each port, CHECK, DEL. DEL comes also after a failure.
    fn go_through(&self, node: &mut Node) -> Result<CniResult> {
        let result = self.traced(|| self.executor.add(&self.request, node))?;
        let seen = self
            .show(&result, node)
            .and_then(|()| self.fetch_all(&result, node))
            .and_then(|()| say("\n"))
            .and_then(|()| {
                if self.request.list.cni_version.has_check() {
                    let checked = self.traced(|| self.executor.check(&self.request, node));
                    checked.and_then(|()| if self.trace { say("\n") } else { Ok(()) })
                } else {
                    Ok(())
                }
            });
        let deleted = self.traced(|| self.executor.del(&self.request, node));
        seen.and(deleted).map(|()| result)
    }

    /// Runs a verb, and shows what its steps took where that is asked for, also where it fails.
    fn traced<T>(&self, verb: impl FnOnce() -> Result<T>) -> Result<T> {
        if !self.trace {
            return verb();
        }
        let (done, steps) = steps::watch(verb);
        let told = say(&format!("\n{}\n", output::steps_table(&steps)));
        done.and_then(|done| told.map(|()| done))
    }

    /// Shows what the chain made.
    fn show(&self, result: &CniResult, node: &Node) -> Result<()> {
        let mut text = format!("\n{}", output::result_table(result));
        if !self.ports.is_empty() {
            let mut table = output::table(&["HOST PORT", "LEADS TO"]);
            let owner = delegates::owner(self.request.attachment);
            for held in Elements::held(node.dirs())? {
                if let Some(to) = held.to.filter(|_| held.owner == owner) {
                    let port = held.key.to_string();
                    table.add_row([port.trim_start_matches("host port "), &to.to_string()]);
                }
            }
            _ = write!(text, "\n{table}\n");
        }
        let host = node.host()?;
        let mut rates = output::table(&["RATE", "BURST", "ON"]);
        for interface in result.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
            let Some(link) = host.link().get(&interface.name)? else { continue };
            if let Some(tbf) = host.tc().tbf(&link)? {
                rates.add_row([
                    format!("{} bit/s", tbf.rate_bytes * 8),
                    format!("{} bytes", tbf.burst_bytes),
                    interface.name.clone(),
                ]);
            }
        }
        if !rates.is_empty() {
            _ = write!(text, "\n{rates}\n");
        }
        say(&format!("{text}\n"))
    }

    /// Serves a page on each mapped port and fetches it from the node, from outside and from the container itself.
    fn fetch_all(&self, result: &CniResult, node: &Node) -> Result<()> {
        let inside = Netns::open(self.container.path())?;
        let families: Vec<bool> = [false, true]
            .into_iter()
            .filter(|v6| result.ips.iter().any(|ip| ip.address.addr().is_ipv6() == *v6))
            .collect();
        for port in self.ports {
            let serve = match port.protocol.as_str() {
                "tcp" => trial::serve_http,
                "udp" => trial::serve_udp,
                _ => continue,
            };
            inside.enter(|| serve(port.container_port))?.map_err(|error| {
                Error::io(format!(
                    "serve on port {} of the container: {error}",
                    port.container_port
                ))
            })?;
            for v6 in &families {
                let local: IpAddr =
                    if *v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
                if *v6 && port.host_ip.is_none() && !has_localhost6(port, node)? {
                    say(&format!(
                        "{}://[::1]:{} from the node: closed, since bridge-nf-call-ip6tables is 1 here\n",
                        port.protocol, port.host_port
                    ))?;
                } else {
                    self.fetch(port, local, "the node", None)?;
                }
                if let Some(outside) = self.outside {
                    let address = addresses(NODE_END[usize::from(*v6)])?.addr();
                    self.fetch(port, address, "outside", Some(outside))?;
                    self.fetch(port, address, "the container itself", Some(self.container))?;
                }
            }
        }
        Ok(())
    }

    /// Fetches from one place through the node's `address`, or the mapping's own where it has one.
    fn fetch(
        &self,
        port: &Publish,
        address: IpAddr,
        from: &str,
        place: Option<&Namespace>,
    ) -> Result<()> {
        let address = match port.host_ip.filter(|ip| !ip.is_unspecified()) {
            Some(ip) if ip.is_ipv4() != address.is_ipv4() => return Ok(()),
            Some(ip) => ip,
            None => address,
        };
        let server = SocketAddr::new(address, port.host_port);
        let fetch = if port.protocol == "tcp" { trial::fetch_http } else { trial::fetch_udp };
        let client = match place {
            None => fetch(server)?,
            Some(place) => Netns::open(place.path())?.enter(|| fetch(server))??,
        };
        say(&format!(
            "{}://{server} from {from}: answered; the container saw {client}\n",
            port.protocol
        ))
    }
}

/// Whether the port is one of `::1`: portmap leaves that out where answers would not come back.
fn has_localhost6(port: &Publish, node: &Node) -> Result<bool> {
    let localhost = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let is_it = |key: &Key| {
        matches!(key, Key::HostPort { host_ip, host_port, .. }
            if *host_ip == localhost && *host_port == port.host_port)
    };
    Ok(Elements::held(node.dirs())?.iter().any(|held| is_it(&held.key)))
}

/// The ports to map: those asked for, or one for show where the chain can map ports.
fn ports(args: &TryArgs, list: &ConfList) -> Result<Vec<Publish>> {
    let can = list
        .delegates(&Map::new())?
        .iter()
        .any(|conf| conf.capabilities.get("portMappings") == Some(&true));
    match (args.publish.as_slice(), can) {
        ([], false) => Ok(Vec::new()),
        ([], true) => Ok("8080:80/tcp".parse().into_iter().collect()),
        (asked, true) => Ok(asked.to_vec()),
        (_, false) => Err(Error::config(format!(
            "-p asks for port mappings, and no plugin of network {} declares the capability portMappings: add a portmap \
             plugin with \"capabilities\": {{\"portMappings\": true}}",
            list.name
        ))),
    }
}

fn capability_args(args: &TryArgs, ports: &[Publish]) -> Result<Map<String, Value>> {
    let mut all: Map<String, Value> = serde_json::from_str(&args.cap_args).map_err(|error| {
        Error::new(Code::Decode, format!("CAP_ARGS (--cap-args) is no JSON object: {error}"))
    })?;
    if !ports.is_empty() {
        let mappings = ports.iter().map(|port| {
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol,
                "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            })
        });
        all.insert("portMappings".into(), mappings.collect());
    }
    Ok(all)
}

/// Makes a neighbour outside, joined to the throw-away node by a cable, that routes everything through the node.
fn lay_cable(node: &Node) -> Result<Namespace> {
    let outside = Namespace::new("outside")?;
    let netns = Netns::open(outside.path())?;
    let host = node.host()?;
    host.link().set("lo", &Change { up: Some(true), ..Change::default() })?;
    host.link().add(&Veth {
        name: "uplink",
        mac: Mac::random()?,
        mtu: None,
        master: None,
        up: true,
        peer: VethPeer { name: "eth0", mac: Mac::random()?, netns: &netns },
    })?;
    let neighbour = node.container(outside.path())?;
    let neighbour = neighbour.net()?;
    neighbour.link().set("eth0", &Change { up: Some(true), ..Change::default() })?;
    for (net, name, ends) in [(&*host, "uplink", NODE_END), (neighbour, "eth0", OUTSIDE_END)] {
        let index = net.link().require(name)?.index;
        for end in ends {
            net.addr().add(index, &NewAddress::new(addresses(end)?))?;
        }
    }
    Ok(outside)
}

fn addresses(text: &str) -> Result<IpNet> {
    text.parse().map_err(|error| Error::internal(format!("{text}: {error}")))
}

/// Prints a step when it is done.
fn report_step(step: &Step<'_>) {
    let what = match step.kind {
        StepKind::BuiltIn => "",
        StepKind::Foreign => "  (executable)",
        StepKind::Flush => "  (what the plugins had put off: rules, connections, devices)",
    };
    let outcome = step.error.map(|error| format!("  failed: {error}")).unwrap_or_default();
    let milliseconds = step.duration.as_secs_f64() * 1e3;
    let line = format!(
        "{:5} {:12} {milliseconds:8.2} ms{what}{outcome}\n",
        step.verb.as_str(),
        step.delegate
    );
    if let Err(error) = output::print_text(&line) {
        tracing::debug!("standard output: {error}");
    }
}

/// Compares the node with what it was. What networks share stays by design, and is named.
fn report_what_is_left(before: &View, after: &View, result: Option<&CniResult>) -> Result<()> {
    let (new, gone) = after.since(before);
    let shared = |line: &str| {
        let word = |name: &str| line.split(' ').any(|word| word == name);
        let host = result.iter().flat_map(|result| &result.interfaces);
        let mut host = host.filter(|interface| interface.sandbox.is_empty());
        host.any(|interface| word(&interface.name))
            || line.starts_with("element ") && line.ends_with(" shared")
            || line.starts_with("file ")
                && (line.ends_with("/lock")
                    || line.ends_with("/.stamp")
                    || line.contains("/last_reserved_ip."))
    };
    let (shared, left): (Vec<_>, Vec<_>) = new.into_iter().partition(|line| shared(line));
    if left.is_empty() && gone.is_empty() {
        let mut text = format!("\nNothing is left: {}, as before.\n", before.summary());
        let bookkeeping = |line: &&str| line.starts_with("file ");
        let (files, devices): (Vec<_>, Vec<_>) = shared.into_iter().partition(bookkeeping);
        let mut kept: Vec<_> =
            devices.into_iter().filter_map(|line| line.strip_prefix("interface ")).collect();
        if !files.is_empty() {
            kept.push("what host-local remembers of the address given last");
        }
        if !kept.is_empty() {
            _ = writeln!(text, "Kept for the network's next container: {}.", kept.join(", "));
        }
        return say(&text);
    }
    let mut text = String::from("the node is not as it was before:");
    for line in left {
        _ = write!(text, " {line} is left;");
    }
    for line in gone {
        _ = write!(text, " {line} is gone;");
    }
    Err(Error::internal(text.trim_end_matches(';')))
}

fn say(text: &str) -> Result<()> {
    output::print_text(text)
        .map_err(|error: io::Error| Error::io(format!("standard output: {error}")))
}
