"""gatewayctl: the command line of the gateway. Knows the configuration's files and control's admin API, nothing else of the gateway."""
