//! Where a pod's packets leave under another source address, and under which.

use std::{fmt::Write as _, net::IpAddr};

use data_encoding::HEXLOWER;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use crate::element::IpFamily;

/// The template of a policy chain; see the file for what its placeholders stand for.
pub(crate) const TEMPLATE: &str = include_str!("../policy.nft");

/// How every policy chain's name begins.
pub(crate) const CHAIN_PREFIX: &str = "egress_";

/// What happens to the packets of a pod that leave for other than the excluded destinations.
///
/// Networks with the same policy share one chain, whose name is a digest of its rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Destinations that are reached under the pod's own address: the network's own subnets and its
    /// non-masquerade CIDRs, both families mixed. Multicast never needs naming.
    pub excluded: Vec<IpNet>,
    /// Whether the cluster's pods and Services, and what else it reaches without translation, are as well: those that
    /// [`crate::Cluster`] says at the moment.
    pub cluster: bool,
    /// What happens to the rest.
    pub action: Action,
}

/// The new source address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The address of the interface that the packet leaves by.
    Masquerade,
    /// A fixed address.
    Snat(IpAddr),
}

impl Policy {
    /// The name of the policy's chain for one family.
    pub fn chain(&self, family: IpFamily) -> String {
        name_of(&self.nameless(family))
    }

    /// The policy's chain for one family as nft text, as `nft -f` takes it: a table with this one chain.
    pub fn render(&self, family: IpFamily) -> String {
        self.named(family).1
    }

    /// Both.
    pub(crate) fn named(&self, family: IpFamily) -> (String, String) {
        let nameless = self.nameless(family);
        let name = name_of(&nameless);
        let text = nameless.replacen(CHAIN_PREFIX, &name, 1);
        (name, text)
    }

    /// The text of the policy's chain, which has nothing but the prefix as its name.
    fn nameless(&self, family: IpFamily) -> String {
        let (ip, number, multicast) = match family {
            IpFamily::V4 => ("ip", "4", "224.0.0.0/4"),
            IpFamily::V6 => ("ip6", "6", "ff00::/8"),
        };
        let action = match self.action {
            Action::Masquerade => "masquerade fully-random".to_owned(),
            Action::Snat(to) => format!("snat {ip} to {to} fully-random"),
        };
        let mut text = String::new();
        let said =
            |line: &&str| !line.starts_with('#') && (self.cluster || !line.contains("$CLUSTER"));
        for line in TEMPLATE.lines().filter(said) {
            let line = line
                .replace("$NAME", CHAIN_PREFIX)
                .replace("$MULTICAST", multicast)
                .replace("$ACTION", &action)
                .replace("$IP", ip);
            if line.contains("$EXCLUDED") {
                for net in self.excluded_of(family) {
                    let _ = writeln!(text, "{}", line.replace("$EXCLUDED", &net));
                }
            } else {
                let _ = writeln!(text, "{}", line.replace("$CLUSTER", number));
            }
        }
        text
    }

    /// The excluded networks of one family: host bits cleared, merged, sorted, so that equal policies
    /// read the same.
    fn excluded_of(&self, family: IpFamily) -> Vec<String> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in &self.excluded {
            match net {
                IpNet::V4(net) => v4.push(net.trunc()),
                IpNet::V6(net) => v6.push(net.trunc()),
            }
        }
        match family {
            IpFamily::V4 => Ipv4Net::aggregate(&v4).iter().map(Ipv4Net::to_string).collect(),
            IpFamily::V6 => Ipv6Net::aggregate(&v6).iter().map(Ipv6Net::to_string).collect(),
        }
    }
}

/// The name of the chain that has this text but for its name.
fn name_of(nameless: &str) -> String {
    format!("{CHAIN_PREFIX}{}", &HEXLOWER.encode(&Sha256::digest(nameless))[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(excluded: &[&str]) -> Policy {
        let excluded = excluded.iter().map(|net| net.parse().unwrap()).collect();
        Policy { excluded, cluster: false, action: Action::Masquerade }
    }

    #[test]
    fn policies_that_mean_the_same_have_one_chain() {
        let written = policy(&["10.128.0.0/9", "10.1.2.3/9", "10.0.0.0/24", "fd00::/8"]);
        let merged = policy(&["10.0.0.0/8"]);
        assert_eq!(written.chain(IpFamily::V4), merged.chain(IpFamily::V4));
        assert_ne!(written.chain(IpFamily::V6), merged.chain(IpFamily::V6));
        assert_ne!(merged.chain(IpFamily::V4), merged.chain(IpFamily::V6));
        let snat = Policy { action: Action::Snat(IpAddr::from([192, 0, 2, 7])), ..merged.clone() };
        assert_ne!(snat.chain(IpFamily::V4), merged.chain(IpFamily::V4));
    }

    #[test]
    fn a_policy_reads_as_its_template_says() {
        let policy = policy(&["10.0.0.0/8", "fd00::/8"]);
        let expected = format!(
            "table inet catena {{\n\tchain {} {{\n\t\tip daddr 224.0.0.0/4 return\n\
             \t\tip daddr 10.0.0.0/8 return\n\t\tmasquerade fully-random\n\t}}\n}}\n",
            policy.chain(IpFamily::V4)
        );
        assert_eq!(policy.render(IpFamily::V4), expected);
    }
}
