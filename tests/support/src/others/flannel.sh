# flannel (flannel-io/cni-plugin): makes the configuration of another plugin, bridge, out of what flanneld wrote, has that run
# from CNI_PATH, and passes its result on. What it ran is kept for DEL.
scratch=$(get '.dataDir // "/var/lib/cni/flannel"')/${CNI_CONTAINERID:-}

case $CNI_COMMAND in
CHECK | GC | STATUS) exit ;;
DEL)
    [ -e "$scratch" ] || exit 0
    delegated=$(cat "$scratch")
    delegate "$(printf %s "$delegated" | jq -r .type)" "$delegated"
    rm "$scratch"
    exit
    ;;
esac

file=$(get '.subnetFile // "/run/flannel/subnet.env"')
[ -e "$file" ] ||
    fail 999 "failed to load flannel 'subnet.env' file: open $file: no such file or directory. Check the flannel pod log for this node."
. "$file"
delegated=$(printf %s "$conf" | jq -c --arg network "${FLANNEL_NETWORK:-}" --arg subnet "${FLANNEL_SUBNET:-}" \
    --arg network6 "${FLANNEL_IPV6_NETWORK:-}" --arg subnet6 "${FLANNEL_IPV6_SUBNET:-}" \
    --argjson mtu "$FLANNEL_MTU" --argjson masq "$FLANNEL_IPMASQ" '
    def net: sub("\\.[0-9]+/"; ".0/") | sub("::[0-9]*/"; "::/");
    {type: "bridge", ipMasq: ($masq | not), mtu: $mtu} as $defaults
    | (.runtimeConfig // null) as $runtime
    | ($defaults + (.delegate // {}) + {name})
    + (if .cniVersion then {cniVersion} else {} end)
    + (if $runtime then {runtimeConfig: $runtime} else {} end)
    + {ipam: ({type: "host-local"} + (.ipam // {}) + {
        ranges: [$subnet, $subnet6 | select(. != "") | [{subnet: net}]],
        routes: ((.ipam.routes // []) + [$network, $network6 | select(. != "") | {dst: .}])})}
    | if .type == "bridge" then {isGateway: true} + . else . end')
mkdir -p "$(dirname "$scratch")"
printf %s "$delegated" >"$scratch"
type=$(printf %s "$delegated" | jq -r .type)
made=$(delegate "$type" "$delegated") || fail 999 "failed to delegate add: $(printf %s "$made" | jq -r '"\(.msg) \(.details // "")"')"
printf %s "$made"
