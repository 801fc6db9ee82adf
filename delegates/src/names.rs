//! Names of devices on the host, derived from the attachment that owns them: an alias cannot be set when a device is
//! created, so the name itself says whose it is, and DEL finds the device without a record.

use chain::Attachment;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The host end of the attachment's veth: `veth` and 11 hex digits, as many as
/// a name has room for: two attachments of a node must not meet.
pub fn host_veth(attachment: &Attachment) -> String {
    format!("veth{}", digest(attachment, 11))
}

/// The attachment's ifb for shaping what the container sends: `ifb` and 11 hex digits.
pub fn ifb(attachment: &Attachment) -> String {
    format!("ifb{}", digest(attachment, 11))
}

/// The first hex digits of SHA-256 of `network/containerid/ifname`; '/' is in none of the three.
fn digest(attachment: &Attachment, digits: usize) -> String {
    let owner = format!("{}/{}/{}", attachment.network, attachment.container_id, attachment.ifname);
    let mut hex = HEXLOWER.encode(&Sha256::digest(owner.as_bytes()));
    hex.truncate(digits);
    hex
}

#[cfg(test)]
mod tests {
    use chain::CniArgs;

    use super::*;

    fn attachment(network: &str, container_id: &str, ifname: &str) -> Attachment {
        Attachment {
            network: network.to_owned(),
            container_id: container_id.to_owned(),
            ifname: ifname.to_owned(),
            netns: None,
            args: CniArgs::default(),
        }
    }

    #[test]
    fn names_are_stable_and_fit_the_kernel() {
        let attachment = attachment("web", "c1", "eth0");
        // printf web/c1/eth0 | sha256sum
        assert_eq!(host_veth(&attachment), "veth9734bb9d60d");
        assert_eq!(ifb(&attachment).len(), 14);
    }

    #[test]
    fn a_second_interface_of_a_container_has_another_name() {
        assert_ne!(
            host_veth(&attachment("web", "c1", "eth0")),
            host_veth(&attachment("web", "c1", "net1"))
        );
    }
}
