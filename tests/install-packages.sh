#!/usr/bin/env bash
# Installs what the demo and the tests need from the distribution's packages (Debian, Ubuntu).
# With names of packages, installs these instead. Does nothing, and needs no network, where all of it is there.
set -euo pipefail

packages=("$@")
[ $# -gt 0 ] || packages=(
  # To build a static binary.
  gcc g++ libc6-dev make
  # The kernel's own view, and traffic.
  dnsmasq-base nftables iptables iproute2 iputils-ping conntrack radvd curl iperf3 strace procps util-linux binutils faketime
  # DHCP servers, beside dnsmasq.
  kea-dhcp4-server kea-dhcp6-server isc-dhcp-server
  # What filters on nodes.
  firewalld dbus-daemon
  # What reads units.
  systemd
  # Real runtimes, and the plugins to compare with.
  podman containerd crun containernetworking-plugins busybox-static
  # The keys of a cluster, and what its kube-proxy runs.
  openssl ipset
  # What plugins made of shell read configurations with.
  jq
  # A machine with another kernel.
  qemu-system-x86
)

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "$0: no apt-get here; install what corresponds to: ${missing[*]}" >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "$0: run as root, or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi

echo "Installing ${missing[*]}" >&2
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes)
"${apt[@]}" update >&2
"${apt[@]}" install --no-install-recommends "${missing[@]}" >&2
