# weave-net (weaveworks/weave, plugin/net): a port of the bridge `weave`, which the daemon has made. Its result has neither
# interfaces nor routes. Its library is CNI's of 2017, whose errors all have the code 100.
leases=/var/lib/cni/weave
range='[[{"subnet": "10.32.0.0/12", "rangeStart": "10.32.0.2"}]]'

if [ "$CNI_COMMAND" = DEL ]; then
    if [ -n "${CNI_NETNS:-}" ]; then
        inside ip link del "$CNI_IFNAME" || echo "weave-cni: error removing interface \"$CNI_IFNAME\"" >&2
    fi
    addresses $leases "$range"
    exit
fi

bridge=$(get '.bridge // "weave"')
ip link show dev "$bridge" >/dev/null 2>&1 || fail $internal "bridge \"$bridge\" not present; did you launch weave?"
address=$(addresses $leases "$range" | jq -r '.ips[0].address')
gateway=$(ip -j addr show dev "$bridge" | jq -r '[.[0].addr_info[] | select(.family == "inet")][0].local')
id=$(printf %s "$CNI_CONTAINERID" | cut -c 1-7)
ip link add "vethwepl$id" type veth peer name "vethwepg$id"
ip link set "vethwepl$id" master "$bridge"
ip link set "vethwepg$id" netns "$(basename "$CNI_NETNS")"
inside ip link set "vethwepg$id" name "$CNI_IFNAME"
ip link set "vethwepl$id" up
if [ "$(get 'if has("hairpinMode") then .hairpinMode else true end')" = true ]; then
    ip link set "vethwepl$id" type bridge_slave hairpin on
fi
inside ip addr add "$address" dev "$CNI_IFNAME"
inside ip link set "$CNI_IFNAME" up
inside ip route add default via "$gateway" dev "$CNI_IFNAME"
result '[]' "[{\"address\": \"$address\", \"gateway\": \"$gateway\"}]" '[]'
