# What the Go library around a plugin does (containernetworking/cni, pkg/skel), and what the plugins have in common.
# The configuration is in $conf. `supported` and `internal` are the plugin's.
set -eu

# A field of the configuration.
get() {
    printf %s "$conf" | jq -r "$1"
}

# Ends with an error object: code, message, details.
fail() {
    jq -nc --arg version "$version" --argjson code "$1" --arg msg "$2" --arg details "${3:-}" \
        '{cniVersion: $version, code: $code, msg: $msg} + if $details == "" then {} else {$details} end'
    exit 1
}

# A result in the shape of the configuration's version: interfaces, ips, routes.
result() {
    jq -nc --arg version "$version" --argjson interfaces "$1" --argjson ips "$2" --argjson routes "$3" '
        def versioned: {version: (if .address | contains(":") then "6" else "4" end)} + .;
        {cniVersion: $version, $interfaces, ips: [$ips[] | if $version < "1.0.0" then versioned else . end], $routes, dns: {}}
        | with_entries(select(.value != []))'
}

# Runs the plugin of this type from CNI_PATH with this configuration, as the same command.
delegate() {
    for dir in $(printf %s "$CNI_PATH" | tr : ' '); do
        if [ -x "$dir/$1" ]; then
            printf %s "$2" | "$dir/$1"
            return
        fi
    done
    fail "$internal" "failed to find plugin \"$1\" in path [$CNI_PATH]"
}

# The addresses that the software's own daemon hands out: from these ranges, kept below this folder.
addresses() {
    printf %s "$conf" | jq -c --arg dir "$1" --argjson ranges "$2" --arg version "$version" '
        {name, cniVersion: "1.0.0", type: "host-local", ipam: {type: "host-local", $ranges, dataDir: $dir}}' |
        /usr/lib/cni/host-local
}

inside() {
    nsenter --net="$CNI_NETNS" "$@"
}

# The hardware address of a device, with the words before `ip` that lead to it.
mac() {
    device=$1
    shift
    "$@" ip -j link show dev "$device" | jq -r '.[0].address'
}

version=$(get '.cniVersion // "0.1.0"')
case $CNI_COMMAND in
VERSION)
    jq -nc --arg supported "$supported" '{cniVersion: "1.0.0", supportedVersions: ($supported | split(" "))}'
    exit
    ;;
GC | STATUS)
    # A library of before 1.1.0 knows neither.
    [ "$internal" = 999 ] || fail "$internal" "unknown CNI_COMMAND: $CNI_COMMAND"
    [ "$version" = 1.1.0 ] || fail 1 "config version does not allow $CNI_COMMAND"
    case $supported in *1.1.0) ;; *) fail 1 "plugin version does not allow $CNI_COMMAND" ;; esac
    ;;
CHECK)
    [ "$internal" = 999 ] || fail "$internal" "unknown CNI_COMMAND: $CNI_COMMAND"
    case $version in 0.[123].*) fail 1 "config version does not allow CHECK" ;; esac
    ;;
ADD | DEL) ;;
*) fail 4 "unknown CNI_COMMAND: $CNI_COMMAND" ;;
esac
case " $supported " in
*" $version "*) ;;
*) fail 1 "incompatible CNI versions" "config is \"$version\", plugin supports [$supported]" ;;
esac
