"""Where endpoints are looked up: one file per kind of registry, and what keeps their last good answers."""
