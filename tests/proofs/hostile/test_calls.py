"""Every public method with every nonsense: an error of the tree for its caller, nothing at all for its neighbours."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from asyncwb import AsyncwbError, Buffer, DeadLettered, Settings
from asyncwb.buffer import base, waiting, writing
from asyncwb.core import userkeys
from asyncwb.settings import SettingOptions
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server
from tests.proofs.hostile import calls
from tests.proofs.hostile.calls import every, forms, play, some
from tests.proofs.hostile.objects import name_of, nasty
from tests.proofs.runner.report import Report


async def played(url: str, namespace: str, what: Iterator[calls.Call], **options: Any) -> Report:
    report = Report()
    async with Buffer[Any](url, backend=MemoryBackend(), namespace=namespace, **options) as buffer:
        await play(buffer, what, report, at_once=10)
        if not report.problems:
            reasons = await dead_letters(buffer)
            assert not any(key.startswith("neighbour") for key in reasons), reasons
    return report


async def dead_letters(buffer: Buffer[Any]) -> dict[str, str]:
    """What a drain tells: keys may have got updates that can't be applied to their values."""
    try:
        await buffer.drain(timeout=10)
    except DeadLettered as error:
        return dict(error.reasons)
    return {}


@pytest.mark.parametrize("method", sorted({form.method for form in forms()}))
async def test_nonsense_is_told_to_its_caller_alone(valkey_server: Server, namespace: str, method: str) -> None:
    own = (call for call in every() if call[0].method == method)
    report = await played(valkey_server.url, namespace, own, partitions=2)
    assert report.problems == []
    assert report.counts["hostile calls"] > 100
    assert report.counts["calls of their neighbours"] > 50


@pytest.mark.parametrize("number", range(2))
async def test_a_few_mixtures(valkey_server: Server, namespace: str, number: int) -> None:
    report = await played(valkey_server.url, namespace, some(random.Random(number), 100))
    assert report.problems == []


OPTIONS = ["redis", "backend", "type", "codec", "observer", "settings", *Settings().__slots__]


@pytest.mark.parametrize("parameter", OPTIONS)
def test_nonsense_in_a_constructor_is_an_error_of_the_tree(parameter: str) -> None:
    for thing in nasty():
        options: dict[str, Any] = {"backend": MemoryBackend(), parameter: thing}
        try:
            Buffer(**options)
        except AsyncwbError:
            continue
        except Exception as error:
            pytest.fail(f"{parameter}={name_of(thing)}: {error!r}")
    assert set(SettingOptions.__annotations__) == set(Settings().__slots__)


# What is broken on purpose is found


@pytest.mark.parametrize(
    ("module", "attribute", "broken", "found"),
    [
        (waiting, "checked_timeout", lambda timeout: timeout, "none of asyncwb's errors"),
        (writing, "checked_items", lambda values: values.items(), "none of asyncwb's errors"),
        (base, "check_choice", lambda name, value, choices: value, "none of asyncwb's errors"),
        pytest.param(
            writing, "raw_keys", lambda keys: [key.encode() for key in keys], "none of asyncwb's errors",
            marks=pytest.mark.long,
        ),
        pytest.param(
            userkeys, "plain_str", lambda key: key if isinstance(key, str) else None, "none of asyncwb's errors",
            marks=pytest.mark.long,
        ),
    ],
)  # fmt: skip
async def test_check_that_is_left_out_is_found_out(
    valkey_server: Server, namespace: str, monkeypatch: pytest.MonkeyPatch, module: Any, attribute: str,
    broken: Callable[..., Any], found: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, attribute, broken)
    wanted = {"checked_timeout": "timeout", "checked_items": "values"}
    wanted |= {"check_choice": "durability", "raw_keys": "keys", "plain_str": "key"}
    own = (call for call in every() if call[0].parameter == wanted[attribute] and call[0].method != "drain")
    report = await played(valkey_server.url, namespace, own)
    assert any(found in problem for problem in report.problems), report.problems


def test_unit_plays_on_a_server_of_its_own() -> None:
    report = calls.run(1, 40)
    assert report.problems == []
    assert report.counts["hostile calls"] > 20


async def test_nonsense_that_slips_into_a_shared_request_fails_its_own_caller_alone(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The second line of defence: as if a check were missing."""
    async with Buffer[int](valkey_url, backend=MemoryBackend(), namespace=namespace, flushers=0) as own:
        await own.set("a", 1)
        partition = own._engine.partitions[0]
        gets, confirms = partition.gets, partition.confirms
        odd: Any = object()
        futures: list[Any] = [
            gets.submit((b"a",)), gets.submit((odd,)), gets.submit((b"absent",)),
            confirms.submit(("memory", 1)), confirms.submit(("memory", odd)), confirms.submit((odd, 1)),
        ]  # fmt: skip
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False, False, False, False]
        futures = [confirms.submit(("memory", 1)), confirms.submit(([], 1)), gets.submit((b"a",))]  # type: ignore[arg-type]
        outcomes = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
        assert "one by one" in caplog.text
        assert await own.get("a") == 1


@pytest.mark.parametrize("codec", ["json", "msgpack", "bytes"])
async def test_value_that_cannot_be_encoded_is_told_whatever_it_raises(
    valkey_url: str, namespace: str, codec: Any
) -> None:
    async with Buffer[Any](valkey_url, backend=MemoryBackend(), namespace=namespace, codec=codec, flushers=0) as own:
        for thing in nasty():
            with suppress(AsyncwbError):
                await own.set("a", thing)
                await own.get("a")
