"""The dialects: one file per engine family, each holding only what is different there. Pure; nothing here asks an engine."""
