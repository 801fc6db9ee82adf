//! The tables of iptables from before nf_tables: where a node uses table filter of these, the same rules go in as into
//! nf_tables' FORWARD (`nft-templates/iptables.nft`).

use chain::{Dirs, Result};

use crate::{
    legacy::{Listing, TOOLS, Tools, words},
    node::Elements,
};

const CNI_FORWARD: &str = "CNI-FORWARD";
/// What accepts the bit of the mark, as in `nft-templates/iptables.nft`.
const ACCEPT: &str = "-m mark --mark 0x1000/0x1000";

/// Table filter, as its tool lists it.
struct Filter {
    lines: Vec<String>,
}

/// Puts the rules in where they are missing, and says where that was.
pub(super) fn let_through(admin: &str, dirs: &Dirs) -> Result<Vec<String>> {
    let mut mended = Vec::new();
    for tools in &TOOLS {
        if missing_of(tools, admin)?.is_empty() {
            continue;
        }
        // Two that see the same missing at once would both put it in.
        let missing = Elements::alone(dirs, || put_in(tools, admin))?;
        if !missing.is_empty() {
            mended.push(format!("table filter of {} had not: {}", tools.save, missing.join(", ")));
        }
    }
    Ok(mended)
}

/// What is missing in a table filter that somebody filters by.
fn missing_of(tools: &Tools, admin: &str) -> Result<Vec<String>> {
    let filter = filter_of(tools)?.filter(|filter| !filter.is_unused());
    Ok(filter.map(|filter| filter.missing(admin)).unwrap_or_default())
}

/// Puts in what is missing, and returns it.
fn put_in(tools: &Tools, admin: &str) -> Result<Vec<String>> {
    let mut missing = missing_of(tools, admin)?;
    while !missing.is_empty() {
        let Err(error) = tools.restore("filter", &missing) else { break };
        // A chain that somebody else has made meanwhile is refused.
        let now = missing_of(tools, admin)?;
        if now == missing {
            return Err(error);
        }
        missing = now;
    }
    Ok(missing)
}

/// What drops packets of containers for want of the rules.
pub(super) fn gaps(admin: &str) -> Result<Vec<String>> {
    let mut gaps = Vec::new();
    for tools in &TOOLS {
        let Some(filter) = filter_of(tools)? else { continue };
        let missing = filter.missing(admin);
        if filter.drops() && !missing.is_empty() {
            gaps.push(format!(
                "chain FORWARD of table filter drops what it does not know ({}), and these are not in it: {}",
                tools.save,
                missing.join(", ")
            ));
        }
    }
    Ok(gaps)
}

/// Takes the rules away; the chains stay where they hold anything else.
pub(super) fn withdraw() -> Result<()> {
    for tools in &TOOLS {
        let Some(filter) = filter_of(tools)? else { continue };
        let withdrawal = filter.withdrawal();
        if !withdrawal.is_empty() {
            tools.restore("filter", &withdrawal)?;
        }
    }
    Ok(())
}

/// Table filter, where this node uses it and its tool is there to read it.
fn filter_of(tools: &Tools) -> Result<Option<Filter>> {
    match tools.list("filter")? {
        Listing::Unused => Ok(None),
        Listing::Lines(lines) => Ok(Some(Filter { lines })),
        Listing::Unreadable => {
            // Refusing every container for rules that nobody can read would be worse.
            tracing::warn!(
                tool = tools.save,
                "rules of old iptables cannot be looked at: where its FORWARD drops, accept there what has mark \
                 0x1000/0x1000"
            );
            Ok(None)
        }
    }
}

impl Filter {
    /// Nobody filters by this table: it is there because somebody looked.
    fn is_unused(&self) -> bool {
        !self.drops() && !self.lines.iter().any(|line| line.starts_with("-A FORWARD "))
    }

    /// Whether FORWARD drops what it does not know: by its policy, by its last rule, or in a chain that this leads to.
    fn drops(&self) -> bool {
        let mut chain = "FORWARD";
        let mut visited = vec![chain];
        while let Some(rule) = self.rules(chain).last() {
            let unconditional = |(rest, to): (&str, &'_ str)| {
                let target = to.split(' ').next().unwrap_or_default();
                is_rule(&format!("{rest}-j {target}"), "", target)
            };
            let jump = rule.rsplit_once("-j ").or_else(|| rule.rsplit_once("-g "));
            let Some((_, to)) = jump.filter(|jump| unconditional(*jump)) else { break };
            match to.split(' ').next().unwrap_or_default() {
                "DROP" | "REJECT" => return true,
                next if !visited.contains(&next) => {
                    chain = next;
                    visited.push(next);
                }
                _ => break,
            }
        }
        self.lines.iter().any(|line| line.starts_with(":FORWARD DROP"))
    }

    fn has_chain(&self, name: &str) -> bool {
        self.lines.iter().any(|line| line.starts_with(&format!(":{name} ")))
    }

    /// Whether a chain has a rule with this target and, besides a comment, no condition but this one.
    fn has(&self, chain: &str, condition: &str, target: &str) -> bool {
        self.rules(chain).any(|rule| is_rule(rule, condition, target))
    }

    fn rules<'f>(&'f self, chain: &str) -> impl Iterator<Item = &'f str> {
        let start = format!("-A {chain} ");
        self.lines.iter().filter_map(move |line| line.strip_prefix(&start))
    }

    /// The commands that put in what is missing.
    fn missing(&self, admin: &str) -> Vec<String> {
        let mut commands = Vec::new();
        for chain in [admin, CNI_FORWARD] {
            if !self.has_chain(chain) {
                // ":chain" would empty one that somebody has made meanwhile.
                commands.push(format!("-N {chain}"));
            }
        }
        if !self.has(CNI_FORWARD, "", admin) {
            commands.push(format!(
                "-I {CNI_FORWARD} 1 -m comment --comment \"CNI firewall plugin admin overrides\" -j {admin}"
            ));
        }
        if !self.has(CNI_FORWARD, ACCEPT, "ACCEPT") {
            commands
                .push(format!("-A {CNI_FORWARD} {ACCEPT} -m comment --comment catena -j ACCEPT"));
        }
        if !self.has("FORWARD", "", CNI_FORWARD) {
            commands.push(format!(
                "-I FORWARD 1 -m comment --comment \"CNI firewall plugin rules\" -j {CNI_FORWARD}"
            ));
        }
        commands
    }

    /// The commands that take it away again.
    fn withdrawal(&self) -> Vec<String> {
        // One that an administrator wrote for himself has no such comment.
        let is_ours = |rule: &&str| {
            is_rule(rule, ACCEPT, "ACCEPT") && words(rule).iter().any(|word| word == "catena")
        };
        let ours = self.rules(CNI_FORWARD).filter(is_ours);
        let mut commands: Vec<_> = ours.map(|rule| format!("-D {CNI_FORWARD} {rule}")).collect();
        let (admin, others): (Vec<&str>, Vec<&str>) = self
            .rules(CNI_FORWARD)
            .filter(|rule| !is_ours(rule))
            .partition(|rule| rule.contains("CNI firewall plugin admin overrides"));
        if !commands.is_empty() && others.is_empty() {
            let to_ours = self.rules("FORWARD").filter(|rule| is_rule(rule, "", CNI_FORWARD));
            commands.extend(to_ours.map(|rule| format!("-D FORWARD {rule}")));
            commands.extend(admin.iter().map(|rule| format!("-D {CNI_FORWARD} {rule}")));
            commands.push(format!("-X {CNI_FORWARD}"));
            let targets = admin.iter().filter_map(|rule| rule.rsplit_once("-j "));
            let idle = targets.map(|(_, chain)| chain.trim()).filter(|chain| self.is_idle(chain));
            commands.extend(idle.map(|chain| format!("-X {chain}")));
        }
        commands
    }

    /// Whether a chain has no rules, and none leads to it but those of `CNI-FORWARD`.
    fn is_idle(&self, chain: &str) -> bool {
        let leads = |line: &str| {
            let mut words = line.split(' ').rev();
            words.next() == Some(chain) && matches!(words.next(), Some("-j" | "-g"))
        };
        self.rules(chain).next().is_none()
            && !self.lines.iter().any(|line| leads(line) && !line.starts_with("-A CNI-FORWARD "))
    }
}

/// Whether a rule has this condition, and beside it no other than a comment, and this target.
fn is_rule(rule: &str, condition: &str, target: &str) -> bool {
    let mut said = words(rule);
    let comment = said
        .windows(3)
        .position(|three| three[..2] == ["-m", "comment"] && three[2] == "--comment");
    if let Some(at) = comment {
        said.drain(at..said.len().min(at + 4));
    }
    let wanted = words(condition).into_iter().chain(["-j", target].map(str::to_owned));
    said.into_iter().eq(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(rules: &[&str]) -> Filter {
        Filter { lines: rules.iter().map(|rule| (*rule).to_owned()).collect() }
    }

    #[test]
    fn a_rule_is_known_with_and_without_a_comment() {
        for rule in [
            "-j CNI-ADMIN",
            "-m comment --comment one -j CNI-ADMIN",
            "-m comment --comment \"more words -j here\" -j CNI-ADMIN",
        ] {
            assert!(is_rule(rule, "", "CNI-ADMIN"), "{rule}");
            assert!(!is_rule(rule, ACCEPT, "CNI-ADMIN"), "{rule}");
            assert!(!is_rule(rule, "", "CNI-ADMIN2"), "{rule}");
        }
        assert!(is_rule(
            "-m mark --mark 0x1000/0x1000 -m comment --comment catena -j ACCEPT",
            ACCEPT,
            "ACCEPT"
        ));
        for other in [
            r#"-i eth0 -m comment --comment "a b" -j CNI-ADMIN"#,
            r#"-m comment --comment "a b" -i eth0 -j CNI-ADMIN"#,
            r#"-m comment --comment "-j CNI-ADMIN" -j MINE"#,
        ] {
            assert!(!is_rule(other, "", "CNI-ADMIN"), "{other}");
        }
        assert!(is_rule(r#"-m comment --comment "say \"a b\" " -j CNI-ADMIN"#, "", "CNI-ADMIN"));
    }

    #[test]
    fn an_administrators_own_rule_stays() {
        let ours = format!("-A {CNI_FORWARD} {ACCEPT} -m comment --comment catena -j ACCEPT");
        let own = format!("-A {CNI_FORWARD} {ACCEPT} -j ACCEPT");
        assert_eq!(filter(&[&ours, &own]).withdrawal(), [ours.replacen("-A", "-D", 1)]);
        assert_eq!(filter(&[&own]).withdrawal(), [""; 0]);
    }

    #[test]
    fn forward_drops_by_its_policy_or_by_its_last_rule() {
        assert!(filter(&[":FORWARD DROP [0:0]", "-A FORWARD -i lan -j ACCEPT"]).drops());
        assert!(filter(&[":FORWARD ACCEPT [0:0]", "-A FORWARD -j DROP"]).drops());
        let reject = "-A FORWARD -j REJECT --reject-with icmp-port-unreachable";
        assert!(filter(&[":FORWARD ACCEPT [0:0]", reject]).drops());
        assert!(!filter(&[":FORWARD ACCEPT [0:0]", reject, "-A FORWARD -i lan -j ACCEPT"]).drops());
        assert!(!filter(&[":FORWARD ACCEPT [0:0]", "-A FORWARD -i lan -j DROP"]).drops());
        for (jump, last, drops) in [
            ("-j rest", "-j DROP", true),
            ("-g rest", "-m comment --comment \"the rest\" -j DROP", true),
            (
                "-m comment --comment all -j rest",
                "-j REJECT --reject-with icmp-port-unreachable",
                true,
            ),
            ("-i lan -j rest", "-j DROP", false),
            ("-j rest", "-i lan -j DROP", false),
            ("-j rest", "-j rest", false),
        ] {
            let (jump, last) = (format!("-A FORWARD {jump}"), format!("-A rest {last}"));
            assert_eq!(
                filter(&[":FORWARD ACCEPT [0:0]", &jump, &last]).drops(),
                drops,
                "{jump} {last}"
            );
        }
    }

    #[test]
    fn only_what_is_missing_is_put_in() {
        let mut rules = vec![":FORWARD DROP [0:0]".to_owned()];
        let all = filter(&[":FORWARD DROP [0:0]"]).missing("CNI-ADMIN");
        assert_eq!(all.len(), 5, "{all:?}");
        assert!(
            all.iter().all(|command| command.starts_with('-')),
            "none empties a chain: {all:?}"
        );
        let as_listed = |command: &String| match command.strip_prefix("-N ") {
            Some(chain) => format!(":{chain} - [0:0]"),
            None => command.replace("-I ", "-A ").replace(" 1 -m", " -m"),
        };
        rules.extend(all.iter().map(as_listed));
        let whole = Filter { lines: rules.clone() };
        assert_eq!(whole.missing("CNI-ADMIN"), [""; 0]);
        assert_eq!(whole.missing("MINE").len(), 2, "a chain of one's own, and what leads to it");
        rules.retain(|rule| !rule.contains("-j ACCEPT"));
        let missing = Filter { lines: rules }.missing("CNI-ADMIN");
        assert!(matches!(&missing[..], [accept] if accept.contains(ACCEPT)), "{missing:?}");
    }
}
