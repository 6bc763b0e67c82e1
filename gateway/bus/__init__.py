"""The wire between control and workers: one Unix socket, length-prefixed MessagePack frames, versioned."""
