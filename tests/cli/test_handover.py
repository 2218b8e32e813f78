"""`asyncwb hand-over`, and what the doctor says about a place."""

from pathlib import Path
from typing import Any

import pytest

from asyncwb import Buffer, DeadLettered, PlaceTaken, RecordRejected
from asyncwb.records import Record, make_version
from asyncwb.testing import FaultyBackend
from asyncwb_backends.sqlite import SQLiteBackend
from tests.harness.commands import run, run_json


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'app.db'}?table=users"


def arguments(redis: str, url: str, former: str, namespace: str) -> tuple[str, ...]:
    return "hand-over", "--redis", redis, "--backend", url, "--from", former, "--to", namespace, "--wait", "0"


async def test_place_is_handed_over_with_all_that_is_in_it(valkey_url: str, namespace: str, url: str) -> None:
    new = f"{namespace}.new"
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace) as buffer:
        old = await buffer.set("a", 1)
    with pytest.raises(PlaceTaken, match="asyncwb hand-over"):
        await Buffer[Any](valkey_url, backend=url, namespace=new).open()
    assert await run_json(*arguments(valkey_url, url, namespace, new)) == {"handed_over": True, "in_use": []}
    async with Buffer[Any](valkey_url, backend=url, namespace=new) as buffer:
        assert await buffer.get("a") == 1
        version = await buffer.set("a", 2)
        assert version >> 32 > old >> 32, "in an epoch of its own"
        await buffer.flush("a", version=version, timeout=5)
    with pytest.raises(PlaceTaken):
        await Buffer[Any](valkey_url, backend=url, namespace=namespace).open()
    # Once more: it is the new one's already.
    assert "can use it now" in (await run(*arguments(valkey_url, url, namespace, new))).stdout


async def test_place_of_a_namespace_with_processes_isnt_handed_over(valkey_url: str, namespace: str, url: str) -> None:
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace) as buffer:
        await buffer.set("a", 1)
        await buffer.drain(timeout=5)
        refused = await run_json(*arguments(valkey_url, url, namespace, "other"), status=1)
        assert refused == {"handed_over": False, "in_use": ["1 process(es), heard of within the last minute"]}
        await buffer.set("a", 2)
        await buffer.drain(timeout=5)


async def test_place_of_a_namespace_with_unsaved_records_isnt_handed_over(
    valkey_url: str, namespace: str, tmp_path: Path, url: str
) -> None:
    backend = FaultyBackend(SQLiteBackend(tmp_path / "app.db", table="users"))
    backend.poison = {"dead": RecordRejected("no")}
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace) as buffer:
        await buffer.set("dead", 1)
        with pytest.raises(DeadLettered):
            await buffer.drain(timeout=5)
    async with Buffer[Any](valkey_url, backend=backend, namespace=namespace, flushers=0) as buffer:
        await buffer.set("dirty", 1)
    result = await run(*arguments(valkey_url, url, namespace, "other"), status=1)
    assert "1 dirty record(s), 1 dead letter(s)" in result.stderr
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace) as buffer:
        await buffer.drain(timeout=5)


async def test_hand_over_names_the_former_namespace_rightly_or_does_nothing(
    valkey_url: str, namespace: str, url: str
) -> None:
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace):
        pass
    result = await run(*arguments(valkey_url, url, "somebody", "other"), status=2)
    assert f"belongs to namespace '{namespace}'" in result.stderr
    await run(*arguments(valkey_url, url, namespace, namespace), status=2)
    await run(*arguments(valkey_url, url, namespace, "no name"), status=2)
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace):
        pass


async def test_doctor_names_the_owner_of_a_place(valkey_url: str, namespace: str, url: str) -> None:
    async with Buffer[Any](valkey_url, backend=url, namespace=namespace) as buffer:
        await buffer.set("a", 1)
    where = "--redis", valkey_url, "--backend", url
    found = {each["check"]: each for each in (await run_json("doctor", *where, "--namespace", namespace))["findings"]}
    assert found["place"]["level"] == "ok"
    assert f"'{namespace}'" in found["place"]["text"]
    report = await run_json("doctor", *where, "--namespace", "another", status=1)
    found = {each["check"]: each for each in report["findings"]}
    assert found["place"]["level"] == "error"
    assert f"belongs to namespace '{namespace}'" in found["place"]["text"]


async def test_doctor_tells_of_versions_that_nobody_has_made(
    valkey_url: str, namespace: str, tmp_path: Path, url: str
) -> None:
    options: Any = {"namespace": namespace, "max_delay_seconds": 30}
    async with Buffer[Any](valkey_url, backend=url, **options) as buffer:
        await buffer.set("a", "mine")
        writer = SQLiteBackend(tmp_path / "app.db", table="users")
        try:
            await writer.open(namespace=namespace)
            await writer.save([Record("a", make_version(40, 1), b'"foreign"')])
        finally:
            await writer.close()
        await buffer.drain(timeout=5)
        assert buffer.totals.foreign == 1
        async with Buffer[Any](valkey_url, backend=url, namespace=namespace, flushers=0):
            report = await run_json("doctor", "--redis", valkey_url, "--backend", url, "--namespace", namespace)
    texts = [each["text"] for each in report["findings"] if each["check"] == "place"]
    assert any("epochs 2 to 40" in text for text in texts), texts
