"""Everything that knows Redis: keys, scripts, connections and the queue built on them.

Nothing above sees a driver's type or exception.
"""

import re
from importlib.metadata import version
from typing import Final

_OLDEST_IMPORTABLE: Final = (7, 2)

if tuple(map(int, re.findall(r"\d+", version("redis"))[:2])) < _OLDEST_IMPORTABLE:
    raise ImportError(
        f"redis-py {version('redis')} is too old for asyncwb: run pip install 'redis>=8.0.1'", name="redis"
    )
