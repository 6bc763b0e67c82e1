"""Who serves from a data directory: its lock, the formats in it, and the next version taking over while requests run."""
