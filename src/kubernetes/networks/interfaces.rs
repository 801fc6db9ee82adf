//! The names of a pod's interfaces.

use chain::{Error, Result};

/// An interface, by what is asked for it.
pub(super) struct Interface<'a> {
    /// The network that it is for, for errors.
    pub network: &'a str,
    /// The name that is asked for.
    pub asked: Option<&'a str>,
}

/// The names of all of a pod's interfaces: that of the cluster network, which the runtime gives, first. The others are as
/// asked for, or `net` and their number in the whole list; a network that has a name of its own uses up its number.
///
/// Errors (7): two would have one name.
pub(super) fn names(cluster_ifname: &str, interfaces: &[Interface<'_>]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (index, interface) in interfaces.iter().enumerate() {
        let name = match (index, interface.asked) {
            (0, None) => cluster_ifname.to_owned(),
            (0, Some(asked)) if asked != cluster_ifname => {
                return Err(Error::config(format!(
                    "network {}: the interface {asked:?} is asked for, but the runtime looks for the cluster network's at \
                     {cluster_ifname:?}: leave the interface out",
                    interface.network
                )));
            }
            (_, Some(asked)) => asked.to_owned(),
            (_, None) => format!("net{index}"),
        };
        if let Some(first) = names.iter().position(|other| *other == name) {
            return Err(Error::config(taken(&name, first, interfaces, index)));
        }
        names.push(name);
    }
    Ok(names)
}

/// Why the interface at `index` cannot have this name, which the one at `first` has.
fn taken(name: &str, first: usize, interfaces: &[Interface<'_>], index: usize) -> String {
    let (holder, network) = (&interfaces[first], interfaces[index].network);
    let why = match (first, holder.asked) {
        (0, _) => "that is the cluster network's interface".to_owned(),
        (_, Some(_)) => format!("network {} asks for it", holder.network),
        (_, None) => {
            format!(
                "network {} has it, which is number {first} and asks for no name",
                holder.network
            )
        }
    };
    match interfaces[index].asked {
        Some(_) => format!(
            "network {network} asks for the interface {name:?}, but {why}: choose another name"
        ),
        None => format!(
            "network {network} is number {index} and would have the interface {name:?}, but {why}: choose a name that does \
             not read net<number>, or give {network} one as well"
        ),
    }
}
