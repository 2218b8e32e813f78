"""What another program may put into asyncwb's keys, and what may be expected then."""

import random
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from asyncwb import Add, DecodeError
from asyncwb.protocol.keys import TYPES, PartitionKeys, namespace_key
from asyncwb.protocol.wire import unpack
from asyncwb.redis.connection import RedisLink
from asyncwb.updates import Changes
from tests.proofs.hostile.inputs import mutations

Harm = Literal["none", "victim", "namespace"]
Moment = Literal["dirty", "leased", "either"]


@dataclass(slots=True)
class Field:
    """Where it is planted."""

    link: RedisLink
    keys: PartitionKeys
    namespace: str
    victim: bytes
    rng: random.Random

    @property
    def namespace_key(self) -> bytes:
        return namespace_key(self.namespace)

    def garbage(self, *seeds: bytes) -> bytes:
        return next(mutations(self.rng, [*seeds, b"garbage", b"\0" * 8], 1))

    async def do(self, *command: bytes | str | int) -> object:
        return await self.link.command(*command)

    async def scan(self, part: bytes) -> list[bytes]:
        """The keys of a kind, such as writers."""
        found: list[bytes] = await self.link.command("KEYS", b"*")
        prefix = self.keys.meta.removesuffix(b"meta") + part
        return sorted(name for name in found if name.startswith(prefix))


@dataclass(frozen=True, slots=True)
class Plant:
    """One kind of garbage.

    Attributes:
        plant: puts it there; returns whether it is there.
        harm: "none": everything goes on and every write is saved, the victim's too; "victim": all but the victim,
            whose next write is saved; "namespace": errors, which name the key, until it is deleted and audited.
        moment: while the victim is dirty, or while it is being saved.
    """

    plant: Callable[[Field], Awaitable[bool]]
    harm: Harm = "none"
    moment: Moment = "either"


_RECORD: Final = struct.pack(">IIQ", 1, 1, 1_700_000_000_000) + b"pj1"

ENTRY_OF_ADD: Final = bytes(Changes("json", int).encode("victim", Add(1)))
"""The payload of an update that adds 1."""


def _entry_bytes(first: int, last: int, payload: bytes = ENTRY_OF_ADD, *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">IIIII", 1, first, 1, last, size) + payload


def _pending(
    *, last: int = 2, base: bytes = b"7", base_seq: int = 1, base_kind: bytes = b"p", base_length: int | None = None,
    codec: bytes = b"j", entries: Sequence[bytes] = (_entry_bytes(2, 2),),
) -> bytes:  # fmt: skip
    """A record with updates, as `protocol/pending.py` reads it; sound unless the arguments say otherwise."""
    base_version = struct.pack(">II", 1, base_seq) if base_seq else bytes(8)
    length = len(base) if base_length is None else base_length
    head = struct.pack(">IIQ", 1, last, 1_700_000_000_000) + b"u" + codec + struct.pack(">II", 1, 1) + bytes(8)
    return head + base_version + base_kind + struct.pack(">I", length) + base + b"".join(entries)


UNSOUND: Final = (
    _pending()[:-1],
    _pending()[:40],
    _pending()[:17],
    _pending() + b"x",
    _pending(entries=()),
    _pending(base_length=2**20),
    _pending(base_length=2**32 - 1),
    _pending(base_length=8),
    _pending(base_length=0),
    _pending(entries=[_entry_bytes(2, 2, length=2**32 - 1)]),
    _pending(entries=[_entry_bytes(2, 2, length=0)]),
    _pending(last=3, entries=[_entry_bytes(2, 2)]),
    _pending(last=2, entries=[_entry_bytes(3, 3), _entry_bytes(2, 2)]),
    _pending(last=2, entries=[_entry_bytes(2, 2), _entry_bytes(2, 2)]),
    _pending(last=2, entries=[_entry_bytes(3, 2)]),
    _pending(base_seq=2),
    _pending(base_kind=b"d"),
    _pending(base_kind=b"?"),
    _pending(base_kind=b"x"),
    _pending(base_kind=b"?", base=b""),
    _pending(codec=b"x"),
)
"""Records with updates, none of which may be taken for one."""


async def _record(field: Field) -> bool:
    data = field.garbage(_RECORD)
    # What has the form of a record, and a version of its own, is a write for all that anybody can know.
    if len(data) >= 18 and data[8:10] == b"\0\0":
        data = b"no record, " + data
    await field.do("SET", field.keys.record(field.victim), data)
    return True


async def _payload(field: Field) -> bool:
    name = field.keys.record(field.victim)
    await field.do("SETRANGE", name, 18, field.garbage(b'{"a":1}'))
    return True


async def _pending_record(field: Field) -> bool:
    """A record with updates that is unsound in one way."""
    await field.do("SET", field.keys.record(field.victim), field.rng.choice(UNSOUND))
    return True


async def _mutated_pending_record(field: Field) -> bool:
    """One with any bytes in it changed; only if nobody could take it for a record with updates."""
    data = field.garbage(_pending())
    with suppress(DecodeError):
        unpack("victim", data)
        data = b"no record, " + data
    await field.do("SET", field.keys.record(field.victim), data)
    return True


async def _updates_that_fail(field: Field) -> bool:
    """A sound record, whose updates can't be read or can't be applied."""
    entry = field.rng.choice((b"", b"{", b"[]", b"null", b'{"o":{"+":1}}', field.garbage(ENTRY_OF_ADD)))
    if entry == ENTRY_OF_ADD:
        entry = b"garbage"
    await field.do("SET", field.keys.record(field.victim), _pending(entries=(_entry_bytes(2, 2, entry),)))
    return True


async def _pending_payload(field: Field) -> bool:
    """Bytes behind the header of a record, which may have updates."""
    name = field.keys.record(field.victim)
    await field.do("SETRANGE", name, field.rng.randint(18, 90), field.garbage(bytes(8), b"\xff" * 8))
    return True


async def _huge_record(field: Field) -> bool:
    await field.do("SET", field.keys.record(field.victim), b"x" * 2**20)
    return True


async def _type_of_record(field: Field) -> bool:
    await _replace(field, field.keys.record(field.victim), field.rng.choice(("list", "hash", "zset", "set", "stream")))
    return True


async def _no_record(field: Field) -> bool:
    return bool(await field.do("DEL", field.keys.record(field.victim)))


async def _replace(field: Field, name: bytes, kind: str) -> None:
    await field.do("DEL", name)
    await {
        "list": lambda: field.do("RPUSH", name, "a"),
        "hash": lambda: field.do("HSET", name, "a", "b"),
        "zset": lambda: field.do("ZADD", name, 1, "a"),
        "set": lambda: field.do("SADD", name, "a"),
        "stream": lambda: field.do("XADD", name, "*", "a", "b"),
        "string": lambda: field.do("SET", name, "a"),
    }[kind]()


def _entry(which: str, *seeds: bytes, somewhere_else: bool = False) -> Callable[[Field], Awaitable[bool]]:
    async def plant(field: Field) -> bool:
        member = field.garbage(field.victim) if somewhere_else else field.victim
        await field.do("HSET", getattr(field.keys, which), member, field.garbage(*seeds))
        return True

    return plant


async def _old_dead_letter(field: Field) -> bool:
    """As layout 2 had them: without the byte that says whether an update is the cause."""
    version = field.rng.choice((bytes(8), b"\xff" * 8, struct.pack(">II", 1, 1)))
    entry = version + struct.pack(">IQQ", 3, 1_700_000_000_000, 1_700_000_000_001) + field.rng.choice((b"", b"unfit"))
    await field.do("HSET", field.keys.dead, field.victim, entry)
    return True


def _member(which: str, score: Callable[[random.Random], str]) -> Callable[[Field], Awaitable[bool]]:
    async def plant(field: Field) -> bool:
        name = getattr(field.keys, which)
        for member in (b"", b"\xff\xfe", b"m" * 2**20, field.garbage(field.victim), b"no such"):
            await field.do("ZADD", name, score(field.rng), member)
        return True

    return plant


def _score(which: str) -> Callable[[Field], Awaitable[bool]]:
    async def plant(field: Field) -> bool:
        score = field.rng.choice(("inf", "-inf", "1e300", "-1e300", "9007199254740993", "0.5"))
        return bool(await field.do("ZADD", getattr(field.keys, which), "XX", "CH", score, field.victim))

    return plant


def _any_score(rng: random.Random) -> str:
    return rng.choice(("inf", "-inf", "0", "1e300", "-5"))


async def _stray_record(field: Field) -> bool:
    """A record under a name that is no key of ours, and due."""
    member = b"\xff\xfe" + field.rng.randbytes(3)
    await field.do("SET", field.keys.record(member), _RECORD)
    await field.do("ZADD", field.keys.dirty, 1, member)
    return True


async def _tokens(field: Field) -> bool:
    return bool(await field.do("RPUSH", field.keys.wake, *(field.garbage() or b"x" for _ in range(50))))


def _meta(name: str) -> Callable[[Field], Awaitable[bool]]:
    async def plant(field: Field) -> bool:
        data = field.garbage(b"12", b"-1", b"1e3", b"0x10", b" 7", b"007", b"9" * 15, b"1.5")
        # A plausible number is what anybody might have written: a lower sequence number makes old versions again.
        if data.isdigit() and len(data) < 10 and not data.startswith(b"0"):
            data += b"x"
        await field.do("HSET", field.keys.meta, name, data if data != b"0" else b"00")
        return True

    return plant


async def _no_field_of_meta(field: Field) -> bool:
    return bool(await field.do("HDEL", field.keys.meta, field.rng.choice(("identity", "epoch", "seq", "bytes"))))


async def _no_meta(field: Field) -> bool:
    return bool(await field.do("DEL", field.keys.meta))


async def _layout(field: Field) -> bool:
    key = field.rng.choice((field.keys.meta, field.namespace_key))
    name = field.rng.choice(("layout", "partitions", "codec"))
    await field.do("HSET", key, name, b"x" + field.garbage())
    return True


async def _no_field_of_the_namespace(field: Field) -> bool:
    return bool(await field.do("HDEL", field.namespace_key, field.rng.choice(("layout", "partitions", "codec"))))


async def _no_namespace_key(field: Field) -> bool:
    return bool(await field.do("DEL", field.namespace_key))


async def _namespace_key_of_another_type(field: Field) -> bool:
    await field.do("SET", field.namespace_key, field.garbage())
    return True


async def _writer(field: Field) -> bool:
    names = await field.scan(b"writer:")
    for name in names:
        request = field.rng.randint(1, 3)
        data = field.garbage(struct.pack(">Q", request) + b"OK 0 0  ", struct.pack(">Q", request))
        await field.do("SET", name, data)
    return bool(names)


async def _type_of_writer(field: Field) -> bool:
    names = await field.scan(b"writer:")
    for name in names:
        await _replace(field, name, "list")
    return bool(names)


async def _claims_deadline(field: Field) -> bool:
    """Another deadline for each claim that is remembered."""
    ids = await field.link.command("ZRANGE", field.keys.claims, 0, -1)
    for name in ids:
        await field.do("ZADD", field.keys.claims, _any_score(field.rng), name)
    return bool(ids)


async def _mark(field: Field) -> bool:
    return bool(await field.do("SADD", field.keys.changed, field.victim, field.garbage()))


_ONCE: Final = ("meta", "dirty", "lease", "expired", "dead", "wake", "retry", "changed", "claims", "tokens", "workers")


def _type_of(which: str) -> Callable[[Field], Awaitable[bool]]:
    ours = dict(zip(_ONCE, TYPES, strict=True))[which]

    async def plant(field: Field) -> bool:
        kinds = [kind for kind in ("string", "list", "hash", "zset", "set", "stream") if kind != ours]
        await _replace(field, getattr(field.keys, which), field.rng.choice(kinds))
        return True

    return plant


PLANTS: Final[dict[str, Plant]] = {
    "a record": Plant(_record, "victim"),
    "a payload": Plant(_payload, "victim"),
    "a record with updates that is unsound": Plant(_pending_record, "victim"),
    "a record with updates, changed": Plant(_mutated_pending_record, "victim"),
    "updates that can't be applied": Plant(_updates_that_fail, "victim"),
    "bytes behind a header": Plant(_pending_payload, "victim"),
    "a huge record": Plant(_huge_record, "victim"),
    "a record of another type": Plant(_type_of_record, "victim"),
    "no record": Plant(_no_record, "victim"),
    "a note in retry": Plant(_entry("retry", _RECORD[:8], _RECORD, b"\xff" * 20), "none"),
    "a dead letter": Plant(_entry("dead", _RECORD[:8], _RECORD + b"\0" * 10 + b"why"), "none"),
    "a dead letter of an update": Plant(_entry("dead", _RECORD[:8] + b"\0" * 20 + b"uwhy")),
    "a dead letter of another layout": Plant(_old_dead_letter),
    "a token": Plant(_entry("tokens", struct.pack(">I", 1) + b"\0" * 16, b"\xff" * 20, b"\xff" * 19)),
    "another token": Plant(_entry("tokens", b"\0" * 20, somewhere_else=True)),
    "a note in expired": Plant(_entry("expired", _RECORD[:8], _RECORD[:8] + b"\0\0\0\1" * 3, b"\xff" * 20)),
    "another note in expired": Plant(_entry("expired", _RECORD[:8] + b"\0\0\0\1" * 3, somewhere_else=True)),
    "another note in retry": Plant(_entry("retry", _RECORD[:8], somewhere_else=True)),
    "another dead letter": Plant(_entry("dead", _RECORD, somewhere_else=True)),
    "a worker": Plant(_entry("workers", struct.pack(">Q", 1_700_000_000_000) + b'{"pid":[1]}', somewhere_else=True)),
    "members of dirty": Plant(_member("dirty", _any_score)),
    "members of lease": Plant(_member("lease", _any_score)),
    "a due time": Plant(_score("dirty"), moment="dirty"),
    "a lease's end": Plant(_score("lease"), moment="leased"),
    "a record under a name that is no text": Plant(_stray_record),
    "tokens": Plant(_tokens),
    "meta's identity": Plant(_meta("identity")),
    "meta's epoch": Plant(_meta("epoch")),
    "meta's seq": Plant(_meta("seq")),
    "meta's bytes": Plant(_meta("bytes")),
    "meta's full": Plant(_meta("full")),
    "meta's largest": Plant(_meta("largest")),
    "no field of meta": Plant(_no_field_of_meta),
    "no meta": Plant(_no_meta),
    "the layout": Plant(_layout, "namespace"),
    "no field of the namespace's key": Plant(_no_field_of_the_namespace, "namespace"),
    "no namespace's key": Plant(_no_namespace_key),
    "a namespace's key of another type": Plant(_namespace_key_of_another_type, "namespace"),
    "a writer": Plant(_writer),
    "a writer of another type": Plant(_type_of_writer),
    "a claim's deadline": Plant(_claims_deadline, moment="leased"),
    "a mark": Plant(_mark, moment="leased"),
    **{
        f"{name} of another type": Plant(_type_of(name), "none" if name in ("wake", "workers") else "namespace")
        for name in _ONCE
    },
}
