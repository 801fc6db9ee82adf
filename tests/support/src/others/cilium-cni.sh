# cilium-cni (cilium/cilium, plugins/cilium-cni): by itself, or as generic-veth after the plugin that made the interface. Its
# result has both ends and /32 addresses of the second one. The agent puts its programs into clsact at the node's end.
agent=/run/cilium/cilium.sock
# What the agent knows of its endpoints.
endpoints=/var/lib/cni/cilium
endpoint=$endpoints/${CNI_CONTAINERID:-}:${CNI_IFNAME:-}
mode=$(get '."chaining-mode" // ""')
pool='[[{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}]]'

# The agent looks after a device from now on.
look_after() {
    mkdir -p $endpoints
    if ! tc qdisc replace dev "$1" clsact 2>/dev/null; then
        fail 999 "unable to create endpoint: attaching to $1: replacing clsact qdisc: invalid argument"
    fi
    for side in ingress egress; do
        tc filter replace dev "$1" $side protocol all prio 1 u32 match u32 0 0 flowid :1
    done
    echo "$1" >"$endpoint"
}

is_healthy() {
    if [ ! -e $agent ]; then
        fail 11 DaemonDown "unable to connect to Cilium agent"
    elif [ ! -e "$endpoint" ]; then
        fail 115 HealthzFailed "failed to retrieve container health"
    fi
}

case $CNI_COMMAND$mode in
GC*) exit ;;
STATUS*)
    [ -e $agent ] || fail 50 DaemonDown "unable to connect to Cilium agent"
    exit
    ;;
CHECKgeneric-veth)
    is_healthy
    exit
    ;;
CHECK)
    is_healthy
    wanted=$(get '.prevResult as $r | $r.interfaces | to_entries[] | select(.value.sandbox and .value.name == env.CNI_IFNAME) |
        .key as $i | $r.ips[] | select(.interface == $i) | .address')
    for address in $wanted; do
        inside ip addr show dev "$CNI_IFNAME" | grep -q "inet $address" || fail 999 "expected ip $address on interface $CNI_IFNAME"
    done
    exit
    ;;
DELgeneric-veth)
    rm -f "$endpoint"
    exit
    ;;
DEL)
    rm -f "$endpoint"
    addresses $endpoints/leases "$pool"
    if [ -n "${CNI_NETNS:-}" ] && [ -e "$CNI_NETNS" ]; then
        inside ip link del "$CNI_IFNAME" 2>/dev/null || true
    fi
    exit
    ;;
esac

[ -e $agent ] || fail 999 "unable to connect to Cilium agent: is the agent running?"
if [ "$(get 'has("prevResult")')" = true ]; then
    [ "$mode" = generic-veth ] ||
        fail 999 "CNI PrevResult supplied, but not in chaining mode -- this is invalid, please set chaining-mode in CNI configuration"
    # The first veth in the container, whatever it is called.
    index=$(inside ip -j -d link show type veth | jq '.[0].link_index')
    look_after "$(ip -j link | jq -r ".[] | select(.ifindex == $index) | .ifname")"
    # Read and written by Go's types, so what the specification does not have is gone.
    result "$(get '.prevResult.interfaces // [] | tojson')" "$(get '.prevResult.ips // [] | map(del(.version)) | tojson')" \
        "$(get '.prevResult.routes // [] | tojson')"
    exit
fi

inside ip link del "$CNI_IFNAME" 2>/dev/null || true
address=$(addresses $endpoints/leases "$pool" | jq -r '.ips[0].address | sub("/.*"; "")')
sum=$(printf %s "$CNI_CONTAINERID:$CNI_IFNAME" | sha256sum)
host=lxc$(printf %s "$sum" | cut -c 1-12)
peer=tmp$(printf %s "$sum" | cut -c 1-5)
ip link add "$host" type veth peer name "$peer"
ip link set "$host" up
ip link set "$peer" netns "$(basename "$CNI_NETNS")"
inside ip link set "$peer" name "$CNI_IFNAME"
inside ip link set "$CNI_IFNAME" up
inside ip addr add "$address/32" dev "$CNI_IFNAME"
inside ip route add 10.0.0.1/32 dev "$CNI_IFNAME" scope link
inside ip route add default via 10.0.0.1 dev "$CNI_IFNAME"
# endpointRoutes.enabled: the kernel routes, where Cilium's programs leave packets to it.
ip route add "$address/32" dev "$host" scope link
look_after "$host"
interfaces=$(jq -nc --arg host "$host" --arg mac "$(mac "$CNI_IFNAME" inside)" --arg sandbox "$CNI_NETNS" \
    --arg host_mac "$(mac "$host")" \
    '[{name: $host, mac: $host_mac}, {name: env.CNI_IFNAME, $mac, $sandbox}]')
result "$interfaces" "[{\"interface\": 1, \"address\": \"$address/32\", \"gateway\": \"10.0.0.1\"}]" \
    '[{"dst": "10.0.0.1/32"}, {"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]'
