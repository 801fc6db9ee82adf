//! The short form: `name`, `namespace/name`, `name@interface`, with commas between.

use chain::{Error, Result};

use super::{Selection, typed::quoted, values};

/// Reads a text that is not empty.
pub(super) fn parse(text: &str, pod_namespace: &str) -> Result<Vec<Selection>> {
    let elements = text.split(',').enumerate();
    elements
        .map(|(index, element)| {
            element_of(element.trim(), pod_namespace).map_err(|error| {
                error.context(format_args!("element {} of {}", index + 1, quoted(text)))
            })
        })
        .collect()
}

fn element_of(element: &str, pod_namespace: &str) -> Result<Selection> {
    if element.is_empty() {
        return Err(Error::config("no network between two commas, or at an end: remove the comma"));
    }
    let (network, interface) = match element.split_once('@') {
        None => (element, None),
        Some((_, interface)) if interface.contains('@') => {
            return Err(Error::config(format!(
                "{} has more than one '@': write namespace/name@interface",
                quoted(element)
            )));
        }
        Some((_, "")) => {
            return Err(Error::config(format!(
                "{} has no interface after '@': name one, as in \"net@eth1\", or remove the '@'",
                quoted(element)
            )));
        }
        Some((network, interface)) => (network, Some(interface)),
    };
    let (namespace, name) = match network.split_once('/') {
        None => (pod_namespace, network),
        Some((_, name)) if name.contains('/') => {
            return Err(Error::config(format!(
                "{} has more than one '/': write namespace/name@interface",
                quoted(element)
            )));
        }
        Some(("", _)) => {
            return Err(Error::config(format!(
                "{} has no namespace before '/': name one, or remove the '/' for the pod's own",
                quoted(element)
            )));
        }
        Some(parts) => parts,
    };
    Ok(Selection {
        namespace: values::namespace(namespace)?,
        name: values::name(name)?,
        interface: interface.map(values::interface).transpose()?,
        ..Selection::default()
    })
}
