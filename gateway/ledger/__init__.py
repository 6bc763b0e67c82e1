"""The ledger: every request in a database, for reports. A view of the journal that can be rebuilt from it."""
