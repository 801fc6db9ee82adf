//! Names that the reference plugins derive from an attachment (their `pkg/utils/utils.go`).

use chain::Attachment;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha512};

/// Length of a chain's name.
const CHAIN_LENGTH: usize = 28;

/// The name of an attachment's chain: a prefix, and as much of a digest as has room. Interfaces are not told apart.
pub(super) fn chain(prefix: &str, network: &str, container_id: &str) -> String {
    let digest = digest(&format!("{network}{container_id}"), CHAIN_LENGTH - prefix.len());
    format!("{prefix}{digest}")
}

/// What the comment of a rule of nft's that masquerades begins with, for each attachment of a network.
pub(super) fn network_hash(network: &str) -> String {
    format!("{}-", digest(network, 16))
}

/// The same for one attachment.
pub(super) fn instance_hash(network: &str, container_id: &str, ifname: &str) -> String {
    format!("{}{}", network_hash(network), digest(&format!("{ifname}:{container_id}"), 16))
}

/// The chain of a spoof check. A second one has `-mac` after it.
pub(super) fn spoof_check(attachment: &Attachment) -> String {
    format!("cni-br-iface-{}-{}", attachment.container_id, attachment.ifname)
}

/// The container in a comment of the form `PREFIXname: "NETWORK" id: "CONTAINER"`, if it is of this network.
pub(super) fn container_in<'c>(comment: &'c str, prefix: &str, network: &str) -> Option<&'c str> {
    let rest =
        comment.strip_prefix(prefix)?.strip_prefix(&format!("name: \"{network}\" id: \""))?;
    rest.strip_suffix('"')
}

fn digest(of: &str, length: usize) -> String {
    let mut hex = HEXLOWER.encode(&Sha512::digest(of));
    hex.truncate(length);
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Debian's plugins 1.1.1 named them.
    #[test]
    fn names_are_those_of_the_reference() {
        assert_eq!(chain("CNI-", "net", "c1"), "CNI-623e1c388032b20529218ecc");
        assert_eq!(chain("CNI-DN-", "net", "c1"), "CNI-DN-623e1c388032b20529218");
    }

    #[test]
    fn a_comment_names_its_container() {
        let comment = "dnat name: \"net\" id: \"c1\"";
        assert_eq!(container_in(comment, "dnat ", "net"), Some("c1"));
        assert_eq!(container_in(comment, "dnat ", "ne"), None);
        assert_eq!(container_in(comment, "", "net"), None);
        assert_eq!(container_in("dnat name: \"net\" id: \"c1...", "dnat ", "net"), None);
    }
}
