"""SQLite as another program would use it, and what its backend refuses."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asyncwb import RecordRejected, SaveError
from asyncwb.backend import Backend
from asyncwb.records import Record


def execute(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """Runs the statements on a connection of their own, and returns the rows of the last."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


async def refusals(backend: Backend, records: Sequence[Record]) -> dict[str, str]:
    """Saves the records, and returns by its key why each one was refused for good; at least one has to be."""
    with pytest.raises(SaveError) as caught:
        await backend.save(records)
    assert all(isinstance(reason, RecordRejected) for reason in caught.value.failed.values())
    return {key: str(reason) for key, reason in caught.value.failed.items()}
