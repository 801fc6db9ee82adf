//! What holds for any annotation.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::fake::{Fake, single};

fn fake() -> Fake {
    Fake::new()
        .with_key("defaultNetworks", json!(["d"]))
        .define("kube-system/d", single("bridge"))
        .define("web/a", single("bridge"))
        .define("web/b", single("bridge"))
}

proptest! {
    /// Either all networks that are asked for, each with an interface of its own, or an error.
    #[test]
    fn each_network_has_an_interface_of_its_own(
        asked in prop::collection::vec(("[ab]", prop::option::of("net[0-5]|eth[01]")), 0..6)
    ) {
        let elements: Vec<_> = asked
            .iter()
            .map(|(name, interface)| match interface {
                Some(interface) => format!("{name}@{interface}"),
                None => name.clone(),
            })
            .collect();
        if let Ok(networks) = fake().asks(elements.join(",")).resolve() {
            let names: BTreeSet<_> = networks.iter().map(|network| &network.ifname).collect();
            prop_assert_eq!(names.len(), networks.len());
            prop_assert_eq!(networks.len(), 2 + asked.len());
            prop_assert_eq!(networks[0].ifname.as_str(), "eth0");
            for (network, (_, interface)) in networks[2..].iter().zip(&asked) {
                if let Some(interface) = interface {
                    prop_assert_eq!(&network.ifname, interface);
                }
            }
        }
    }

    /// At most one network keeps a family's default route once a gateway of it is asked for, and it is that gateway's.
    #[test]
    fn one_network_has_the_default_route_that_is_asked_for(
        asked in prop::collection::vec(
            prop::option::of(prop::collection::vec(prop::sample::select(vec!["10.1.0.1", "fd00::1"]), 0..3)), 1..5)
    ) {
        let elements: Vec<_> =
            asked.iter().map(|gateways| json!({ "name": "a", "default-route": gateways })).collect();
        if let Ok(networks) = fake().asks_json(&json!(elements)).resolve() {
            for v4 in [true, false] {
                let has = |index: &usize| {
                    networks[*index].default_routes.gateways.iter().filter(|gateway| gateway.is_ipv4() == v4).count()
                };
                let with: Vec<_> = (0..networks.len()).filter(|index| has(index) > 0).collect();
                prop_assert!(with.len() <= 1 && with.iter().all(|index| has(index) == 1));
                for (index, network) in networks.iter().enumerate() {
                    let lost = if v4 { network.default_routes.loses.0 } else { network.default_routes.loses.1 };
                    let gives_up = index >= 2 && asked[index - 2].as_ref().is_some_and(Vec::is_empty);
                    prop_assert_eq!(lost, !with.contains(&index) && (!with.is_empty() || gives_up));
                }
            }
        }
    }

    #[test]
    fn no_annotation_and_no_definition_panics(annotation in ".{0,60}", config in ".{0,60}") {
        let mut fake = fake();
        fake.define_text("web/a", &config);
        let _ = fake.asks(annotation).resolve();
        let mut fake = self::fake().asks("a");
        fake.define_text("web/a", &config);
        let _ = fake.resolve();
    }
}
