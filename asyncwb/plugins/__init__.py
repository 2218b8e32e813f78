"""Helpers for plugins, all of them optional: what most backends need and would otherwise write again.

- `parse_options` and `take_options`: the options of a URL as a dataclass, typed and checked.
- `ConnectionPool`: connections that are all dropped at the first failure.
- `split_by_bytes`: a batch in parts that the storage takes.
- `PurgeTimer`: when to purge tombstones.
"""

from asyncwb.plugins.batches import record_bytes, split_by_bytes
from asyncwb.plugins.pool import ConnectionPool
from asyncwb.plugins.purging import PurgeTimer
from asyncwb.plugins.url_options import parse_options, take_options

__all__ = ["ConnectionPool", "PurgeTimer", "parse_options", "record_bytes", "split_by_bytes", "take_options"]
