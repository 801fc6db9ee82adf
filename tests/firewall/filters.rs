//! What filters on nodes, and drops what is forwarded by default.

use std::path::Path;

use testnode::{Background, Node, firewalld};

/// Whose rules a node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Docker's, by iptables on nf_tables.
    Docker,
    /// firewalld's, the real one.
    Firewalld,
    /// An administrator's own tables of nftables, with the policy drop.
    PolicyDrop,
    /// One before those that usually filter, and iptables' table mangle, both with the policy drop.
    EarlyDrop,
    /// The policy accept, and rejecting in the end.
    FinalReject,
    /// The iptables from before nf_tables, with the policy drop.
    Legacy,
}

/// What runs as long as the filter does.
pub struct Running(#[allow(dead_code, reason = "it is there to be dropped")] Vec<Background>);

const POLICY_DROP: &str = "
    table ip own {
        chain forward {
            type filter hook forward priority filter; policy drop;
            iifname \"lan\" accept
        }
    }
    table ip6 own {
        chain forward {
            type filter hook forward priority filter; policy drop;
        }
    }";

const EARLY_DROP: &str = "
    table inet own {
        chain forward {
            type filter hook forward priority raw; policy drop;
        }
    }";

const FINAL_REJECT: &str = "
    table inet own {
        chain rest {
            ct state invalid drop
            counter reject
        }
        chain forward {
            type filter hook forward priority 5; policy accept;
            iifname \"lan\" accept
            goto rest
        }
    }";

impl Filter {
    pub fn start(self, node: &Node) -> Running {
        match self {
            Self::Docker => docker(node, ["iptables", "ip6tables"]),
            Self::Legacy => docker(node, ["iptables-legacy", "ip6tables-legacy"]),
            Self::Firewalld => return Running(firewalld(node, Path::new("/run/dbus"))),
            Self::PolicyDrop => load(node, POLICY_DROP),
            Self::EarlyDrop => {
                load(node, EARLY_DROP);
                for tool in ["iptables", "ip6tables"] {
                    node.run([tool, "-t", "mangle", "-P", "FORWARD", "DROP"]);
                }
            }
            Self::FinalReject => load(node, FINAL_REJECT),
        }
        Running(Vec::new())
    }
}

pub fn load(node: &Node, rules: &str) {
    node.cmd(["nft", "-f", "-"]).stdin(rules).output().success();
}

/// The rules with which Docker starts.
pub fn docker(node: &Node, tools: [&str; 2]) {
    for tool in tools {
        for rule in [
            "-P FORWARD DROP",
            "-N DOCKER",
            "-N DOCKER-ISOLATION-STAGE-1",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
            "-I FORWARD -o docker0 -j DOCKER",
            "-I FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-I FORWARD -i docker0 -j ACCEPT",
            "-I FORWARD -j DOCKER-ISOLATION-STAGE-1",
            "-I FORWARD -j DOCKER-USER",
        ] {
            node.run([tool].into_iter().chain(rule.split(' ')));
        }
    }
}
