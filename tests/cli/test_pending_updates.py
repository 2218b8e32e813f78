"""`asyncwb show` and `asyncwb dead` of records with updates that aren't saved yet, on real servers."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asyncwb import Add, Append, Buffer, DeadLettered, Max, RecordRejected
from asyncwb.records import Version
from asyncwb.testing import FaultyBackend
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness.commands import run, run_json


@pytest.fixture
def where(valkey_url: str, namespace: str) -> tuple[str, ...]:
    return "--redis", valkey_url, "--namespace", namespace


@pytest.fixture
def backend(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/app.db?table=asyncwb"


def writer(valkey_url: str, namespace: str, backend: str) -> Buffer[Any]:
    """A buffer that only writes, so that what it writes stays in Redis."""
    return Buffer(valkey_url, backend=backend, namespace=namespace, flushers=0, drain_timeout_seconds=0.0)


async def save(valkey_url: str, namespace: str, backend: str, key: str, value: Any) -> Version:
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        version = await buffer.set(key, value)
        await buffer.drain(timeout=5)
        return version


async def flush(valkey_url: str, namespace: str, backend: str) -> None:
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.drain(timeout=5)


async def value_of(valkey_url: str, namespace: str, backend: str, key: str) -> Any:
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        return await buffer.get(key)


async def test_show_has_the_updates_and_what_they_make_of_the_backends_value(
    valkey_url: str, namespace: str, backend: str, where: tuple[str, ...]
) -> None:
    held = await save(valkey_url, namespace, backend, "k", {"visits": 5, "name": "Ada"})
    async with writer(valkey_url, namespace, backend) as buffer:
        first = await buffer.update("k", {"visits": Add(3)})
        last = await buffer.update("k", {"seen": Max(7), "name": "B\x1b[31mb"})
    shown = await run_json("show", "k", *where, "--backend", backend)
    assert shown["redis"]["where"] == "dirty"
    assert (shown["redis"]["version"], shown["redis"]["base"]) == (last, None)
    assert [(each["first"], each["last"]) for each in shown["redis"]["updates"]] == [(first, first), (last, last)]
    assert shown["redis"]["updates"][0]["does"].startswith("visits + 3; if absent: ")
    assert (shown["backend"]["version"], shown["backend"]["value"]) == (held, {"visits": 5, "name": "Ada"})
    assert shown["worked_out"]["version"] == last
    assert shown["worked_out"]["value"] == {"visits": 8, "name": "B\x1b[31mb", "seen": 7}
    text = (await run("show", "k", *where, "--backend", backend)).stdout
    for words in (
        "updates   2 that are not saved, json",
        "visits + 3",
        "seen max 7",
        "base      what the backend holds",
    ):
        assert words in text
    assert text.partition("worked out with what the backend holds:")[2].count('"visits": 8') == 1
    assert "\x1b[31m" not in text, "a value can't speak to the terminal"
    alone = await run_json("show", "k", *where)
    assert alone["worked_out"] is None
    assert "name --backend" in (await run("show", "k", *where)).stdout


async def test_show_has_the_base_of_updates_on_a_write(
    valkey_url: str, namespace: str, backend: str, where: tuple[str, ...]
) -> None:
    async with writer(valkey_url, namespace, backend) as buffer:
        base = await buffer.set("k", {"visits": 5})
        await buffer.add("k", field="visits")
        await buffer.delete("gone")
        await buffer.add("gone")
    shown = await run_json("show", "k", *where, "--backend", backend)
    assert (shown["redis"]["base"]["version"], shown["redis"]["base"]["value"]) == (base, {"visits": 5})
    assert shown["worked_out"]["value"] == {"visits": 6}
    text = (await run("show", "k", *where)).stdout
    assert "base      written with version" in text
    assert '"visits": 5' in text
    gone = await run_json("show", "gone", *where, "--backend", backend)
    assert (gone["redis"]["base"]["deleted"], gone["worked_out"]["value"]) == (True, 1)
    assert [each["key"] for each in (await run_json("keys", *where))["keys"]] == ["k", "gone"]
    assert (await run_json("status", *where))["dirty"] == 2


@pytest.fixture
async def stuck(valkey_url: str, namespace: str, backend: str) -> list[Version]:
    """Key k has a value in the backend, and is dead with three updates, of which the second can't be applied."""
    await save(valkey_url, namespace, backend, "k", {"visits": 5, "name": "Ada"})
    async with writer(valkey_url, namespace, backend) as buffer:
        versions = [
            await buffer.add("k", 3, "visits"),
            await buffer.append("k", "x", field="name"),
            await buffer.add("k", 10, "visits"),
        ]
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        with pytest.raises(DeadLettered):
            await buffer.drain(timeout=5)
    return versions


async def test_an_update_that_cant_be_applied_is_told(
    backend: str, where: tuple[str, ...], stuck: list[Version]
) -> None:
    listed = await run("dead", "list", *where)
    assert "field 'name' holds a text" in listed.stdout
    assert "1 of them have an update that can't be applied" in listed.stderr
    (letter,) = (await run_json("dead", "list", *where))["dead"]
    assert letter["stuck"] is True
    shown = await run_json("dead", "show", "k", *where)
    assert [each["last"] for each in shown["updates"]] == stuck
    text = (await run("dead", "show", "k", *where)).stdout
    assert "it takes no further updates" in text
    assert "--without-failed-update" in text
    assert 'name append ["x"]' in text
    whole = await run_json("show", "k", *where, "--backend", backend)
    assert "field 'name'" in whole["worked_out"]["problem"]
    assert whole["worked_out"]["update"]["last"] == stuck[1]
    assert (
        "worked out: no value, since an update can't be applied"
        in (await run("show", "k", *where, "--backend", backend)).stdout
    )


async def test_retry_leaves_only_the_failed_update_out(
    valkey_url: str, namespace: str, backend: str, where: tuple[str, ...], stuck: list[Version]
) -> None:
    command = ("dead", "retry", "k", "--without-failed-update", *where, "--backend", backend)
    refused = await run(*command, status=1, answer="n\n")
    assert 'name append ["x"]' in refused.stderr
    assert "Lose 1 update(s) for good?" in refused.stderr
    assert len((await run_json("dead", "list", *where))["dead"]) == 1
    done = await run(*command, answer="y\n")
    assert "1 record(s) retried" in done.stdout
    assert 'left out of k: 1.3: name append ["x"]' in done.stdout
    await flush(valkey_url, namespace, backend)
    assert await value_of(valkey_url, namespace, backend, "k") == {"visits": 18, "name": "Ada"}
    async with writer(valkey_url, namespace, backend) as buffer:
        await buffer.add("k", 1, "visits")  # it takes updates again
        assert await buffer.get("k") == {"visits": 19, "name": "Ada"}


async def test_without_the_option_it_dies_again(
    valkey_url: str, namespace: str, backend: str, where: tuple[str, ...], stuck: list[Version]
) -> None:
    assert await run_json("dead", "retry", "k", *where) == {"retried": 1, "not_dead": []}
    with pytest.raises(DeadLettered):
        await flush(valkey_url, namespace, backend)
    assert len((await run_json("show", "k", *where))["redis"]["updates"]) == len(stuck)


async def test_what_can_be_applied_by_now_is_retried_as_it_is(
    valkey_url: str, namespace: str, backend: str, where: tuple[str, ...], stuck: list[Version], tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection, connection:
        connection.execute("""UPDATE asyncwb SET value = '{"visits": 5, "name": ["w"]}'""")
    answer = await run_json("dead", "retry", "--all", "--without-failed-update", "--yes", *where, "--backend", backend)
    assert answer == {"retried": 1, "not_dead": [], "left_out": {}, "problems": {}}
    await flush(valkey_url, namespace, backend)
    assert await value_of(valkey_url, namespace, backend, "k") == {"visits": 18, "name": ["w", "x"]}


async def test_what_the_backend_refused_is_retried_as_it_is(
    valkey_url: str, namespace: str, backend: str, where: tuple[str, ...], tmp_path: Path
) -> None:
    faulty = FaultyBackend(SQLiteBackend(tmp_path / "app.db"))
    faulty.poison = {"set": RecordRejected("too odd"), "updated": RecordRejected("too odd")}
    async with Buffer[Any](valkey_url, backend=faulty, namespace=namespace) as buffer:
        await buffer.set("set", 1)
        await buffer.update("updated", Append(1))
        with pytest.raises(DeadLettered):
            await buffer.drain(timeout=5)
    listed = await run("dead", "list", *where)
    assert "can't be applied" not in listed.stdout + listed.stderr
    answer = await run_json(
        "dead", "retry", "set", "updated", "absent", "--without-failed-update", *where, "--backend", backend, status=1
    )
    assert answer == {"retried": 2, "not_dead": ["absent"], "left_out": {}, "problems": {}}


async def test_the_failed_update_is_found_with_the_backend_only(where: tuple[str, ...]) -> None:
    result = await run("dead", "retry", "k", "--without-failed-update", *where, status=2)
    assert "--without-failed-update needs --backend" in result.stderr
