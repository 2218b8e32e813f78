"""Bytes and sockets: connections to a server, what its errors mean, and whether it is fit to be a write buffer.

Nothing above sees a type or an exception of the driver.
"""

import re
from importlib.metadata import version
from typing import Final

_OLDEST_IMPORTABLE: Final = (7, 2)

if tuple(map(int, re.findall(r"\d+", version("redis"))[:2])) < _OLDEST_IMPORTABLE:
    raise ImportError(
        f"redis-py {version('redis')} is too old for asyncwb: run pip install 'redis>=8.0.1'", name="redis"
    )
