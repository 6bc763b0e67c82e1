"""The caller's side: connections, request bodies, answers and their headers."""
