"""Optional helpers for plugins: what most backends need and would otherwise each write for themselves.

- `parse_options` and `take_options`: the options of a URL as a dataclass, typed and checked.
- `ConnectionPool`: a pool that drops all connections at the first failure.
- `record_bytes` and `split_by_bytes`: split a batch into parts that are small enough for the storage.
- `PurgeTimer`: says when to purge tombstones.
"""

from asyncwb.plugins.batches import record_bytes, split_by_bytes
from asyncwb.plugins.pool import ConnectionPool
from asyncwb.plugins.purging import PurgeTimer
from asyncwb.plugins.url_options import parse_options, take_options

__all__ = ["ConnectionPool", "PurgeTimer", "parse_options", "record_bytes", "split_by_bytes", "take_options"]
