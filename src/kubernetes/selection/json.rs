//! The JSON form: a list of elements.

use chain::{Error, Result};
use serde_json::{Map, Value};

use super::{Selection, typed, values};

/// The keys of an element.
const KEYS: [&str; 12] = [
    "name",
    "namespace",
    "interface",
    "ips",
    "mac",
    "infiniband-guid",
    "bandwidth",
    "portMappings",
    "deviceID",
    "cni-args",
    "default-route",
    "ipam-claim-reference",
];

/// The old spelling of `interface`.
const INTERFACE_REQUEST: &str = "interfaceRequest";

/// Reads a JSON list.
pub(super) fn parse(text: &str, pod_namespace: &str) -> Result<Vec<Selection>> {
    let json: Value = serde_json::from_str(text).map_err(|error| {
        Error::config(format!(
            "it is no valid JSON ({error}): write a list as [{{\"name\": \"net1\"}}], or names as net1,ns/net2@eth2"
        ))
    })?;
    let Value::Array(elements) = json else {
        return Err(Error::config(format!(
            "{} is not a list: put the elements in brackets, as [{{\"name\": \"net1\"}}]",
            typed::excerpt(&json)
        )));
    };
    let elements = elements.into_iter().enumerate();
    elements
        .map(|(index, element)| {
            let named = element.get("name").and_then(Value::as_str).map(typed::quoted);
            let named = named.map_or(String::new(), |name| format!(" ({name})"));
            element_of(element, pod_namespace)
                .map_err(|error| error.context(format_args!("element {}{named}", index + 1)))
        })
        .collect()
}

fn element_of(element: Value, pod_namespace: &str) -> Result<Selection> {
    let mut element = keyed(element)?;
    let mut take = |key: &str| element.shift_remove(key);
    let text = |key: &str, value: Option<Value>| -> Result<Option<String>> {
        value
            .map(|value| typed::text(key, value))
            .transpose()
            .map(|text| text.filter(|t| !t.is_empty()))
    };

    let name = text("name", take("name"))?.ok_or_else(|| {
        Error::config("it has no name: \"name\" is the NetworkAttachmentDefinition to attach to")
    })?;
    let namespace = text("namespace", take("namespace"))?;
    let interface = text("interface", take("interface"))?;
    let mac = text("mac", take("mac"))?;
    let guid = text("infiniband-guid", take("infiniband-guid"))?;
    let device_id = text("deviceID", take("deviceID"))?;
    let claim = text("ipam-claim-reference", take("ipam-claim-reference"))?;
    let selection = Selection {
        namespace: values::namespace(namespace.as_deref().unwrap_or(pod_namespace))?,
        name: values::name(&name)?,
        interface: interface.as_deref().map(values::interface).transpose()?,
        ips: take("ips").map(values::ips).transpose()?.unwrap_or_default(),
        mac: mac.as_deref().map(values::mac).transpose()?,
        infiniband_guid: guid.as_deref().map(values::guid).transpose()?,
        bandwidth: take("bandwidth").map(values::bandwidth).transpose()?,
        port_mappings: take("portMappings").map(values::port_mappings).transpose()?,
        device_id: device_id.as_deref().map(values::device_id).transpose()?,
        cni_args: take("cni-args").map(|args| typed::object("cni-args", args)).transpose()?,
        default_route: take("default-route").map(values::gateways).transpose()?,
        ipam_claim_reference: claim.as_deref().map(values::claim).transpose()?,
    };
    if !selection.ips.is_empty() && selection.ipam_claim_reference.is_some() {
        return Err(Error::config(
            "ips and ipam-claim-reference are both given: the claim has the addresses; keep one of them",
        ));
    }
    Ok(selection)
}

/// The element by its known keys. As in Go, their case does not matter, and null is as good as absent. The standard reserves
/// keys without a period, so an unknown one is likely a typo: it is passed over with a warning.
fn keyed(element: Value) -> Result<Map<String, Value>> {
    let element = typed::object("the element", element)?;
    let mut keyed = Map::new();
    for (written, value) in element {
        let known = KEYS.into_iter().find(|key| key.eq_ignore_ascii_case(&written));
        let known = known
            .or_else(|| written.eq_ignore_ascii_case(INTERFACE_REQUEST).then_some("interface"));
        match known {
            _ if value.is_null() => {}
            Some(key) if keyed.get(key).is_some_and(|other| *other != value) => {
                return Err(Error::config(format!(
                    "{key} is given twice, as {} and {}: keep one of them",
                    typed::excerpt(&keyed[key]),
                    typed::excerpt(&value)
                )));
            }
            Some(key) => drop(keyed.insert(key.to_owned(), value)),
            None if written.contains('.') => {}
            None => tracing::warn!(
                "networks annotation: unknown key {} is passed over; known are {}",
                typed::quoted(&written),
                KEYS.join(", ")
            ),
        }
    }
    Ok(keyed)
}
