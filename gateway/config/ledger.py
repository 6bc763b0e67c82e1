"""The part of the configuration that says where the ledger is, what it may take, and how long it remembers: `ledger`."""

from gateway.config.fields import LEDGER_URL, DurationField, SizeField
from gateway.config.part import Part, duration, field, size


class Ledger(Part):
    """The database of all requests, for reports. The journal is the truth, this a view of it that can be rebuilt."""

    url: str = field(
        "Where it is: `duckdb:` and a file, relative to `data_dir`.", "duckdb:ledger.duckdb", "duckdb:ledger.duckdb", pattern=LEDGER_URL
    )
    memory: SizeField = size("512MiB", "Memory that it may use, reports included.", "2GiB", "128MiB", "1TiB")
    keep: DurationField = duration(
        "400d", "How long requests are remembered. Months that are over become archives, which go when they are older.", "90d", "1d"
    )
    size: SizeField | None = field("Disk space that it may take: above it the oldest archives go. Default: any.", "100GiB", None)
