"""Where a request may go, and in which order. Decisions only: no I/O, time as an argument."""
