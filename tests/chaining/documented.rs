//! The configurations of docs/chaining.md.

use std::fs;
use std::path::Path;

use serde_json::{Deserializer, Value};

/// The JSON values of the section under this heading, in their order.
pub fn section(heading: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/chaining.md");
    let text = fs::read_to_string(file).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks =
        section.split("\n```json\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.flat_map(|block| Deserializer::from_str(block).into_iter().map(Result::unwrap)).collect()
}

/// The network of this name.
pub fn network(heading: &str, name: &str) -> Value {
    let mut all = section(heading).into_iter();
    all.find(|json| json["name"] == name).unwrap_or_else(|| panic!("{heading}: no network {name}"))
}

#[test]
fn each_documented_network_is_run_by_a_test() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/chaining.md"));
    let text = text.unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix("## "));
    let names: Vec<_> = headings
        .flat_map(|heading| section(heading).into_iter().map(move |json| (heading, json)))
        .filter_map(|(heading, json)| Some((heading, json["name"].as_str()?.to_owned())))
        .collect();
    let names: Vec<_> = names.iter().map(|(heading, name)| (*heading, name.as_str())).collect();
    let tested = [
        ("calico", "k8s-pod-network"),
        ("Cilium", "cilium"),
        ("Cilium", "behind-cilium"),
        ("flannel", "cbr0"),
        ("weave-net", "weave"),
        ("A second network", "storage"),
    ];
    assert_eq!(names, tested);
}
