"""What `gatewayctl doctor` looks at: one file per family of checks, listed in families.py. Nothing here changes anything."""
