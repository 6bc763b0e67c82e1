"""What people ask of the ledger: reports, budgets and forecasts, what is unusual, and whether the ledger is true."""
