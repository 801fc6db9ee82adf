//! What firewall put into the chains of others can be taken away again, for a node that Catena leaves.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

#[macro_use]
mod common;

use chain::Dirs;
use common::Case;
use serde_json::json;
use testnode::Node;

#[test]
fn what_others_chains_were_given_is_taken_away_and_what_others_wrote_stays() {
    for tools in [["iptables", "ip6tables"], ["iptables-legacy", "ip6tables-legacy"]] {
        let outer = Node::new();
        for tool in tools {
            outer.run([tool, "-P", "FORWARD", "DROP"]);
            outer.run([tool, "-A", "FORWARD", "-i", "docker0", "-j", "ACCEPT"]);
        }
        let listed = || tools.map(|tool| outer.run([tool, "-S"]));
        let before = listed();
        let container = outer.container("c1");
        let chain = json!([
            { "type": "bridge", "bridge": "br0", "isGateway": true,
              "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.1.0.0/24" }]] } },
            { "type": "firewall" },
        ]);
        let case = Case::chain(chain, &container);
        case.add().unwrap();
        case.check().unwrap();
        assert!(listed().iter().all(|rules| rules.contains("-j CNI-FORWARD")), "{:?}", listed());
        case.del().unwrap();
        delegates::firewall::withdraw(&Dirs::default()).unwrap();
        assert_eq!(listed(), before);

        // Rules in the chains keep them, and who leads there from elsewhere does.
        case.add().unwrap();
        outer.run([tools[0], "-A", "CNI-FORWARD", "-s", "10.88.0.2", "-j", "ACCEPT"]);
        outer.run([tools[1], "-A", "CNI-ADMIN", "-s", "fd00::9", "-j", "DROP"]);
        case.del().unwrap();
        delegates::firewall::withdraw(&Dirs::default()).unwrap();
        let [v4, v6] = listed();
        assert!(
            v4.contains("-A CNI-FORWARD -s 10.88.0.2/32 -j ACCEPT") && v4.contains("-N CNI-ADMIN"),
            "{v4}"
        );
        assert!(
            v6.contains("-A CNI-ADMIN -s fd00::9/128 -j DROP") && !v6.contains("CNI-FORWARD"),
            "{v6}"
        );
        assert!(!(v4 + &v6).contains("0x1000"));
    }
}
