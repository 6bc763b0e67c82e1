"""Backups: what is in one, how it is written while the gateway serves, how it is verified and brought back."""
