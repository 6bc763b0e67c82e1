"""Alerts: what holds now (`kinds`), what becomes of it (`state`), to whom it is told (`deliver`)."""
