"""What the processes say of themselves: log lines for people and journald, notifications for systemd."""
