//! Who an element of a set or map belongs to.

use std::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Longest comment that nft and the kernel carry on an element, its terminating NUL included.
const COMMENT_MAX: usize = 128;

/// The owner of an element: the attachment that asked for it.
///
/// It is the element's comment, `network container-id/ifname`, so that `nft list` shows it. Where that
/// is longer than a comment may be, or has characters that a listing would make ambiguous, the owner is
/// a digest of it, `sha256:<hex>/ifname`; the full words are then in the attachment's record only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(String);

impl Owner {
    /// Names the owner of an attachment. The same three words always give the same owner.
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Self {
        let full = format!("{network} {container_id}/{ifname}");
        // Each word may hold only what cannot be taken for a separator; anything else is hashed.
        let plain = [network, container_id, ifname].iter().all(|word| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !b"/\"\\".contains(&b))
        });
        if plain && full.len() < COMMENT_MAX && !full.starts_with("sha256:") {
            return Self(full);
        }
        let mut hash = Sha256::new();
        for word in [network, container_id, ifname] {
            // The length in front keeps ("a b", "c") and ("a", "b c") apart.
            hash.update((word.len() as u64).to_be_bytes());
            hash.update(word);
        }
        let ifname: String = ifname
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .take(15)
            .collect();
        Self(format!("sha256:{}/{ifname}", HEXLOWER.encode(&hash.finalize())))
    }

    /// The owner that shared elements (a bridge) carry: they belong to no single
    /// attachment.
    pub(crate) fn shared() -> Self {
        Self("shared".into())
    }

    /// Reads the owner off an element in the kernel. An element without a comment has an empty owner,
    /// which equals no attachment's.
    pub(crate) fn from_comment(comment: Option<&str>) -> Self {
        Self(comment.unwrap_or_default().into())
    }

    /// The text of the element's comment.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(an element without a comment)" } else { &self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_owner_is_readable() {
        assert_eq!(Owner::new("web", "c0ffee", "eth0").as_str(), "web c0ffee/eth0");
    }

    #[test]
    fn an_owner_that_does_not_fit_is_a_stable_digest() {
        let id = "f".repeat(128);
        let long = Owner::new("web", &id, "eth0");
        assert!(long.as_str().len() < COMMENT_MAX, "{long}");
        assert!(long.as_str().ends_with("/eth0"));
        assert_eq!(long, Owner::new("web", &id, "eth0"));
        assert_ne!(long, Owner::new("wеb", &id, "eth0"));
        assert_ne!(long, Owner::new("web", &id, "eth1"));
        // 127 bytes still fit, 128 do not.
        let fits = "f".repeat(127 - "web /eth0".len());
        assert_eq!(Owner::new("web", &fits, "eth0").as_str().len(), 127);
        assert!(Owner::new("web", &format!("{fits}f"), "eth0").as_str().starts_with("sha256:"));
    }

    #[test]
    fn words_that_would_read_like_others_are_hashed() {
        let owners =
            [Owner::new("a", "b c", "d"), Owner::new("a b", "c", "d"), Owner::new("a", "b/c", "d")];
        assert!(owners.iter().all(|o| o.as_str().starts_with("sha256:")), "{owners:?}");
        assert_ne!(owners[0], owners[1]);
    }
}
