//! Asking `ip`, `tc`, `nft` and the file system.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::{Value, json};

use super::{Section, settle::settle, volatile};
use crate::netns::Netns;

/// Global controls that network plugins set; those of a device go with it.
const SYSCTLS: [&str; 7] = [
    "ipv4.ip_forward",
    "ipv4.conf.all.forwarding",
    "ipv4.conf.all.route_localnet",
    "ipv4.conf.default.route_localnet",
    "ipv6.conf.all.forwarding",
    "bridge.bridge-nf-call-iptables",
    "bridge.bridge-nf-call-ip6tables",
];

const STATE_DIRS: [&str; 3] = ["/var/lib/cni", "/var/lib/catena", "/run/catena"];

pub(super) fn of_netns(netns: &Netns) -> BTreeMap<&'static str, Section> {
    settle(netns);
    let links = list(netns, &["ip", "-j", "-d", "link"]);
    let qdiscs = list(netns, &["tc", "-j", "qdisc"]);
    BTreeMap::from([
        ("filter", filters(netns, &qdiscs)),
        ("link", keyed(links, &["ifname"], volatile::link)),
        ("address", addresses(list(netns, &["ip", "-j", "addr"]))),
        ("route", routes(netns)),
        ("rule", rules(netns)),
        ("qdisc", keyed(qdiscs, &["dev", "kind", "parent"], volatile::qdisc)),
        ("nft", nft(netns)),
        ("sysctl", sysctls(netns)),
    ])
}

fn list(netns: &Netns, argv: &[&str]) -> Vec<Value> {
    match netns.json(argv) {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        other => panic!("{argv:?}: expected a list, got {other}"),
    }
}

/// The items by the values of the given fields.
fn keyed(items: Vec<Value>, fields: &[&str], clean: impl Fn(&mut Value)) -> Section {
    let mut section = Section::new();
    for mut item in items {
        let key: Vec<String> = fields.iter().filter_map(|f| text(&item[*f])).collect();
        clean(&mut item);
        insert(&mut section, key.join(" "), item);
    }
    section
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(s) => Some(s.clone()),
        other => Some(other.to_string()),
    }
}

/// Inserts under `key`, or `key #2` and so on where it is taken.
fn insert(section: &mut Section, key: String, value: Value) {
    let free = (1..)
        .map(|n| if n == 1 { key.clone() } else { format!("{key} #{n}") })
        .find(|candidate| !section.contains_key(candidate));
    section.insert(free.unwrap_or(key), value);
}

fn addresses(links: Vec<Value>) -> Section {
    let mut section = Section::new();
    for link in links {
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let mut address = address.clone();
            volatile::address(&mut address);
            let part = |value: &Value| text(value).unwrap_or_default();
            let (dev, local) = (part(&link["ifname"]), part(&address["local"]));
            insert(&mut section, format!("{dev} {local}/{}", address["prefixlen"]), address);
        }
    }
    section
}

fn routes(netns: &Netns) -> Section {
    let mut all = Vec::new();
    for family in ["-4", "-6"] {
        all.extend(list(netns, &["ip", "-j", family, "route", "show", "table", "all"]));
    }
    keyed(all, &["dev", "type", "dst", "gateway", "table", "metric"], volatile::route)
}

fn rules(netns: &Netns) -> Section {
    let mut section = Section::new();
    for family in ["-4", "-6"] {
        for rule in list(netns, &["ip", "-j", family, "rule"]) {
            insert(&mut section, format!("{family} {}", rule["priority"]), rule);
        }
    }
    section
}

/// Filters can only be listed by device, and a device without a classful or ingress discipline
/// has none.
fn filters(netns: &Netns, qdiscs: &[Value]) -> Section {
    let mut section = Section::new();
    for qdisc in qdiscs.iter().filter(|q| q["kind"] != "noqueue") {
        let (Some(dev), Some(kind)) = (qdisc["dev"].as_str(), qdisc["kind"].as_str()) else {
            continue;
        };
        let hooks: &[&str] = match kind {
            "ingress" => &["ingress"],
            "clsact" => &["ingress", "egress"],
            _ => &["root"],
        };
        for hook in hooks {
            for mut filter in list(netns, &["tc", "-j", "filter", "show", "dev", dev, hook]) {
                volatile::filter(&mut filter);
                let key = format!("{dev} {hook} {} {}", filter["pref"], filter["kind"]);
                insert(&mut section, key, filter);
            }
        }
    }
    section
}

/// The ruleset by table, object and place; an element of a set or a map is an object of its own.
fn nft(netns: &Netns) -> Section {
    let ruleset = netns.json(["nft", "-j", "list", "ruleset"]);
    let mut section = Section::new();
    for object in ruleset["nftables"].as_array().into_iter().flatten() {
        let Some((kind, body)) = object.as_object().and_then(|o| o.iter().next()) else {
            continue;
        };
        if kind == "metainfo" {
            continue;
        }
        let mut body = body.clone();
        volatile::nft(&mut body);
        let part = |name: &str| text(&body[name]).unwrap_or_default();
        // A table has its own name, all else the name of its table.
        let (family, table) =
            (part("family"), part(if kind == "table" { "name" } else { "table" }));
        let place = match kind.as_str() {
            "table" => String::new(),
            "rule" => part("chain"),
            _ => part("name"),
        };
        let elements = body.as_object_mut().and_then(|body| body.remove("elem"));
        for element in elements.iter().filter_map(Value::as_array).flatten() {
            let key = format!("{family} {table} element {place} {element}");
            insert(&mut section, key, element.clone());
        }
        insert(&mut section, format!("{family} {table} {kind} {place}"), body);
    }
    section
}

fn sysctls(netns: &Netns) -> Section {
    SYSCTLS.iter().map(|key| ((*key).to_owned(), Value::String(netns.sysctl(key)))).collect()
}

pub(super) fn of_files() -> Section {
    let mut section = Section::new();
    for dir in STATE_DIRS {
        // The directories themselves may be there or not.
        walk(Path::new(dir), &mut section);
    }
    section
}

fn walk(dir: &Path, section: &mut Section) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        let kind = meta.file_type();
        let mut file = json!({ "mode": format!("{:o}", meta.permissions().mode() & 0o7777) });
        if kind.is_dir() {
            file["kind"] = json!("directory");
            walk(&path, section);
        } else if kind.is_symlink() {
            file["kind"] = json!("link");
            file["to"] = json!(fs::read_link(&path).ok());
        } else if kind.is_socket() {
            file["kind"] = json!("socket");
        } else {
            let content = fs::read(&path).unwrap_or_default();
            file["content"] = json!(String::from_utf8_lossy(&content));
        }
        section.insert(path.display().to_string(), file);
    }
}
