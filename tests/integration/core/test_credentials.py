"""Credentials of URLs are not shown, in whatever words a plugin or a driver quotes them; other words are."""

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis.asyncio

from asyncwb import (
    AsyncwbError,
    BackendUnavailable,
    Buffer,
    Codec,
    ConfigurationError,
    Record,
    RecordRejected,
    RedisError,
    SaveError,
)
from asyncwb.plugins.registry import backend_from_url, made_by
from asyncwb.redis.targets import target_of_url
from asyncwb.support.redaction import hide_credentials, keep_secret, redact, without_credentials
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server

CODEC: Codec[Any] = Codec("json")
PASSWORD = "s3/cr et'ish"
URL = "notes://ada_l:s3%2Fcr%20et%27ish@127.0.0.1:1/app"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwb.support.redaction._known", deque(maxlen=3))


def everything(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    "message",
    [
        f"login as ada_l with {PASSWORD} failed",
        f"login as ada_l with {PASSWORD!r} failed",
        "bad DSN notes://ada_l:s3%2Fcr%20et%27ish@127.0.0.1",
        "bad authority ada_l%3As3%2Fcr%20et%27ish",
        "bad query s3%2Fcr+et%27ish",
        f"(ada_l,{PASSWORD})",
    ],
)
def test_credentials_are_hidden_as_they_stand_and_decoded(message: str) -> None:
    keep_secret(URL)
    shown = redact(message)
    assert "ada_l" not in shown
    assert "et" not in shown.replace("bad", "")
    assert "***" in shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("notes://u:a@h/app", "a table can't be made: access was denied to u"),
        ("notes://postgres:postgres@h/app", "postgresql: database postgres doesn't accept connections"),
        ("notes://:rain@h/app", "training data of terrain"),
        ("notes://app:warehouse@h/warehouse", "table warehouse.orders is missing in app"),
        ("notes://h/app", "nothing to hide"),
    ],
)
def test_short_and_common_words_do_not_shred_messages(url: str, message: str) -> None:
    keep_secret(url)
    assert redact(message) == message


def test_short_password_is_hidden_where_it_stands_alone() -> None:
    keep_secret("notes://:rain@h/app")
    assert redact("password 'rain', and x%3Arain%40") == "password '***', and x%3A***%40"


def test_secret_options_are_credentials() -> None:
    keep_secret("notes://h/app?access_token=eyJhbGciOi&collection=users")
    assert redact("eyJhbGciOi of users is expired") == "*** of users is expired"


def test_only_so_many_urls_are_remembered() -> None:
    for number in range(5):
        for _ in range(3):
            keep_secret(f"notes://:password{number}@h")
    assert redact("password0 password4") == "password0 ***"


class OddError(Exception):
    """An error whose message is made of something other than its arguments."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.secret = secret

    def __str__(self) -> str:
        return f"odd: {self.secret}"


def test_everything_that_a_traceback_shows_is_clean() -> None:
    keep_secret(URL)
    with pytest.raises(ConfigurationError) as caught, without_credentials():
        try:
            try:
                try:
                    raise OddError(PASSWORD)
                except OddError as error:
                    raise ValueError(f"can't parse {PASSWORD}") from error
            except ValueError:
                raise ExceptionGroup("both", [KeyError(PASSWORD), OSError(5, "odd", PASSWORD)]) from None
        except ExceptionGroup as error:
            problem = ConfigurationError(f"no such user: {PASSWORD}")
            problem.add_note(f"asked with {PASSWORD}")
            raise problem from error.exceptions[0]
    shown = everything(caught.value)
    assert "et'ish" not in shown
    assert "no such user: ***" in shown
    assert "asked with ***" in shown


def test_reasons_of_a_save_error_are_clean() -> None:
    keep_secret(URL)
    error = SaveError({"k": RecordRejected(f"{PASSWORD} may not insert")})
    hide_credentials(error)
    assert str(error.failed["k"]) == "*** may not insert"
    assert "et'ish" not in str(error)


def test_plugin_that_quotes_its_url_is_shown_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def factory(url: str, *, codec: Any) -> MemoryBackend:
        raise ConfigurationError(f"bad notes URL, user ada_l, password {PASSWORD}")

    keep_secret(URL)
    with pytest.raises(ConfigurationError, match=r"user \*\*\*, password \*\*\*") as caught:
        made_by(factory, URL, CODEC)
    assert "et'ish" not in everything(caught.value)


class Talkative(MemoryBackend):
    """A plugin whose every message tells its password."""

    tried = False

    async def open(self, *, namespace: str, former: str | None = None) -> None:
        if not self.tried:
            self.tried = True
            raise ConnectionError(f"login with {PASSWORD} failed")

    async def load(self, keys: Sequence[str]) -> dict[str, Record]:
        if "b" in keys:
            raise BackendUnavailable(f"no session for {PASSWORD}") from ConnectionError(PASSWORD)
        return {}

    async def save(self, records: Sequence[Record]) -> int:
        raise SaveError({record.key: RecordRejected(f"{PASSWORD} may not insert") for record in records})


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> str:
    real = backend_from_url

    def backend(url: str, *, codec: Any) -> Any:
        if url != URL:
            return real(url, codec=codec)
        keep_secret(url)
        return Talkative()

    monkeypatch.setattr("asyncwb.plugins.registry.backend_from_url", backend)
    return URL


async def test_no_log_event_or_dead_letter_tells_what_a_plugin_says(
    valkey_url: str, namespace: str, talkative: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "asyncwb")
    events: list[Any] = []
    async with Buffer[Any](valkey_url, backend=talkative, namespace=namespace, observer=events.append) as buffer:
        await buffer.set("a", 1)
        async with asyncio.timeout(10):
            while not (await buffer.stats()).dead:
                await asyncio.sleep(0.01)
        with pytest.raises(AsyncwbError, match=r"\*\*\* may not insert") as caught:
            await buffer.flush("a")
        with pytest.raises(BackendUnavailable, match=r"no session for \*\*\*") as unread:
            await buffer.get("b")
    shown = everything(caught.value) + everything(unread.value) + caplog.text + repr(events)
    assert "login with ***" in shown
    assert "et'ish" not in shown


@pytest.mark.parametrize("as_client", [False, True])
async def test_server_that_repeats_the_password_is_not_quoted(
    private_server: Callable[..., Server], as_client: bool
) -> None:
    server = await asyncio.to_thread(private_server, "valkey", **{"rename-command": "AUTH NOBODY-KNOWS"})
    client: Any = redis.asyncio.Redis(port=server.port, username="ada_l", password="hunter2 x")
    url = f"redis://ada_l:hunter2%20x@127.0.0.1:{server.port}/0"
    buffer = Buffer[Any](client if as_client else url, backend=MemoryBackend(), connect_timeout_seconds=0.1)
    with pytest.raises(RedisError, match="unknown command") as caught:
        await buffer.open()
    shown = everything(caught.value)
    assert "hunter2" not in shown
    assert "ada_l" not in shown
    await client.aclose()


def test_redis_url_with_a_slash_in_its_password_is_explained() -> None:
    with pytest.raises(ConfigurationError, match="in user and password as %2F") as caught:
        target_of_url("redis://ada_l:hun/ter2@localhost:6379/0")
    assert "ter2" not in str(caught.value)
