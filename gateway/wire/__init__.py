"""Bytes and messages of the wire: server-sent events, OpenAI's JSON, and what happens to a stream on its way. No I/O."""
