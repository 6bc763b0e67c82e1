"""Log lines on stderr: text for people, JSON for machines, with journald's priority prefix when systemd reads them.

Secrets and prompts are never handed to a logger; what an exception carries is shown without request content.
"""

import json
import logging
import os
import sys
import time
from typing import Final

PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class Text(logging.Formatter):
    """`2026-11-22T17:40:00.123 warning worker-0 gateway.journal: …`"""

    def __init__(self, process: str, under_journald: bool) -> None:
        super().__init__()
        self._process = process
        self._under_journald = under_journald

    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.levelname.lower()} {self._process} {record.name}: {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if self._under_journald:
            return "\n".join(f"<{PRIORITY.get(record.levelno, 6)}>{line}" for line in text.splitlines())
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.localtime(record.created))}.{int(record.msecs):03d} {text}"


class Json(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def start_logging(process: str) -> None:
    """Sets up the root logger of this process from GATEWAY_LOG_LEVEL (info) and GATEWAY_LOG_FORMAT (text | json)."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("GATEWAY_LOG_FORMAT", "text") == "json":
        handler.setFormatter(Json(process))
    else:
        handler.setFormatter(Text(process, "JOURNAL_STREAM" in os.environ and not sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = os.environ.get("GATEWAY_LOG_LEVEL", "info").upper()
    root.setLevel(level if level in logging.getLevelNamesMapping() else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
