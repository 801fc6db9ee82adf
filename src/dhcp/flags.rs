//! The command line of `dhcp daemon`, as the reference plugin has it.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::Parser;

use super::DEFAULT_SOCKET;

/// Gets leases for containers' interfaces from DHCP servers, keeps them and gives them back.
///
/// Flags are Go's: -flag and --flag are the same, a value comes as -flag VALUE or -flag=VALUE, and times are like 300ms, 62s or
/// 1m2.5s.
#[derive(Debug, Parser)]
#[command(name = "dhcp daemon", bin_name = "dhcp daemon", version, max_term_width = 100)]
pub struct Flags {
    /// Where the daemon listens, unless systemd hands it a socket.
    #[arg(long = "socketpath", default_value = DEFAULT_SOCKET, value_name = "PATH")]
    pub socket: PathBuf,
    /// A file for the daemon's process id; an absolute path.
    #[arg(long = "pidfile", value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
    /// What goes before the socket's and the namespaces' paths, for a daemon that sees the host's files elsewhere.
    #[arg(long = "hostprefix", default_value = "", hide_default_value = true, value_name = "PATH")]
    pub host_prefix: OsString,
    /// Ask servers to broadcast their answers.
    #[arg(
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        value_parser = boolean,
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pub broadcast: bool,
    /// How long an answer is waited for before a request is sent again.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
    /// The longest pause between two requests.
    #[arg(long = "resendmax", default_value = "62s", value_parser = duration, value_name = "DURATION")]
    pub resend_max: Duration,
    /// How long a container that is added waits for a lease.
    #[arg(long = "resendtimeout", default_value = "208s", value_parser = duration, value_name = "DURATION")]
    pub resend_timeout: Duration,
}

impl Flags {
    /// Reads what comes after `dhcp daemon`. What is wrong with it, or `-help`, ends the process.
    pub fn read(arguments: impl Iterator<Item = OsString>) -> Self {
        Self::parse_from(std::iter::once("dhcp daemon".into()).chain(arguments.map(two_dashes)))
    }
}

/// Go's flags have one dash or two.
fn two_dashes(argument: OsString) -> OsString {
    match argument.to_str().and_then(|text| text.strip_prefix('-')) {
        Some(name) if name.len() > 1 && name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            format!("--{name}").into()
        }
        _ => argument,
    }
}

/// What Go takes for a boolean (`strconv.ParseBool`).
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

/// A time as Go writes it (`time.ParseDuration`): numbers with units, one after the other, or 0. At least a millisecond, since
/// nothing here can be done faster.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || "a time is a number with its unit (ns, us, ms, s, m, h), like 62s or 1m2s".to_owned();
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, more) = rest.split_at(digits);
        let unit = more.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(more.len());
        let (unit, more) = more.split_at(unit);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(wrong()),
            };
        rest = more;
    }
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| wrong())?;
    match time < Duration::from_millis(1) {
        true => Err("at least 1ms".to_owned()),
        false => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Flags {
        Flags::read(line.split(' ').filter(|word| !word.is_empty()).map(OsString::from))
    }

    #[test]
    fn flags_are_gos() {
        let flags = read("");
        assert_eq!(flags.socket, PathBuf::from("/run/cni/dhcp.sock"));
        assert_eq!((flags.timeout.as_secs(), flags.resend_max.as_secs()), (10, 62));
        assert_eq!((flags.resend_timeout.as_secs(), flags.broadcast), (208, false));
        let flags = read(
            "-socketpath /run/x.sock --pidfile=/run/x.pid -hostprefix=/host -broadcast -timeout 1m2.5s -resendmax=300ms \
             --resendtimeout 1h",
        );
        assert_eq!(flags.socket, PathBuf::from("/run/x.sock"));
        assert_eq!(flags.pid_file, Some("/run/x.pid".into()));
        assert_eq!((flags.host_prefix.as_os_str(), flags.broadcast), ("/host".as_ref(), true));
        let times = [flags.timeout, flags.resend_max, flags.resend_timeout];
        assert_eq!(times.map(|time| time.as_millis()), [62_500, 300, 3_600_000]);
        assert!(!read("-broadcast=false").broadcast);
    }

    #[test]
    fn what_go_takes_for_no_time_is_none_here() {
        for text in [
            "",
            "5",
            "s",
            "1.2.3s",
            "5 s",
            "-5s",
            "1d",
            "0s",
            "1e400s",
            "999999999999999999999999h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("1.5h0.5m").unwrap(), Duration::from_secs(5430));
    }
}
