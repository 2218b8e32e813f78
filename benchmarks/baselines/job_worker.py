"""The worker process of a job queue: a job saves one write to SQLite, committed and synced before the job is done.

It is started as its users start it, `python -m saq benchmarks.baselines.job_worker.saq_settings` and
`python -m streaq run benchmarks.baselines.job_worker:streaq_worker`; the environment says what it works on.
"""

import os
from pathlib import Path
from typing import Any, Final

from streaq import Worker

from benchmarks.baselines.direct import UPSERT, sqlite_table
from benchmarks.baselines.jobs import CONCURRENCY, FILE, REDIS_URL, saq_queue

_url: Final = os.environ[REDIS_URL]
_file: Final = Path(os.environ[FILE])
_concurrency: Final = int(os.environ[CONCURRENCY])


async def save(context: dict[str, Any], *, user: str, value: str) -> None:
    """SAQ's job."""
    await context["users"].execute_fetchall(UPSERT, (user, value.encode()))


async def _open(context: dict[str, Any]) -> None:
    context["table"] = sqlite_table(_file)
    context["users"] = await context["table"].__aenter__()


async def _close(context: dict[str, Any]) -> None:
    await context["table"].__aexit__(None, None, None)


saq_settings: Final = {
    "queue": saq_queue(_url),
    "functions": [save],
    "concurrency": _concurrency,
    "startup": _open,
    "shutdown": _close,
}

streaq_worker: Final = Worker(redis_url=_url, concurrency=_concurrency, lifespan=lambda: sqlite_table(_file))


# It keeps no result and logs nothing for each job: both cost time, and nobody asks for them here.
@streaq_worker.task(name="save", silent=True, ttl=0)
async def save_with_streaq(user: str, value: bytes) -> None:
    """streaq's job."""
    await streaq_worker.context.execute_fetchall(UPSERT, (user, value))
