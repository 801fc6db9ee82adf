//! Rules and chains of others, made by nft and by the tools of iptables.
#![allow(clippy::unwrap_used, reason = "a failure is to be seen")]

use std::path::Path;

use nft_templates::{
    Ruleset,
    others::{Chain, Family, Removal, Rule},
};
use testnode::Node;

fn open() -> Ruleset {
    Ruleset::open(Path::new("/run/catena/nft.lock")).unwrap()
}

fn rules(chain: &Chain) -> Vec<Rule> {
    open().others().rules(chain).unwrap()
}

fn nft(node: &Node, text: &str) {
    node.cmd(["nft", "-f", "-"]).stdin(text).output().success();
}

#[test]
fn rules_are_understood_whoever_made_them() {
    let node = Node::new();
    for (iptables, family, ip, own, to) in [
        ("iptables", "ip", Family::Ip, "10.1.0.2", "10.1.0.2:80"),
        ("ip6tables", "ip6", Family::Ip6, "fd00::2", "[fd00::2]:80"),
    ] {
        let rule =
            |args: &str| node.run([iptables, "-t", "nat"].into_iter().chain(args.split(' ')));
        rule("-N pod");
        rule(&format!("-A pod -d {own} -j ACCEPT"));
        rule(&format!("-A pod ! -d {own} -j ACCEPT"));
        rule(&format!("-A POSTROUTING -s {own} -m comment --comment two -j pod"));
        rule("-N ports");
        rule(&format!("-A ports -p tcp --dport 8080 -j DNAT --to-destination {to}"));
        let nat = |name: &str| Chain::new(ip, "nat", name);
        let jump = &rules(&nat("POSTROUTING"))[0];
        assert_eq!((jump.leads_to().as_deref(), jump.comment()), (Some("pod"), Some("two")));
        assert_eq!(jump.source(), Some(own.parse().unwrap()));
        assert_eq!((jump.destination(), jump.accepts()), (None, false));
        let [accept, negated] = &rules(&nat("pod"))[..] else { panic!("{iptables}") };
        assert_eq!((accept.destination(), accept.accepts()), (Some(own.parse().unwrap()), true));
        assert_eq!((accept.comment(), accept.leads_to(), accept.source()), (None, None, None));
        assert_eq!((negated.destination(), negated.accepts()), (None, true));
        let dnat = &rules(&nat("ports"))[0];
        assert_eq!(
            (dnat.dnat_to(), dnat.destination_port()),
            (Some(to.parse().unwrap()), Some(8080))
        );

        nft(
            &node,
            &format!(
                "table {family} other {{
                    chain a {{ {family} saddr {own} {family} daddr != {own} goto b comment \"of nft\"; }}
                    chain b {{ udp dport 53 dnat to {to}; {family} saddr {own}/31 accept; }}
                }}"
            ),
        );
        let other = |name: &str| Chain::new(ip, "other", name);
        let goto = &rules(&other("a"))[0];
        assert_eq!((goto.leads_to().as_deref(), goto.comment()), (Some("b"), Some("of nft")));
        assert_eq!((goto.source(), goto.destination()), (Some(own.parse().unwrap()), None));
        let [dnat, accept] = &rules(&other("b"))[..] else { panic!("{family}") };
        assert_eq!(
            (dnat.dnat_to(), dnat.destination_port()),
            (Some(to.parse().unwrap()), Some(53))
        );
        assert_eq!((accept.source(), accept.accepts()), (None, true), "a whole subnet");
    }
}

/// What the reference plugin firewall has for a container, and what looks like it.
#[test]
fn a_rule_that_compares_more_is_another_one() {
    let node = Node::new();
    for (iptables, ip, own) in
        [("iptables", Family::Ip, "10.1.0.2"), ("ip6tables", Family::Ip6, "fd00::2")]
    {
        let rule = |args: &str| node.run([iptables].into_iter().chain(args.split(' ')));
        rule("-N pod");
        for said in [
            format!("-s {own} -j ACCEPT"),
            format!("-d {own} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            format!("-d {own} -j ACCEPT"),
            format!("-s {own} -j DROP"),
            format!("-s {own} -p tcp --dport 22 -j ACCEPT"),
            format!("-s {own} -i lan -j ACCEPT"),
            format!("-s {own} -m comment --comment mine -j ACCEPT"),
            format!("-d {own} -m conntrack --ctstate ESTABLISHED -j ACCEPT"),
            format!("-d {own} -m conntrack ! --ctstate RELATED,ESTABLISHED -j ACCEPT"),
            format!("-d {own} -m conntrack --ctstate RELATED,ESTABLISHED --ctproto 6 -j ACCEPT"),
            format!("-d {own} -i lan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        ] {
            rule(&format!("-A pod {said}"));
        }
        let rules = rules(&Chain::new(ip, "filter", "pod"));
        let found: Vec<_> =
            rules.iter().map(|rule| (rule.accepts_all_from(), rule.accepts_answers_to())).collect();
        let own = Some(own.parse().unwrap());
        assert_eq!(found[..2], [(own, None), (None, own)]);
        assert_eq!(found[2..], [(None, None); 9]);
    }
}

#[test]
fn chains_go_with_the_rules_that_lead_to_them_or_not_at_all() {
    let node = Node::new();
    let chain = |name: &str| Chain::new(Family::Ip, "nat", name);
    let all = || ["POSTROUTING", "pod", "other"].map(chain);
    assert_eq!(open().others().present(all()).unwrap(), []);
    assert!(rules(&chain("pod")).is_empty());

    let rules_before = "*nat\n:pod - [0:0]\n:other - [0:0]\n-A POSTROUTING -s 10.1.0.2 -j pod\n\
        -A POSTROUTING -s 10.1.0.3 -j pod\n-A pod -j MASQUERADE\n-A pod -j other\nCOMMIT\n";
    node.cmd(["iptables-restore"]).stdin(rules_before).output().success();
    assert_eq!(open().others().present(all()).unwrap(), all());
    let listing = || node.run(["iptables", "-t", "nat", "-S"]);
    let before = listing();

    // Another rule leads to it.
    let refused = open().remove_of_others(|others| {
        let mut rules = others.rules(&chain("POSTROUTING"))?;
        rules.truncate(1);
        Ok(Removal { rules, chains: vec![chain("pod")] })
    });
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("chain pod of table ip nat"), "{error}");
    assert_eq!(listing(), before);

    // Someone changes the ruleset after the first look.
    let mut looks = 0;
    let removed = open().remove_of_others(|others| {
        let rules = others.rules(&chain("POSTROUTING"))?;
        if looks == 0 {
            node.run(["iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.1.0.4", "-j", "pod"]);
        }
        looks += 1;
        Ok(Removal { rules, chains: vec![chain("pod")] })
    });
    assert_eq!((removed.unwrap(), looks), (4, 2));
    assert_eq!(open().others().present(all()).unwrap(), ["POSTROUTING", "other"].map(chain));
    assert!(rules(&chain("POSTROUTING")).is_empty());
    assert_eq!(open().remove_of_others(|_| Ok(Removal::default())).unwrap(), 0);
}
