//! The command line of `dhcp daemon`, as the reference plugin has it.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{
    Parser,
    builder::{OsStringValueParser, TypedValueParser},
};
use delegates::dhcp::Timing;

use super::DEFAULT_SOCKET;

/// Gets leases for containers' interfaces from DHCP servers, keeps them and gives them back.
///
/// Flags are Go's: -flag and --flag are the same, a value comes as -flag VALUE or -flag=VALUE (-broadcast=false), and times are like
/// 300ms, 62s or 1m2.5s. Of a flag that is there twice the last counts. Nothing is read from the first word on that is no flag.
#[derive(Debug, Parser)]
#[command(
    name = "dhcp daemon",
    bin_name = "dhcp daemon",
    version,
    max_term_width = 100,
    args_override_self = true
)]
pub struct Flags {
    /// Where the daemon listens, unless systemd hands it a socket.
    #[arg(
        long = "socketpath",
        default_value = DEFAULT_SOCKET,
        value_name = "PATH",
        value_parser = OsStringValueParser::new().map(socket)
    )]
    pub socket: PathBuf,
    /// A file for the daemon's process id; an absolute path.
    #[arg(
        long = "pidfile",
        default_value = "",
        hide_default_value = true,
        value_name = "PATH",
        value_parser = OsStringValueParser::new().map(PathBuf::from)
    )]
    pid_file: PathBuf,
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
    timeout: Duration,
    /// The longest pause between two requests.
    #[arg(long = "resendmax", default_value = "62s", value_parser = duration_or_none, value_name = "DURATION")]
    resend_max: Duration,
    /// How long a container that is added waits for a lease; 0 is as long as for one answer.
    #[arg(long = "resendtimeout", default_value = "208s", value_parser = duration_or_none, value_name = "DURATION")]
    resend_timeout: Duration,
}

impl Flags {
    /// Reads what comes after `dhcp daemon`. What is wrong with it, or `-help`, ends the process.
    pub fn read(arguments: impl Iterator<Item = OsString>) -> Self {
        Self::parse_from(std::iter::once("dhcp daemon".into()).chain(as_go_reads(arguments)))
    }

    /// The file for the process id, where there is to be one.
    pub fn pid_file(&self) -> Option<&Path> {
        Some(&*self.pid_file).filter(|path| !path.as_os_str().is_empty())
    }

    /// How long servers are waited for.
    pub fn timing(&self) -> Timing {
        let all = if self.resend_timeout.is_zero() { self.timeout } else { self.resend_timeout };
        Timing { answer: self.timeout, pause: self.resend_max, all }
    }
}

/// Flags that take no value from the next word.
const ALONE: [&[u8]; 5] = [b"broadcast", b"help", b"h", b"version", b"V"];

/// A command line as Go's package flag reads it, for clap: with two dashes, and each value in its flag's word. A flag that is not
/// among [`ALONE`] has the next word for its value, whatever that is. A word that is no flag ends them, and so does `--`.
fn as_go_reads(mut arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut read = Vec::new();
    while let Some(argument) = arguments.next() {
        let bytes = argument.as_bytes();
        let name = bytes.strip_prefix(b"--").or(bytes.strip_prefix(b"-")).unwrap_or_default();
        if name.is_empty() {
            let words: Vec<_> = std::iter::once(argument).chain(arguments).collect();
            if words != ["--"] {
                let words = words.join(" ".as_ref());
                tracing::warn!("dhcp daemon: {}: that is no flag; it is not read", words.display());
            }
            break;
        }
        let mut word = OsString::from(if name.len() > 1 { "--" } else { "-" });
        word.push(OsStr::from_bytes(name));
        if !ALONE.contains(&name)
            && !name.contains(&b'=')
            && let Some(value) = arguments.next()
        {
            word.push("=");
            word.push(value);
        }
        read.push(word);
    }
    read
}

/// As with the reference, no path is the usual one.
fn socket(path: OsString) -> PathBuf {
    if path.is_empty() { DEFAULT_SOCKET.into() } else { path.into() }
}

/// What Go takes for a boolean (`strconv.ParseBool`).
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is true or false".to_owned()),
    }
}

/// A time of at least a millisecond, since nothing here can be done faster.
fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_none(text)? {
        time if time < Duration::from_millis(1) => Err("at least 1ms".to_owned()),
        time => Ok(time),
    }
}

/// A time as Go writes it (`time.ParseDuration`): numbers with units, one after the other, or 0.
fn duration_or_none(text: &str) -> Result<Duration, String> {
    let wrong =
        || "a time is a number with its unit (ns, us, ms, s, m, h), like 62s or 1m2s".to_owned();
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
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
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
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
        assert_eq!((flags.timing(), flags.broadcast), (Timing::default(), false));
        assert_eq!(flags.pid_file(), None);
        let flags = read(
            "-socketpath /run/x.sock --pidfile=/run/x.pid -hostprefix=/host -broadcast -timeout 1m2.5s -resendmax=300ms \
             --resendtimeout 1h",
        );
        assert_eq!(flags.socket, PathBuf::from("/run/x.sock"));
        assert_eq!(flags.pid_file(), Some(Path::new("/run/x.pid")));
        assert_eq!((flags.host_prefix.as_os_str(), flags.broadcast), ("/host".as_ref(), true));
        let Timing { answer, pause, all } = flags.timing();
        assert_eq!([answer, pause, all].map(|time| time.as_millis()), [62_500, 300, 3_600_000]);
        assert!(!read("-broadcast=false").broadcast && read("--broadcast=T").broadcast);
    }

    #[test]
    fn the_last_of_a_flag_counts_and_a_path_that_is_empty_is_none() {
        let flags = read("-timeout 5s -broadcast -pidfile=/run/x.pid -timeout=7s -broadcast=0");
        assert_eq!((flags.timing().answer.as_secs(), flags.broadcast), (7, false));
        let flags = read("-socketpath= -pidfile= -hostprefix=");
        assert_eq!(flags.socket, PathBuf::from("/run/cni/dhcp.sock"));
        assert_eq!((flags.pid_file(), flags.host_prefix.is_empty()), (None, true));
    }

    #[test]
    fn nothing_is_read_from_a_word_on_that_is_no_flag() {
        for stray in ["true", "-", "--", "daemon -timeout"] {
            let flags = read(&format!("-broadcast {stray} -timeout 5s"));
            assert_eq!((flags.timing().answer.as_secs(), flags.broadcast), (10, true), "{stray}");
        }
        // What a flag takes is no such word.
        assert_eq!(read("-pidfile -x -timeout 5s").timing().answer.as_secs(), 5);
    }

    #[test]
    fn without_a_pause_or_a_time_for_all_it_is_as_long_as_one_answer_may_take() {
        let timing = read("-resendmax 0 -resendtimeout 0s -timeout 3s").timing();
        let seconds = Duration::from_secs;
        assert_eq!(timing, Timing { answer: seconds(3), pause: seconds(0), all: seconds(3) });
    }

    #[test]
    fn what_go_takes_for_no_time_is_none_here() {
        for text in
            ["", "5", "s", "1.2.3s", "5 s", "-5s", "1d", "1e400s", "999999999999999999999999h"]
        {
            assert!(duration_or_none(text).is_err(), "{text}");
        }
        assert_eq!(duration("1.5h0.5m").unwrap(), Duration::from_secs(5430));
        assert_eq!(duration(".5s").unwrap(), Duration::from_millis(500));
        for none in ["0", "0s", "+0", "1us"] {
            assert_eq!(duration(none).unwrap_err(), "at least 1ms", "{none}");
        }
    }
}
