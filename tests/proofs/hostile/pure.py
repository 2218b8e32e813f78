"""The functions that hostile bytes reach first, each with an oracle: an input counts once its oracle has agreed."""

import re
import sqlite3
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from asyncwb.admin.partition_view import _due, _listed
from asyncwb.cli.output import plain, time_text, value_of
from asyncwb.codecs import Codec
from asyncwb.core.userkeys import MAX_KEY_BYTES, raw_key
from asyncwb.errors import AsyncwbError, ConfigurationError, DecodeError, InvalidKey, InvalidValue
from asyncwb.plugins.registry import made_by
from asyncwb.protocol import scripts
from asyncwb.protocol.keys import PartitionKeys, partition_of
from asyncwb.protocol.presence import _facts
from asyncwb.protocol.queue import Queue
from asyncwb.protocol.wire import unpack_dead, unpack_record
from asyncwb.records import Record, make_version
from asyncwb.redis.connect import checked_target
from asyncwb.redis.script import Script
from asyncwb.settings import Settings
from asyncwb.support import redaction as urls
from asyncwb.support.redaction import redact
from asyncwb_backends.filesystem.names import CODECS, Names
from asyncwb_backends.filesystem.url import from_url as file_from_url
from asyncwb_backends.mongodb.url import from_url as mongodb_from_url
from asyncwb_backends.sqlite.keyvalue import KeyValueTable
from asyncwb_backends.sqlite.table import quoted
from asyncwb_backends.sqlite.url import from_url as sqlite_from_url
from tests.proofs.hostile.inputs import text_of

CANARY: Final = "hunter2canary"
"""A password; no message may ever show it."""

_HEADER: Final = struct.pack(">IIQ", 3, 7, 1_700_000_000_000)
_MAX_VERSION: Final = 2**63


@dataclass(frozen=True, slots=True)
class Target:
    """What is fed with bytes: `check` raises for a violation; `share` of the inputs, by how cheap it is."""

    check: Callable[[bytes], None]
    seeds: list[bytes]
    share: int = 1


@dataclass(slots=True)
class _Answer:
    """Takes the place of a server that answers with hostile bytes."""

    reply: Any
    where: str = "here"
    sent: list[Any] = field(default_factory=list)

    async def script(self, *_: Any) -> Any:
        return self.reply


@dataclass
class _ClaimAnswer:
    """The session of a claim, of which every answer is given."""

    keys: list[bytes]
    records: list[bytes | None]
    where: str = "here"

    @asynccontextmanager
    async def session(self) -> AsyncIterator["_ClaimAnswer"]:
        yield self

    async def script(self, script: Script, _: Any, args: Sequence[Any]) -> Any:
        if script is scripts.READ_UPDATES:  # of the same records, whose keys follow the prefix
            return [self.records[self.keys.index(key)] for key in args[1:]]
        return [0, 0, 1, *self.keys]

    async def commands(self, *commands: Any) -> list[Any]:
        return [self.records] if commands[0][0] == "MGET" else [1] * len(commands)


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def record(data: bytes) -> None:
    """A record is read as exactly what was written, or refused; a tombstone is never read into garbage."""
    try:
        found = unpack_record("k", data)
    except DecodeError:
        ours = data[0:1] <= b"\x7f" and data[8:10] == b"\0\0"
        assert not (ours and (data[16:] == b"dj" or data[16:18] in (b"pj", b"pm", b"pb"))), (
            "a record of ours is refused"
        )
        return
    assert found.version == int.from_bytes(data[:8]) < _MAX_VERSION
    assert found.deleted == (data[16:] == b"dj")
    if not found.deleted:
        assert found.payload == data[18:]
        value_of(found)
    with suppress(msgspec.DecodeError):
        _ = found.value


_CODECS: Final[list[Codec[Any]]] = [
    Codec("json"),
    Codec("msgpack"),
    Codec("bytes"),
    Codec("json", dict[str, int]),
    Codec("msgpack", list[str]),
]


def codec(data: bytes) -> None:
    """Bytes are a value or a DecodeError; a value that came out goes in again and comes out the same."""
    for each in _CODECS:
        try:
            value = each.decode(data)
        except DecodeError:
            continue
        try:
            again = each.decode(each.encode(value))
        except InvalidValue:
            continue  # None, or what only decoding knows
        assert again == value or repr(again) == repr(value), each.name


def key(data: bytes) -> None:
    """A key is refused, or stands in Redis behind its prefix, and is read back as it was."""
    text = text_of(data)
    try:
        raw = raw_key(text)
    except InvalidKey:
        assert (
            not data or len(text.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES or re.search("[\ud800-\udfff]", text)
        )
        return
    assert raw.decode() == text
    keys = PartitionKeys("n", partition_of(raw, 7), 7)
    name = keys.record(raw)
    assert name.startswith(keys.record_prefix)
    assert name[len(keys.record_prefix) :] == raw
    assert name not in keys.once


def file_name(data: bytes) -> None:
    """A file's name stays in its folder, fits, and tells its key again, even where case is folded."""
    text = text_of(data) or "empty"
    for names in _NAMES:
        try:
            stem = names.stem(text)
        except UnicodeEncodeError:
            return
        name = names.file(stem, make_version(1, 1), "json")
        assert not re.search(r"[^a-zA-Z0-9_\-.@+=,%~]", name), name
        assert len(name) <= 255
        assert name[0] not in ".-"
        assert re.fullmatch("[0-9a-f]{0,3}", stem.bucket)
        parsed = names.parse(name)
        assert parsed is not None
        assert (parsed.stem, parsed.version, parsed.kind) == (stem.name, make_version(1, 1), "json")
        if not stem.hashed:
            assert _key_of(stem.name.lower()) == stem.key, "two keys may share a file where case is folded"


_NAMES: Final = [Names(fanout=2, codec="json", suffix=None), Names(fanout=0, codec="json", suffix=".v1.json")]


def _key_of(folded: str) -> bytes:
    """The inverse of the quoting, from a name whose case is lost."""
    text, tilde, mask = folded.rpartition("~")
    if not tilde or text.endswith("~"):
        text, mask = folded, "0"
    letters = [letter.upper() if int(mask, 16) >> at & 1 else letter for at, letter in enumerate(text)]
    return unquote_to_bytes("".join(letters))


def redis_url(data: bytes) -> None:
    """A URL is taken or refused in words, without the password that is in it; nothing is connected to."""
    _refused_quietly(lambda: checked_target(text_of(data)))
    _refused_quietly(lambda: checked_target(_with_canary(data)))


def _with_canary(data: bytes) -> str:
    scheme, separator, rest = text_of(data).partition("://")
    return f"{scheme}{separator or '://'}user:{CANARY}@{rest}"


def _refused_quietly(call: Callable[[], object]) -> None:
    try:
        call()
    except ConfigurationError as error:
        chain: BaseException | None = error
        while chain is not None:
            assert CANARY not in str(chain) + repr(chain), "the password is shown"
            chain = chain.__cause__ or chain.__context__


def backend_url(data: bytes) -> None:
    """As of Redis; options of every backend."""
    start, question, query = text_of(data).partition("?")
    for scheme, from_url in _BACKENDS.items():
        _, _, rest = start.partition(":")
        url = f"{scheme}:{rest}{question}{query}"
        _refused_quietly(lambda from_url=from_url, url=url: made_by(from_url, url, _CODECS[0]))  # type: ignore[misc]
        secret = url.replace("://", f"://user:{CANARY}@", 1)
        _refused_quietly(lambda from_url=from_url, url=secret: made_by(from_url, url, _CODECS[0]))  # type: ignore[misc]


_BACKENDS: Final[dict[str, Callable[..., object]]] = {
    "sqlite": sqlite_from_url, "file": file_from_url, "mongodb": mongodb_from_url,
}  # fmt: skip


def table(data: bytes) -> None:
    """The name of a table is refused, or makes tables of that name and nothing else."""
    text = text_of(data)
    try:
        made = KeyValueTable(text)
    except ConfigurationError:
        assert not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", text)
    else:
        assert re.fullmatch(r"\w+", made.name, re.ASCII)
    if "\0" not in text and text and not re.search("[\ud800-\udfff]", text):
        # The names of columns of users' own tables may be anything.
        (column,) = _SQLITE.execute(f"SELECT 1 AS {quoted(text)}").description
        assert column[0] == text


_SQLITE: Final = sqlite3.connect(":memory:", check_same_thread=False)


def redacted(data: bytes) -> None:
    """Whatever is around it, a password of a URL isn't shown."""
    text = text_of(data)
    middle = re.sub(r"[\s@]", "", text)
    urls._known.clear()  # the password of another input may be a part of this one's, and hide it
    for shown in (
        redact(f"{text} redis://u:{CANARY}@{text}"), redact(f"mongodb://{middle}:{CANARY}{middle}@h"),
        redact(f"x?{middle}password={CANARY}&{text}"), redact(f"{text} postgresql://h/d?sslpassword={CANARY}"),
    ):  # fmt: skip
        assert CANARY not in shown
    urls.keep_secret(f"notes://:{CANARY}@h/app")
    assert CANARY not in redact(f"{text} {CANARY}, {text}")


_SETTINGS: Final = sorted(Settings.__dataclass_fields__)


def settings(data: bytes) -> None:
    """Settings are taken, or refused by a ConfigurationError that names the one that can't work."""
    name = _SETTINGS[data[0] % len(_SETTINGS)] if data else "namespace"
    text = text_of(data[1:])
    values: list[Any] = [text, data, len(data), -len(data), 10 ** (len(data) * 9), None, float(len(data)) / 7]
    for value in (*values, float("nan"), float("inf"), [text], {"a": text}, True):
        options: Any = {name: value}
        try:
            made = Settings().replace(options)
        except ConfigurationError as error:
            assert name in str(error)  # noqa: PT017 - it need not be raised
        else:
            assert getattr(made, name) == value
    with suppress(ConfigurationError):
        assert re.fullmatch("[A-Za-z0-9_.-]{1,64}", Settings(namespace=text).namespace)


def entry(data: bytes) -> None:
    """What an operator sees of entries that another program wrote: something, and nothing that moves the cursor."""
    dead = unpack_dead(data, data)
    listed = _listed(data, data[:18], data, size=len(data), due_ms=0, now=0)
    shown = (
        plain(dead.reason)
        + plain(listed.key)
        + plain(listed.reason)
        + time_text(dead.died)
        + time_text(dead.first_failed)
    )
    assert shown.isprintable()
    shown.encode()
    msgspec.json.encode(msgspec.to_builtins(listed.version))
    facts = _facts(data)
    assert facts is None or all(isinstance(value, str | int | float) for value in facts.values())
    with suppress(ValueError):
        assert isinstance(_due(data, 0), int)


def meta(data: bytes) -> None:
    """Whatever stands in meta, a client gets a sound answer or one that makes it begin a new epoch."""
    parts = (data.split(b"|") + [b""] * 9)[:9]
    meta = _run(Queue(_Answer([b"a" * 40, *parts]), "n", 0, 1).read_meta())  # type: ignore[arg-type]
    assert 0 <= meta.epoch < 2**31
    assert 0 <= meta.seq < 2**32
    sound = meta.meta_identity == meta.identity
    if sound:
        assert parts[3] == b"a" * 40
        assert int(parts[4] or 0) == meta.epoch
        assert int(parts[5] or 0) == meta.seq


def claimed(data: bytes) -> None:
    """What a claim finds is either a record with a key of text, or garbage; nothing is left out, nothing fails."""
    link = _ClaimAnswer([data, b"good", b"bad", b"odd"], [_HEADER + b"pj1", _HEADER + b"pj1", data, None])
    claim = _run(Queue(link, "n", 0, 1).claim(records=9, bytes=9, lease_seconds=1))  # type: ignore[arg-type]
    names = {each.key for each in (*claim.records, *claim.pending)} | set(claim.garbage)
    assert names == {text_of(data), "good", "bad", "odd"}
    for each in claim.records:
        each.key.encode()
    assert "good" in {each.key for each in claim.records}


def decoded_value(data: bytes) -> None:
    """A payload is a value or a msgspec.DecodeError, as plugins are told."""
    for name in CODECS:
        with suppress(msgspec.DecodeError):
            _ = Record("k", 1, data, codec=name).value  # type: ignore[arg-type]


_MSGPACK: Final = [msgspec.msgpack.encode(value) for value in ({"a": [1, 2.5, None, "é", b"x"]}, ["x", "y"], 2**63, -1)]
_JSON: Final = [
    b'{"a":[1,2.5,null,true,"\\u00e9\\ud83d\\ude00"]}',
    b'["x","y"]',
    b'{"a":1}',
    b"18446744073709551615",
    b"[" * 600,
]
_KEYS: Final = [
    b"users/42",
    "Ada é".encode(),
    b"CON.txt",
    b"..",
    b"-rf",
    b"A" * 90,
    b"{wb:n:0}:rec:x",
    b"a\0b",
    b"~7",
    b"%41",
]
_URLS: Final = [
    b"redis://localhost:6379/0", b"rediss://h:1/2?ssl_cert_reqs=none&ssl_ca_certs=/x", b"unix:///tmp/s?db=1", b"valkey://[::1]:6/1",
    b"redis+sentinel://h:1,h2,[::1]:3/wb/3?sentinel_password=x", b"rediss+sentinel://h/wb", b"redis://h?socket_timeout=1",
    b"redis://h:99999/0", b"redis://h/0?password=a&username=b", b"embedded://x",
]  # fmt: skip
_BACKEND_URLS: Final = [
    b"sqlite:///app.db?table=users&tombstone_seconds=3", b"sqlite:///a.db?table=u&key=id&columns=a,b&version=v&add_version=1",
    b"file:///x/y?suffix=.json&fanout=2&sync=file", b"mongodb://h:1,h2/app?collection=users&w=1&tls=true", b"file:rel",
    b"mongodb://u:p%40@h/app?collection=c&tombstone_seconds=9",
]  # fmt: skip

TARGETS: Final[dict[str, Target]] = {
    "record": Target(
        record, [_HEADER + b"pj" + _JSON[0], _HEADER + b"dj", _HEADER + b"pm" + _MSGPACK[0], _HEADER + b"pb\0"], 12
    ),
    "claimed": Target(claimed, [*_KEYS, _HEADER + b"pj1", _HEADER + b"dj"], 8),
    "decoded value": Target(decoded_value, [*_JSON, *_MSGPACK], 12),
    "codec": Target(codec, [*_JSON, *_MSGPACK], 8),
    "key": Target(key, _KEYS, 12),
    "file name": Target(file_name, _KEYS, 5),
    "entry": Target(entry, [_HEADER + b"\0\0\0\1" + _HEADER + b"why", b"12.5", b"inf", b'{"host":"a","pid":1}'], 5),
    "meta": Target(meta, [b"2|1|json|" + b"a" * 40 + b"|3|17", b"2|1|json|" + b"a" * 40 + b"|99999999999|1"], 8),
    "table": Target(table, [b"users", b"_x9", b'a"; DROP TABLE x; --', b"a b"], 5),
    "redacted": Target(redacted, [*_URLS, *_BACKEND_URLS], 2),
    "settings": Target(settings, [b"\1users", b"\7" + b"9" * 30, b"\5abc"], 1),
    "Redis URL": Target(redis_url, _URLS, 1),
    "backend URL": Target(backend_url, _BACKEND_URLS, 1),
}


def violation(check: Callable[[bytes], None], data: bytes) -> str | None:
    """What is wrong with the answer to an input; None if all is well."""
    try:
        check(data)
    except AsyncwbError as error:
        return f"an error that was not expected here: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def made_files(folder: Path) -> list[str]:
    """What checks have left in a folder: making a backend makes no file."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
