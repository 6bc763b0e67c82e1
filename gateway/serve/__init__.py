"""A worker: what it decides by (one revision, built whole), and how a request is tried, measured, ended and told of."""
