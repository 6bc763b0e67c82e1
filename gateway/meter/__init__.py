"""What happened, written down once: journal segments, the progress table, metrics."""
