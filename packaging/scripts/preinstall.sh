#!/bin/sh
# Before files are put in place. deb: install | upgrade OLD; rpm: 1 = first, 2 = upgrade.
set -e
home=/var/lib/gateway

# Its unit and its link would go before ours, and the service would stay what it is.
if grep -q '^# Written by `gatewayctl install`' /etc/systemd/system/gateway.service 2>/dev/null; then
    echo "gateway: \`gatewayctl install\` has put a gateway here. First: gatewayctl uninstall (configuration and data stay). Nothing was changed." >&2
    exit 1
fi

# Where the data are, as far as one line of YAML can say it; the program itself looks once more before it starts.
data=$(sed -n "s/^data_dir: *[\"']\{0,1\}\([^\"'#]*[^\"'# ]\).*/\1/p" /etc/gateway/gateway.yaml 2>/dev/null || true)
case $data in '') data=$home ;; /*) ;; *) data=/etc/gateway/$data ;; esac

# An older version that cannot read what a newer one has written must not get in its place.
for one in @FORMATS@; do
    name=${one%=*} ours=${one#*=}
    found=$(sed -n "s/.*\"$name\": *\([0-9][0-9]*\).*/\1/p" "$data/formats.json" 2>/dev/null || true)
    if [ "${found:-0}" -gt "$ours" ]; then
        echo "gateway: the $name in $data has format $found, version @VERSION@ reads up to $ours. Nothing was changed." >&2
        exit 1
    fi
done

if ! getent passwd gateway >/dev/null; then
    getent group gateway >/dev/null || groupadd --system gateway
    useradd --system --gid gateway --no-create-home --home-dir "$home" --shell /usr/sbin/nologin gateway
fi

# dpkg deletes the version that runs before it starts the one that takes over. What runs keeps its files until then.
old=$(readlink -f /usr/bin/gatewayctl 2>/dev/null || true)
old=${old%/gatewayctl}
case $1:$old in
    upgrade:/usr/lib/gateway/*) rm -rf "$old.kept" && cp -al "$old" "$old.kept" ;;
esac
