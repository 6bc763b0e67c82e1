"""What gatewayctl talks to: control's versioned HTTP/JSON API on a Unix socket."""
