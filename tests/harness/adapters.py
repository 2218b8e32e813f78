"""A backend that answers what a test gives it, behind the adapter that judges it."""

from collections.abc import Sequence
from typing import Any

from asyncwb import Record
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.testing import MemoryBackend

RECORDS = [Record("a", 1, b"1"), Record("b", 1, b"1")]


def guard(backend: Any, *, connect: float = 5.0, save: float = 5.0) -> BackendAdapter:
    """Returns the adapter of a backend; limits are in seconds."""
    return BackendAdapter(
        backend, name="broken://it", namespace="broken", connect_timeout_seconds=connect, save_timeout_seconds=save
    )


class Answering(MemoryBackend):
    """Keeps which calls were made, and answers each as a test says.

    Args:
        answers: call -> what it returns; an exception is raised, and a function is given the call's argument first.
    """

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers
        self.asked: list[str] = []

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        self._answer("open", namespace)
        await super().open(namespace=namespace, former=former)

    async def close(self) -> None:
        self._answer("close", None)

    async def save(self, records: Sequence[Record]) -> Any:
        return self._answer("save", records)

    async def load(self, keys: Sequence[str]) -> Any:
        return self._answer("load", keys)

    async def new_epoch(self, at_least: int) -> Any:
        return self._answer("new_epoch", at_least)

    def _answer(self, call: str, argument: Any) -> Any:
        self.asked.append(call)
        answer = self.answers.get(call, {"save": 0, "load": {}, "new_epoch": 0}.get(call))
        if callable(answer):
            answer = answer(argument)
        if isinstance(answer, BaseException):
            raise answer
        return answer
