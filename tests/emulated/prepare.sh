#!/usr/bin/env bash
# Lays out the machine that tests emulate where this machine's kernel lacks something: Debian's kernel with its modules,
# and the first file system that it has, in the folder ${XDG_CACHE_HOME:-$HOME/.cache}/catena/linux-<version>. The
# kernel is taken out of Debian's package, since installing it would change how this machine starts. What of it is there
# already needs no network; remove the folder to have another kernel.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/catena
mkdir -p "$cache"
# Whoever comes second waits for what the first one makes.
exec 9>"$cache/linux.lock"
flock 9
work=$(mktemp --directory "$cache/unpacking.XXXXXX")
trap 'rm --recursive --force "$work"' EXIT

# What the root file system and the interface take: the rest is loaded when it is asked for.
modules=(virtio_pci 9pnet_virtio 9p overlay virtio_net)

linux=$(find "$cache" -maxdepth 1 -name 'linux-*' -type d | sort --version-sort | tail --lines 1)
if [ -z "$linux" ]; then
  cd "$work"
  package=$(apt-cache depends linux-image-amd64 | sed --quiet 's/^ *Depends: //p')
  [ -n "$package" ] || { echo "$0: apt knows no linux-image-amd64: apt-get update" >&2; exit 1; }
  echo "Downloading $package" >&2
  apt-get --quiet=2 -o APT::Sandbox::User=root download "$package" >&2
  dpkg-deb --extract ./*.deb unpacked
  version=${package#linux-image-}
  mkdir laid-out
  mv "unpacked/lib/modules/$version" laid-out/modules
  mv "unpacked/boot/vmlinuz-$version" laid-out/vmlinuz
  mkdir --parents lib/modules
  ln --symbolic "$work/laid-out/modules" "lib/modules/$version"
  busybox depmod -b "$work" "$version"
  linux=$cache/linux-$version
  mv --no-target-directory laid-out "$linux"
fi

# The order in which insmod takes them: what others need comes first.
cd "$linux/modules"
files=()
for module in "${modules[@]}"; do
  line=$(grep "/$module\.ko:" modules.dep)
  read -ra needed <<<"${line#*:}"
  for ((i = ${#needed[@]} - 1; i >= 0; i--)); do files+=("${needed[i]}"); done
  files+=("${line%%:*}")
done
mkdir --parents "$work/initramfs"/{bin,sbin,modules}
number=100
while read -r file; do
  cp "${file#"$PWD"/}" "$work/initramfs/modules/$((number++))-$(basename "$file")"
done < <(printf '%s\n' "${files[@]}" | awk '!seen[$0]++')
cp "$(command -v busybox)" "$work/initramfs/bin/busybox"
install --mode=755 "$here/init" "$work/initramfs/init"
(cd "$work/initramfs" && find . | busybox cpio -o -H newc 2>/dev/null) >"$work/new"
mv "$work/new" "$linux/initramfs"
