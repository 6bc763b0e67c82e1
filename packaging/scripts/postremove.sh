#!/bin/sh
# When files were deleted. deb: remove, purge | upgrade NEW; rpm: 0 = for good. Configuration and data go with `apt purge` alone; an rpm
# leaves them.
set -e
if [ -d /run/systemd/system ]; then systemctl daemon-reload || true; fi
case $1 in
    remove | 0)
        rm -rf /usr/lib/gateway/*.kept
        rmdir /usr/lib/gateway /usr/share/gateway 2>/dev/null || true
        ;;
    purge)
        rm -rf /var/lib/gateway /etc/gateway /usr/lib/gateway
        rm -f /var/lib/systemd/timers/stamp-gateway-backup.timer
        # Backups stay, and must not become the next user's who gets the number of ours.
        for kept in /var/lib/gateway-backup /var/lib/gateway.before-restore*; do
            if [ -d "$kept" ]; then chown -R root:root "$kept"; fi
        done
        if getent passwd gateway >/dev/null; then userdel gateway || true; fi
        if getent group gateway >/dev/null; then groupdel gateway || true; fi
        ;;
esac
