#!/usr/bin/env bash
# Lays out what the tests against Kubernetes run: etcd, kube-apiserver, kubelet, kube-proxy and kubectl, in the folder
# ${XDG_CACHE_HOME:-$HOME/.cache}/catena/kubernetes-<version>. etcd and kubectl are taken out of Debian's packages, since
# installing them would start a server, and be in the way of another kubectl; the others are built from Debian's
# source package (five minutes on two cores). Does nothing, and needs no network, where a folder with all of it is there,
# or where KUBEBUILDER_ASSETS names one; a folder that lacks something is made anew.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
binaries=(etcd kube-apiserver kubelet kube-proxy kubectl)

complete() {
  local binary
  for binary in "${binaries[@]}"; do [ -x "$1/$binary" ] || return 1; done
}

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  for binary in etcd kube-apiserver; do
    [ -x "$KUBEBUILDER_ASSETS/$binary" ] || {
      echo "$0: KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no $binary; unset it to have one built" >&2
      exit 1
    }
  done
  # Whole nodes are made of one version: what is not there comes with all else from the cache.
  [ ! -x "$KUBEBUILDER_ASSETS/kubelet" ] || [ ! -x "$KUBEBUILDER_ASSETS/kube-proxy" ] || exit 0
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/catena
mkdir -p "$cache"
# Whoever comes second waits for what the first one makes.
exec 9>"$cache/kubernetes.lock"
flock 9
for folder in "$cache"/kubernetes-*/; do
  ! complete "$folder" || exit 0
done

"$here/../install-packages.sh" gcc libc6-dev make dpkg-dev golang-go rsync jq golang-github-modern-go-reflect2-dev

work=$(mktemp --directory "$cache/building.XXXXXX")
trap 'chmod --recursive u+w "$work"; rm --recursive --force "$work"' EXIT
cd "$work"
mkdir lists lists/partial assets unpacked

# The sources of Debian's own repositories, beside the machine's configuration of apt.
apt-get indextargets \
  --format 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(RELEASE) $(COMPONENT)' \
  'Created-By: Packages' 'Origin: Debian' | sort --unique >sources.list
[ -s sources.list ] || {
  echo "$0: apt knows no repository of Debian's; set KUBEBUILDER_ASSETS to a folder with ${binaries[*]}" >&2
  exit 1
}
sources=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache::SrcPkgCache=" -o "Dir::Cache::PkgCache="
  -o APT::Sandbox::User=root)
echo 'Downloading the source package kubernetes' >&2
apt-get --quiet=2 "${sources[@]}" update >&2
apt-get --quiet=2 "${sources[@]}" source kubernetes >&2
source=$(echo "$work"/kubernetes-*/)
version=$(dpkg-parsechangelog --file "$source/debian/changelog" --show-field Version)

apt-get --quiet=2 -o APT::Sandbox::User=root download etcd-server kubernetes-client >&2
for package in ./*.deb; do dpkg-deb --extract "$package" unpacked; done
cp unpacked/usr/bin/etcd unpacked/usr/bin/kubectl assets/

# reflect2 1.0.1 crashes with Go 1.18 and newer, on the first custom resource.
reflect2=vendor/github.com/modern-go/reflect2
rm --recursive "${source:?}/$reflect2"
cp --recursive "/usr/share/gocode/src/github.com/modern-go/reflect2" "$source/$reflect2"

# Where Go looks for it without modules.
mkdir --parents "$source/.go/src/k8s.io"
ln --symbolic "$source" "$source/.go/src/k8s.io/kubernetes"
echo "Building kube-apiserver, kubelet and kube-proxy $version, once on this machine" >&2
env --unset=GOFLAGS GOPATH="$source/.go" GOCACHE="$work/go-cache" CGO_ENABLED=0 \
  make --directory "$source/.go/src/k8s.io/kubernetes" WHAT='cmd/kube-apiserver cmd/kubelet cmd/kube-proxy' >&2
cp "$source"/_output/bin/{kube-apiserver,kubelet,kube-proxy} assets/

complete assets
# One that an earlier version of this script made.
[ ! -e "$cache/kubernetes-$version" ] || mv "$cache/kubernetes-$version" replaced
mv --no-target-directory assets "$cache/kubernetes-$version"
echo "Built $cache/kubernetes-$version" >&2
