#!/bin/sh
# When all files are in place. deb: configure OLD; rpm: 1 = first, 2 = upgrade.
set -e
case $1 in configure | 1 | 2) ;; *) exit 0 ;; esac # dpkg taking back what did not work
chown root:gateway /etc/gateway /etc/gateway/gateway.yaml /etc/gateway/keys.yaml 2>/dev/null || true

for kept in /usr/lib/gateway/*.kept; do
    old=${kept%.kept}
    if [ -d "$kept" ] && [ ! -e "$old/gatewayctl" ]; then rm -rf "$old" && mv "$kept" "$old" && mark=$old; fi
    rm -rf "$kept"
done

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
    if [ "$1" = 1 ]; then systemctl --no-reload preset gateway.service || true; fi # as the distribution says; most say: not enabled
fi

# A gateway that runs becomes this version without a dropped request. One that does not run stays as it is.
code=0
gatewayctl status >/dev/null 2>&1 || code=$?
case $code in
    0 | 6)
        if gatewayctl upgrade; then
            if [ -n "${mark:-}" ]; then rm -rf "$mark"; fi
        else
            echo "gateway: the version before goes on serving. See why in its log, then: systemctl restart gateway" >&2
        fi
        ;;
    *)
        if [ -n "${mark:-}" ]; then rm -rf "$mark"; fi
        case $1:${2:-} in 1:* | configure:) echo "gateway: see /etc/gateway/gateway.yaml, then: systemctl enable --now gateway" ;; esac
        ;;
esac
