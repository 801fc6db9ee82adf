//! What a configuration says about options of DHCP: which are asked for, and which are told.

mod names;

use chain::{CniArgs, Error, Result};
use serde::Deserialize;

use self::names::Kind;

/// Asked for unless the configuration forbids it: routers and subnet-mask as the reference plugin, and what a result has a
/// place for. Classless routes come first, since some servers send no others then (RFC 3442).
const DEFAULT: [u8; 8] = [121, 3, 1, 33, 6, 15, 119, 26];

/// The client's own: they are set by the message at hand (RFC 2131, table 5), or frame the others.
const OWN: [u8; 10] = [0, 50, 51, 52, 53, 54, 55, 56, 57, 255];

/// The longest value: its length has one byte.
const LONGEST: usize = 255;

/// An entry of `request`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Request {
    /// `option`: a name or a number.
    #[serde(default)]
    pub option: String,
    /// `skipDefault`: nothing but what is listed is asked for (default false).
    #[serde(rename = "skipDefault", default)]
    pub skip_default: bool,
}

/// An entry of `provide`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Provide {
    /// `option`: a name or a number.
    #[serde(default)]
    pub option: String,
    /// `value`: what the option says. Under a name of the option it is written as dhcp-options(5) has it, under a number its bytes are
    /// what is sent, as with the reference plugin.
    #[serde(default)]
    pub value: String,
    /// `fromArg`: the key of `CNI_ARGS` that has the value; where a runtime does not give it, it is `value`, and without one
    /// nothing is told.
    #[serde(rename = "fromArg", default)]
    pub from_arg: String,
}

/// The options to be asked for.
pub fn requests(requests: &[Request]) -> Result<Vec<u8>> {
    let skip = requests.iter().any(|request| request.skip_default);
    let mut numbers = if skip { Vec::new() } else { DEFAULT.to_vec() };
    for request in requests {
        if request.option.is_empty() && request.skip_default {
            continue;
        }
        let (number, _) = option("request", &request.option)?;
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// The options to be told.
pub fn provides(provides: &[Provide], args: &CniArgs) -> Result<Vec<(u8, Vec<u8>)>> {
    let mut told = Vec::new();
    for provide in provides {
        let (number, kind) = option("provide", &provide.option)?;
        if OWN.contains(&number) {
            return Err(Error::config(format!(
                "provide: option {:?} is set by the DHCP client itself: leave it out",
                provide.option
            )));
        }
        let value = match provide.from_arg.as_str() {
            "" => provide.value.as_str(),
            key => args.get(key).unwrap_or(&provide.value),
        };
        if value.is_empty() {
            continue;
        }
        let bytes = kind.bytes(value).map_err(|why| {
            Error::config(format!("provide: option {:?}: {value:?}: {why}", provide.option))
        })?;
        if bytes.len() > LONGEST {
            return Err(Error::config(format!(
                "provide: option {:?} has {} bytes: an option holds {LONGEST}",
                provide.option,
                bytes.len()
            )));
        }
        told.push((number, bytes));
    }
    Ok(told)
}

/// An option's number, and how a value of it is written.
fn option(key: &str, option: &str) -> Result<(u8, Kind)> {
    let by_number = || option.parse().ok().map(|number| (number, Kind::Bytes));
    let known = names::named(option).or_else(by_number);
    known.filter(|(number, _)| (1..255).contains(number)).ok_or_else(|| {
        let meant = match &names::like(option)[..] {
            [] => "such as \"host-name\"".to_owned(),
            like => format!("such as \"{}\"", like.join("\", \"")),
        };
        Error::config(format!(
            "{key}: {option:?} is no option of DHCP: give its name as in dhcp-options(5), {meant}, or its number, 1 to 254"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(json: &str) -> Result<Vec<u8>> {
        requests(&serde_json::from_str::<Vec<Request>>(json).unwrap())
    }

    fn provide(json: &str, args: &str) -> Result<Vec<(u8, Vec<u8>)>> {
        let args = CniArgs::parse(args).unwrap();
        provides(&serde_json::from_str::<Vec<Provide>>(json).unwrap(), &args)
    }

    #[test]
    fn options_are_asked_for_by_name_and_by_number() {
        assert_eq!(request("[]").unwrap(), DEFAULT);
        let asked = request(r#"[{"option": "host-name"}, {"option": "121"}, {"option": "42"}]"#);
        assert_eq!(asked.unwrap(), [&DEFAULT[..], &[12, 42]].concat());
        let skipped = request(r#"[{"skipDefault": true}, {"option": "routers"}]"#);
        assert_eq!(skipped.unwrap(), [3]);
        for wrong in ["host_name", "", "0", "255", "256", "-1"] {
            let error = request(&format!(r#"[{{"option": "{wrong}"}}]"#)).unwrap_err();
            assert!(error.to_string().contains(&format!("request: {wrong:?}")), "{error}");
        }
    }

    #[test]
    fn options_are_told_from_the_configuration_or_cni_args() {
        let told = provide(
            r#"[{"option": "host-name", "value": "one"}, {"option": "60", "fromArg": "K8S_POD_NAME"},
                {"option": "user-class", "fromArg": "ABSENT"}, {"option": "77", "value": "any", "fromArg": "ABSENT"}]"#,
            "K8S_POD_NAME=web-0",
        );
        let text = |text: &str| text.as_bytes().to_vec();
        assert_eq!(told.unwrap(), [(12, text("one")), (60, text("web-0")), (77, text("any"))]);
    }

    #[test]
    fn what_a_name_stands_for_is_written_as_the_option_has_it() {
        let told = provide(
            r#"[{"option": "subnet-selection", "value": "10.7.0.0"}, {"option": "118", "value": "10.7.0.0"},
                {"option": "fqdn.hostname", "fromArg": "K8S_POD_NAME"}]"#,
            "K8S_POD_NAME=web-0",
        );
        let fqdn = b"\x05\0\0\x05web-0".to_vec();
        assert_eq!(
            told.unwrap(),
            [(118, vec![10, 7, 0, 0]), (118, b"10.7.0.0".to_vec()), (81, fqdn)]
        );
        let error =
            provide(r#"[{"option": "pop-server", "value": "mail"}]"#, "").unwrap_err().to_string();
        assert!(error.contains("\"pop-server\": \"mail\": it takes addresses"), "{error}");
    }

    #[test]
    fn a_name_that_is_none_is_answered_by_those_that_may_be_meant() {
        let error = request(r#"[{"option": "router"}]"#).unwrap_err().to_string();
        assert!(error.contains("\"routers\""), "{error}");
    }

    #[test]
    fn what_is_too_long_or_the_clients_own_is_refused() {
        let long = |length| {
            let value = "x".repeat(length);
            provide(&format!(r#"[{{"option": "77", "value": "{value}"}}]"#), "")
        };
        assert!(long(255).is_ok());
        let error = long(256).unwrap_err().to_string();
        assert!(error.contains("\"77\" has 256 bytes"), "{error}");
        let error = provide(r#"[{"option": "53", "value": "1"}]"#, "").unwrap_err().to_string();
        assert!(error.contains("\"53\" is set by the DHCP client itself"), "{error}");
    }
}
