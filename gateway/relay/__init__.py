"""The engine's side: pooled connections, and the relay of answers and streams to the caller."""
