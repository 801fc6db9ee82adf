//! A real firewalld.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::exec::Background;
use crate::netns::Netns;
use crate::wait::until;

/// Starts a firewalld in a namespace, on a message bus of its own whose socket is in `dir` (`/run/dbus`: where everybody looks
/// for it). Both live as long as what is
/// returned.
pub fn firewalld(netns: &Netns, dir: &Path) -> Vec<Background> {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("creating {}: {e}", dir.display()));
    let socket = dir.join("system_bus_socket");
    let address = format!("unix:path={}", socket.display());
    let mut bus = netns
        .cmd(["dbus-daemon", "--system", "--nofork", "--nopidfile", "--address", &address])
        .spawn(dir.join("bus.log"));
    until("the message bus is there", Duration::from_secs(10), || {
        bus.assert_alive();
        socket.exists().then_some(())
    });
    let mut daemon = netns
        .cmd(["firewalld", "--nofork", "--nopid", "--log-target=console"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &address)
        .spawn(dir.join("firewalld.log"));
    until("firewalld runs", Duration::from_secs(60), || {
        daemon.assert_alive();
        let state = netns.cmd(["firewall-cmd", "--state"]);
        state.env("DBUS_SYSTEM_BUS_ADDRESS", &address).output().is_success().then_some(())
    });
    vec![bus, daemon]
}
