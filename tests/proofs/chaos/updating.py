"""What a writer does beside writing whole values: updates, and writes on the condition of a version."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

from asyncwb import AsyncwbError, Buffer
from tests.proofs.chaos import tallies
from tests.proofs.chaos.calls import named, read, read_versioned, write
from tests.proofs.chaos.history import Recorder

_MOST_KEYS: Final = 4
_MOST_TRIES: Final = 4


class Updater:
    """The calls of one process.

    Args:
        buffer: of the process.
        recorder: of the process.
        rng: chooses.
        new_id: returns an id that no value or update has had.
        some: returns keys of registers, at most so many, no key twice.
        tell_bug: is told of what must never be.
    """

    def __init__(
        self,
        buffer: Buffer[Any],
        recorder: Recorder,
        rng: random.Random,
        new_id: Callable[[], int],
        some: Callable[[int], list[str]],
        tell_bug: Callable[[str], None],
    ) -> None:
        self._buffer = buffer
        self._recorder = recorder
        self._rng = rng
        self._new_id = new_id
        self._some = some
        self._tell_bug = tell_bug

    async def step(self, level: Any) -> int:
        """One call, or several that belong together; returns how many operations it was."""
        steps = (
            (self._update_many, 0.3),
            (self._update_one, 0.2),
            (self._look, 0.2),
            (self._change_what_was_read, 0.1),
            (self._update_registers, 0.1),
            (self._replace_register, 0.1),
        )
        ((step, _),) = self._rng.choices(steps, [share for _, share in steps])
        return await step(level)

    async def _update_many(self, level: Any) -> int:
        ids = {key: self._new_id() for key in self._rng.sample(tallies.KEYS, self._rng.randint(1, _MOST_KEYS))}
        changes = {key: tallies.change_of(key, number) for key, number in ids.items()}
        await write(self._recorder, "update", ids, self._buffer.update_many(changes, durability=level), level)
        return len(ids)

    async def _update_one(self, level: Any) -> int:
        key, number = self._rng.choice(tallies.KEYS), self._new_id()
        if tallies.is_count(key):
            call = self._buffer.add(key, durability=level)
        elif tallies.is_tally(key):
            call = self._buffer.update(key, tallies.change_of(key, number), durability=level)
        else:
            call = self._buffer.append(key, number, durability=level)
        await write(self._recorder, "update", {key: number}, named(key, call), level)
        return 1

    async def _look(self, level: Any) -> int:
        keys: Sequence[str] = self._rng.sample(tallies.KEYS, _MOST_KEYS)
        for key, value in (await read(self._recorder, "look", self._buffer, keys)).items():
            self._check(key, value)
        return len(keys)

    async def _change_what_was_read(self, level: Any) -> int:
        """As applications change what they read, with a retry when another process was faster."""
        key = self._rng.choice([each for each in tallies.KEYS if tallies.is_tally(each)])
        for tries in range(1, _MOST_TRIES + 1):
            try:
                value, version = await read_versioned(self._recorder, "look", self._buffer, key)
            except AsyncwbError:
                return tries
            self._check(key, value)
            number = self._new_id()
            call = self._buffer.set(key, tallies.changed(value, number), expected=version, durability=level)
            if await write(self._recorder, "update", {key: number}, named(key, call), level, expected=version or 0):
                return 2 * tries
        return 2 * _MOST_TRIES

    async def _update_registers(self, level: Any) -> int:
        """Updates that set the field by which a value is known are writes of it, among all others of the key."""
        ids = {key: self._new_id() for key in self._some(12)}
        changes = {key: {"id": number, "padding": "updated"} for key, number in ids.items()}
        await write(self._recorder, "set", ids, self._buffer.update_many(changes, durability=level), level)
        return len(ids)

    async def _replace_register(self, level: Any) -> int:
        (key,) = self._some(1)
        try:
            _, version = await read_versioned(self._recorder, "get", self._buffer, key)
        except AsyncwbError:
            return 1
        number = self._new_id()
        call = self._buffer.set(key, {"id": number, "padding": "replaced"}, expected=version, durability=level)
        await write(self._recorder, "set", {key: number}, named(key, call), level, expected=version or 0)
        return 2

    def _check(self, key: str, value: Any) -> None:
        if wrong := tallies.contradiction(key, value):
            self._tell_bug(f"key {key!r}: {wrong}")
