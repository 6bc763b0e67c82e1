"""The gateway: one OpenAI-compatible address before an enterprise's own engines."""

__version__ = "0.1.0"
