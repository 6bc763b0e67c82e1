#!/bin/sh
# Before files are deleted. deb: remove | upgrade NEW; rpm: 0 = for good, 1 = the version before an upgrade.
set -e
case $1 in
    remove | 0)
        if [ -d /run/systemd/system ]; then systemctl disable --now gateway.service gateway-backup.timer || true; fi
        ;;
esac
