//! Comments of elements and rules, in nft's own encoding of user data: type, length, value.

/// Type of a comment, of an element's user data and of a rule's alike (NFTNL_UDATA_SET_ELEM_COMMENT,
/// NFTNL_UDATA_RULE_COMMENT).
const UDATA_COMMENT: u8 = 0;

/// A comment as user data.
pub(crate) fn comment(text: &str) -> Vec<u8> {
    // Comments are at most 127 bytes, so that the length with the NUL fits a byte.
    let mut bytes = vec![UDATA_COMMENT, (text.len() + 1) as u8];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

/// The comment among user data.
pub(crate) fn comment_of(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, length, rest @ ..] = userdata {
        let (value, next) = rest.split_at_checked((*length).into())?;
        if *kind == UDATA_COMMENT {
            return std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok();
        }
        userdata = next;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_found_among_other_user_data() {
        let bytes = [&[7, 2, 1, 1][..], &comment("web id/eth0")].concat();
        assert_eq!(comment_of(&bytes), Some("web id/eth0"));
        assert_eq!(comment_of(&bytes[..4]), None);
        assert_eq!(comment_of(&[0, 9, b'x']), None);
        assert_eq!(comment_of(&[0]), None);
    }
}
