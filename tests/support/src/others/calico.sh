# calico (projectcalico/calico, cni-plugin). Its result has one interface: the node's end by its name, with the container's
# hardware address and namespace. The addresses are /32 and /128, and name no interface.

argument() {
    printf '%s' "${CNI_ARGS:-}" | tr ';' '\n' | sed -n "s/^$1=//p"
}

if [ "$CNI_COMMAND" = CHECK ]; then
    echo OK
    exit
fi
if [ ! -e /var/lib/calico/nodename ]; then
    fail $internal "stat /var/lib/calico/nodename: no such file or directory: check that the calico/node container is running and has mounted /var/lib/calico/"
fi
ipam=$(get .ipam.type)

if [ "$CNI_COMMAND" = DEL ]; then
    if [ -n "${CNI_NETNS:-}" ] && [ -e "$CNI_NETNS" ]; then
        inside ip link del "$CNI_IFNAME" 2>/dev/null || true
    fi
    delegate "$ipam" "$conf"
    exit
fi

ips=$(delegate "$ipam" "$conf" | jq -c '[.ips[] | {address: (.address | sub("/.*"; "") + if contains(":") then "/128" else "/32" end)}]')
pod=$(argument K8S_POD_NAME)
if [ -n "$pod" ]; then
    host=cali$(printf %s "$(argument K8S_POD_NAMESPACE).$pod" | sha1sum | cut -c 1-11)
else
    host=cali$(printf %s "$CNI_CONTAINERID" | cut -c 1-11)
fi
ip link del "$host" 2>/dev/null || true
inside ip link add "$CNI_IFNAME" type veth peer name "$host"
inside ip link set "$host" address ee:ee:ee:ee:ee:ee
inside sysctl -qw "net.ipv6.conf.$CNI_IFNAME.accept_dad=0" "net.ipv6.conf.$host.accept_dad=0"
inside ip link set "$host" up
inside ip link set "$CNI_IFNAME" up
inside ip route add 169.254.1.1 dev "$CNI_IFNAME" scope link
inside ip route add default via 169.254.1.1 dev "$CNI_IFNAME"
# The link-local address of the node's end, whose hardware address is always the same.
inside ip -6 route add default via fe80::ecee:eeff:feee:eeee dev "$CNI_IFNAME"
for address in $(printf %s "$ips" | jq -r '.[].address'); do
    inside ip addr add "$address" dev "$CNI_IFNAME"
done
inside sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
inside ip link set "$host" netns $$
sysctl -qw "net.ipv4.conf.$host.route_localnet=1" "net.ipv4.neigh.$host.proxy_delay=0" \
    "net.ipv4.conf.$host.proxy_arp=1" "net.ipv4.conf.$host.forwarding=1" "net.ipv6.conf.$host.disable_ipv6=0" \
    "net.ipv6.conf.$host.proxy_ndp=1" "net.ipv6.conf.$host.forwarding=1" "net.ipv6.conf.$host.accept_ra=0"
ip link set "$host" up
for address in $(printf %s "$ips" | jq -r '.[].address'); do
    ip route add "$address" dev "$host" scope link
done
interfaces=$(jq -nc --arg name "$host" --arg mac "$(mac "$CNI_IFNAME" inside)" --arg sandbox "$CNI_NETNS" '[{$name, $mac, $sandbox}]')
result "$interfaces" "$ips" '[]'
