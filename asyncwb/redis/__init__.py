"""Connections to a Redis server, the meaning of its errors, and whether it is suitable as a write buffer.

No code outside this package sees the driver's exceptions.
"""

import re
from importlib.metadata import version
from typing import Final

_OLDEST_IMPORTABLE: Final = (7, 2)

if tuple(map(int, re.findall(r"\d+", version("redis"))[:2])) < _OLDEST_IMPORTABLE:
    raise ImportError(
        f"redis-py {version('redis')} is too old for asyncwb: run pip install 'redis>=8.0.1'", name="redis"
    )
