//! Text from servers. It goes into resolv.conf and into messages to administrators, so that not everything may stand in it.

use dhcproto::Decoder;

/// The longest domain name, and the longest label (RFC 1035, 2.3.4).
const NAME: usize = 253;
const LABEL: usize = 63;
/// What of a message is passed on.
const MESSAGE: usize = 200;

/// A domain name, without the dot at its end.
pub fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.len() <= NAME && name.split('.').all(is_label)).then(|| name.to_owned())
}

/// Domain names that are written as in DNS, as they are there.
pub fn dns_names(mut value: Decoder<'_>) -> Vec<String> {
    let length = value.buffer().len();
    let names = value.read_domains(length).unwrap_or_default();
    let labels =
        names.iter().map(|name| name.iter().map(String::from_utf8_lossy).collect::<Vec<_>>());
    labels.filter_map(|labels| domain(&labels.join("."))).collect()
}

/// Domain names with blanks between; some servers end them with a zero.
pub fn domains(text: &str) -> Vec<String> {
    text.trim_end_matches('\0').split_whitespace().filter_map(domain).collect()
}

/// A message of at most some length, without control characters.
pub fn printable(text: &str) -> String {
    text.chars().take(MESSAGE).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_domains() {
        assert_eq!(domain("a_b.Example-1.org.").as_deref(), Some("a_b.Example-1.org"));
        let long = ["x".repeat(64), "x.".repeat(128)];
        for wrong in
            ["", ".", "a..b", "a b", "a\nnameserver 10.0.0.1", "a;b", "ä.de", &long[0], &long[1]]
        {
            assert_eq!(domain(wrong), None, "{wrong:?}");
        }
        assert_eq!(
            domains("a.example  b.example ; c.example\0\0"),
            ["a.example", "b.example", "c.example"]
        );
    }

    #[test]
    fn messages_are_short_and_have_no_control_characters() {
        assert_eq!(printable("no\x1b[2J address\n"), "no[2J address");
        assert_eq!(printable(&"x".repeat(300)).len(), 200);
    }
}
