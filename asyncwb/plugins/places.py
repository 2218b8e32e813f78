"""The bookkeeping of a place that backends share: its name, the namespace that owns it, and its epochs.

It keeps one namespace from using another's data.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Final, Protocol

from asyncwb.errors import BackendUnavailable, ConfigurationError, PlaceTaken
from asyncwb.plugins.succession import Began, with_server
from asyncwb.records import MAX_EPOCH, SEQ_BITS, Record, epoch_of

_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_RESERVED: Final = re.compile(r"__|^sqlite_|^system|_(meta|key|deleted|version|epochs?|tombstones|asyncwb)$")
"""Names that could clash with another place's bookkeeping or indexes, a hashed name, or the database's own tables."""


def default_name(namespace: str) -> str:
    """The name of a namespace's table or collection if the user names none; two namespaces never share one.

    A namespace of lower-case letters, digits and `_`, 40 characters at most, is its own name. Any other (upper case,
    `.`, `-`, a digit first, a double `_`, an ending such as `_meta`) becomes its readable part, `__`, and 20 digits of
    its SHA-256. So it is a valid and unique identifier in every storage, even if that ignores case: `shop.Users`
    becomes `shop_users__af9293586428c8764d6c`.
    """
    if _PLAIN.fullmatch(namespace) and not _RESERVED.search(namespace):
        return namespace
    readable = re.sub(r"[^a-z0-9]+", "_", namespace.lower()).strip("_")[:24]
    if not re.match(r"(?!sqlite_|system)[a-z_]", readable):
        readable = f"n{readable}"
    return f"{readable}__{hashlib.sha256(namespace.encode()).hexdigest()[:20]}"


def takes_place(owner: str | None, namespace: str, *, former: str | None, place: str) -> bool:
    """Whether `namespace` still has to be noted as the owner of a place, because nobody or `former` owns it.

    Args:
        owner: the namespace that is noted in the place, None for none.
        namespace: the namespace that opens the place.
        former: the namespace that hands it over, if any.
        place: how messages call it, such as "table 'users'".

    Raises:
        PlaceTaken: the place belongs to another namespace.
    """
    if owner == namespace:
        return False
    if owner is None or owner == former:
        return True
    raise PlaceTaken(
        f"{place} belongs to namespace {owner!r}, so namespace {namespace!r} can't use it: name another one in the "
        f"backend's URL, or hand it over with `asyncwb hand-over --backend URL --from {owner} --to {namespace}`",
        owner=owner,
        namespace=namespace,
    )


def epoch_above(version: object, *, place: str) -> int:
    """The lowest epoch whose versions are all above a stored version; 0 if that is None or 0: nothing is stored.

    Args:
        version: the highest version that is stored, as the storage returns it.
        place: how messages call the place.

    Raises:
        ConfigurationError: asyncwb can't have made this version, or no epoch is left above it.
    """
    if version is None or version == 0:
        return 0
    what = f"{place} holds {version!r} as a version, which "
    if isinstance(version, bool) or not isinstance(version, int):
        raise ConfigurationError(
            f"{what}is not an integer: a version column belongs to asyncwb alone; name another one"
        )
    if version < 0 or not epoch_of(version):
        raise ConfigurationError(
            f"{what}asyncwb can't have made: it counts from {1 << SEQ_BITS} on. A version column belongs to asyncwb "
            "alone: name another, or set this one to NULL (0 where it can't be NULL) in all rows"
        )
    if epoch_of(version) >= MAX_EPOCH - 1:
        raise ConfigurationError(
            f"{what}leaves no room for newer ones (the highest is {MAX_EPOCH << SEQ_BITS}). A version column belongs "
            "to asyncwb alone: name another, or lower the versions of these rows"
        )
    return epoch_of(version) + 1


def foreign_epochs(above: int, allotted: int) -> tuple[int, int] | None:
    """The first and last of the epochs that a place may hold but never allotted; None if there are none.

    Args:
        above: the lowest epoch above all stored versions, from `epoch_above`.
        allotted: the highest epoch that the place has allotted, read after the highest version.
    """
    return (allotted + 1, above - 1) if above > allotted + 1 else None


class Versioned(Protocol):
    """A store for a place's bookkeeping, with `save` and `load` as in `Backend`."""

    async def save(self, records: Sequence[Record]) -> int: ...
    async def load(self, keys: Sequence[str]) -> dict[str, Record]: ...


async def allot_epoch(store: Versioned, at_least: int, *, key: str) -> int:
    """Implements `Backend.new_epoch` for a storage without a counter of its own: it needs only conditional saves.

    The highest epoch is the version of a record that asyncwb's users can't reach. If several processes save the same
    version, only one of these saves isn't stale, and its process gets the number.

    Args:
        store: keeps the record; its `save` has to return exactly how many records were stale.
        at_least: as in `Backend.new_epoch`.
        key: the record's key; no key of a user may reach it, so keep it in a table of its own, for example.
    """
    while True:
        held = (await store.load([key])).get(key)
        current = held.version if held else 0
        if not at_least:
            return current
        epoch = max(current + 1, at_least)
        if await store.save([Record(key, epoch, b"", codec="bytes")]) == 0:
            return epoch


async def claim_place(store: Versioned, namespace: str, *, key: str, place: str, former: str | None = None) -> None:
    """Notes the namespace durably as the owner of a place, unless it is the owner already; of several, one wins.

    The owner is the payload of a record next to that of `allot_epoch`. Call this in `open` and at the beginning of
    `new_epoch`, so that a process whose place was handed over finds out within a second.

    Args:
        store: keeps the record; its `save` has to return exactly how many records were stale.
        namespace: as in `Backend.open`.
        key: the record's key; no key of a user may reach it.
        place: how messages call the place, such as "table 'users'".
        former: as in `Backend.open`.

    Raises:
        PlaceTaken: it belongs to another namespace.
    """
    while True:
        held = (await store.load([key])).get(key)
        if not takes_place(owner_in(held), namespace, former=former, place=place):
            return
        version = held.version + 1 if held else 1
        if await store.save([Record(key, version, namespace.encode(), codec="bytes")]) == 0:
            return


def owner_in(record: Record | None) -> str | None:
    """The owner that `claim_place` has noted in a record; None if there is no record."""
    return record.payload.decode("utf-8", "replace") if record else None


class Bookkeeping:
    """The owner, epochs and servers of a place, in a storage that has neither counters nor transactions of its own.

    A backend calls its `open` in its own `open`, after preparing the storage, and passes `new_epoch` and `note_server`
    on to it.

    Args:
        store: keeps their records; no key of a user may reach it. Its `save` has to return exactly how many records
            were stale.
        place: how messages call the place, such as "table 'users'".
    """

    def __init__(self, store: Versioned, *, place: str) -> None:
        self._store = store
        self._place = place
        self._namespace: str | None = None

    async def open(self, namespace: str, *, former: str | None = None) -> None:
        """Does what `Backend.open` promises about the owner of the place. Raises PlaceTaken."""
        if former is not None and takes_place(await self._owner(), namespace, former=former, place=self._place):
            # This precedes the change of the owner: if the process ends in between, only an epoch is wasted.
            await allot_epoch(self._store, 1, key="epoch")
        await claim_place(self._store, namespace, key="owner", place=self._place, former=former)
        self._namespace = namespace

    async def new_epoch(self, at_least: int) -> int:
        """Implements `Backend.new_epoch`, which raises PlaceTaken if the place was handed over."""
        if self._namespace is None:
            raise BackendUnavailable(f"{self._place} isn't open")
        await claim_place(self._store, self._namespace, key="owner", place=self._place)
        return await allot_epoch(self._store, at_least, key="epoch")

    async def note_server(self, partition: int, epoch: int, server: str) -> list[Began]:
        """Implements the optional method `note_server` that `Backend` describes."""
        key = f"servers.{partition}"
        while True:
            held = (await self._store.load([key])).get(key)
            noted: list[Began] = [(each, name) for each, name in json.loads(held.payload)] if held else []
            began = with_server(noted, epoch, server)
            if began == noted:
                return noted
            version = held.version + 1 if held else 1
            if await self._store.save([Record(key, version, json.dumps(began).encode(), codec="bytes")]) == 0:
                return began

    async def _owner(self) -> str | None:
        return owner_in((await self._store.load(["owner"])).get("owner"))
