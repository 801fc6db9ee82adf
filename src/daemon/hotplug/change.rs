//! What is to be done so that a pod has what its annotation asks for.

use chain::{Error, Result};

use crate::kubernetes::{
    networks::{Role, settle_default_routes},
    pods::PodAttachment,
    selection::Selection,
};

/// The difference between a pod's annotation and its record.
#[derive(Debug, Default, PartialEq)]
pub struct Change {
    /// The interfaces that are to go, the last one first.
    pub removed: Vec<PodAttachment>,
    /// The networks that are to come, each with its interface.
    pub added: Vec<(Selection, String)>,
}

impl Change {
    /// What is to be done. A network stays where the annotation still has it under the same interface, or without naming
    /// one, and asks the same of it. One of which something else is asked (addresses, ports, …) goes, and comes anew under
    /// the same interface.
    ///
    /// A new one without a name gets `net` and the lowest number that is free.
    ///
    /// Errors (7): an interface is asked for that another network of the node's configuration has, or two default routes.
    pub fn between(asked: Vec<Selection>, recorded: &[PodAttachment]) -> Result<Self> {
        let mut stays = vec![false; recorded.len()];
        let mut anew: Vec<Option<Selection>> = vec![None; recorded.len()];
        let mut added = Vec::new();
        // Those that name their interface first: what they keep is not another one's to take. Of several elements of one
        // network those that ask for what there is come before those that do not.
        let (named, unnamed): (Vec<_>, Vec<_>) =
            asked.into_iter().partition(|asked| asked.interface.is_some());
        for mut left in [named, unnamed] {
            for same in [true, false] {
                for asked in std::mem::take(&mut left) {
                    let name = asked.to_string();
                    let place = recorded.iter().enumerate().position(|(index, one)| {
                        one.role == Role::Selected
                            && !stays[index]
                            && anew[index].is_none()
                            && one.name == name
                            && asked.interface.as_ref().is_none_or(|asked| *asked == one.ifname)
                            && (!same || asks_the_same(one, &asked))
                    });
                    match place {
                        Some(index) if same => stays[index] = true,
                        Some(index) => anew[index] = Some(asked),
                        None => left.push(asked),
                    }
                }
            }
            added.extend(left);
        }
        let goes = |index: usize| recorded[index].role == Role::Selected && !stays[index];
        let removed = (0..recorded.len()).rev().filter(|index| goes(*index));
        let removed: Vec<_> = removed.map(|index| recorded[index].clone()).collect();
        let kept = (0..recorded.len()).filter(|index| !goes(*index));
        let mut taken: Vec<String> =
            kept.clone().map(|index| recorded[index].ifname.clone()).collect();
        let mut with_names: Vec<_> = anew
            .into_iter()
            .zip(recorded)
            .filter_map(|(asked, one)| Some((asked?, one.ifname.clone())))
            .collect();
        taken.extend(with_names.iter().map(|(_, ifname)| ifname.clone()));
        for asked in added {
            let ifname = match &asked.interface {
                Some(ifname) if taken.contains(ifname) => {
                    return Err(Error::config(format!(
                        "network {asked} asks for the interface {ifname:?}, which the pod has already: choose another name"
                    )));
                }
                Some(ifname) => ifname.clone(),
                None => (1..)
                    .map(|number| format!("net{number}"))
                    .find(|name| !taken.contains(name))
                    .expect("there is always a further number"),
            };
            taken.push(ifname.clone());
            with_names.push((asked, ifname));
        }
        let kept = kept.map(|index| recorded[index].asked.as_ref());
        let then = kept.flatten().chain(with_names.iter().map(|(asked, _)| asked));
        let names: Vec<_> = then.map(|asked| (asked.to_string(), asked)).collect();
        let routes: Vec<_> = names
            .iter()
            .map(|(name, asked)| (name.as_str(), asked.default_route.as_deref()))
            .collect();
        settle_default_routes(&routes)?;
        Ok(Self { removed, added: with_names })
    }

    /// Whether the pod has what it asks for.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// Whether an element asks of its network what the pod was attached with. An older record does not say that.
fn asks_the_same(recorded: &PodAttachment, asked: &Selection) -> bool {
    recorded.asked.as_ref().is_none_or(|recorded| {
        let interface = asked.interface.clone();
        Selection { interface, ..recorded.clone() } == *asked
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    use super::*;
    use crate::kubernetes::selection::parse;

    fn recorded(all: &[(&str, &str)]) -> Vec<PodAttachment> {
        let one = |(name, ifname): &(&str, &str)| PodAttachment {
            name: (*name).to_owned(),
            role: match (*name, *ifname) {
                ("pods", _) => Role::Cluster,
                (_, "def1") => Role::Default,
                _ => Role::Selected,
            },
            network: "n".to_owned(),
            ifname: (*ifname).to_owned(),
            conf: Value::Null,
            capability_args: Map::new(),
            args: String::new(),
            device: None,
            loses_default: (false, false),
            put_away: Default::default(),
            asked: None,
        };
        all.iter().map(one).collect()
    }

    /// The interfaces that go, and the networks that come with theirs.
    fn change(annotation: &str, all: &[(&str, &str)]) -> Result<(String, String)> {
        let change = Change::between(parse(annotation, "ns")?, &recorded(all))?;
        Ok((gone_of(&change), come_of(&change)))
    }

    fn gone_of(change: &Change) -> String {
        let gone: Vec<_> = change.removed.iter().map(|one| one.ifname.as_str()).collect();
        gone.join(",")
    }

    fn come_of(change: &Change) -> String {
        let come = change.added.iter().map(|(asked, ifname)| format!("{asked}@{ifname}"));
        come.collect::<Vec<_>>().join(",")
    }

    #[test]
    fn what_the_annotation_still_has_stays() {
        let pod = [("pods", "eth0"), ("ns/d", "def1"), ("ns/a", "net2"), ("ns/b", "x")];
        for (annotation, gone, come) in [
            ("a,b", "", ""),
            ("b,a", "", ""),
            ("a,b@x", "", ""),
            ("", "x,net2", ""),
            ("b", "net2", ""),
            ("a,b@y", "x", "ns/b@y"),
            ("a,b,c", "", "ns/c@net1"),
            ("a,a,b", "", "ns/a@net1"),
            ("a,b,c@net1,c", "", "ns/c@net1,ns/c@net3"),
            ("other/a,b", "net2", "other/a@net1"),
            // The name of what goes is free.
            ("b,c@net2", "net2", "ns/c@net2"),
            // A name that is asked for keeps its interface, in whatever order.
            ("a,a@net2,b", "", "ns/a@net1"),
        ] {
            assert_eq!(
                change(annotation, &pod).unwrap(),
                (gone.into(), come.into()),
                "{annotation}"
            );
        }
    }

    #[test]
    fn what_is_asked_otherwise_of_a_network_comes_anew_by_its_interface() {
        let json = |elements: &[&str]| format!("[{}]", elements.join(","));
        let first = r#"{"name":"a","ips":["10.0.0.1"]}"#;
        let second = r#"{"name":"a","ips":["10.0.0.2"],"cni-args":{"k":1}}"#;
        let mut pod = recorded(&[("pods", "eth0"), ("ns/a", "net1"), ("ns/a", "net2")]);
        for (one, asked) in pod[1..].iter_mut().zip([first, second]) {
            one.asked = parse(&json(&[asked]), "ns").unwrap().pop();
        }
        let named = |element: &str, ifname: &str| {
            element.replace(r#""a""#, &format!(r#""a","interface":"{ifname}""#))
        };
        for (elements, gone, come) in [
            (vec![first.to_owned(), second.to_owned()], "", ""),
            // Each keeps its own, in whatever order, and by its name.
            (vec![second.to_owned(), first.to_owned()], "", ""),
            (vec![named(second, "net2"), first.to_owned()], "", ""),
            (vec![second.to_owned()], "net1", ""),
            (vec![first.to_owned(), r#"{"name":"a"}"#.to_owned()], "net2", "ns/a@net2"),
            (vec![named(second, "net1"), first.to_owned()], "net2,net1", "ns/a@net1,ns/a@net2"),
            (
                vec![r#"{"name":"a","mac":"02:00:00:00:00:01"}"#.to_owned()],
                "net2,net1",
                "ns/a@net1",
            ),
        ] {
            let elements: Vec<_> = elements.iter().map(String::as_str).collect();
            let change = Change::between(parse(&json(&elements), "ns").unwrap(), &pod).unwrap();
            let all = (gone_of(&change), come_of(&change));
            assert_eq!(all, (gone.to_owned(), come.to_owned()), "{elements:?}");
        }
    }

    #[test]
    fn an_interface_of_the_node_is_not_given_away_nor_a_route_twice() {
        let pod = [("pods", "eth0"), ("ns/d", "def1")];
        for annotation in ["a@eth0", "a@def1"] {
            let error = change(annotation, &pod).unwrap_err();
            assert!(error.msg.contains("which the pod has already"), "{error}");
        }
        let both = r#"[{"name":"a","default-route":["10.0.0.1"]},{"name":"b","default-route":["10.0.0.2"]}]"#;
        let error = change(both, &pod).unwrap_err();
        assert!(error.msg.contains("one default route for IPv4"), "{error}");
        // What the node's configuration gives is not the annotation's.
        assert_eq!(change("d", &pod).unwrap().1, "ns/d@net1");
    }
}
