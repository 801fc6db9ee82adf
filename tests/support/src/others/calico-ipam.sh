# calico-ipam: addresses of calico's pools, without gateway or routes. Leases are the cluster's; here they are a folder.
pools='[[{"subnet": "192.168.0.0/24"}]]'
if [ "$(get '.ipam.assign_ipv6 // "false"')" = true ]; then
    pools='[[{"subnet": "192.168.0.0/24"}], [{"subnet": "fd00:192::/64"}]]'
fi
case $CNI_COMMAND in
ADD) result '[]' "$(addresses /var/lib/cni/calico "$pools" | jq -c '[.ips[] | {address}]')" '[]' ;;
DEL) addresses /var/lib/cni/calico "$pools" ;;
esac
