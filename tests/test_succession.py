"""A Redis server that comes back after another has succeeded it: told, and refused at open."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import run, run_json
from servers import Server

from asyncwb import BrokenContract, Buffer, ServerReturned, ServerSucceeded
from asyncwb.events import Event
from asyncwb.succession import SERVERS_KEPT, successor_of, with_server
from asyncwb.testing import MemoryBackend

StartServer = Callable[..., Server]


def test_servers_are_kept_in_the_order_of_their_epochs() -> None:
    began = with_server([], 0, "")
    assert began == []
    for epoch in (3, 1, 2, 2):
        began = with_server(began, epoch, f"s{epoch}")
    assert began == [(1, "s1"), (2, "s2"), (3, "s3")]
    for epoch in range(4, 40):
        began = with_server(began, epoch, "s")
    assert [epoch for epoch, _ in began] == list(range(40 - SERVERS_KEPT, 40))


@pytest.mark.parametrize(
    ("began", "epoch", "successor"),
    [
        ([], 1, None),
        ([(1, "a")], 1, None),
        ([(1, "a"), (2, "a")], 1, None),
        ([(1, "a"), (2, "b")], 1, (2, "b")),
        ([(1, "a"), (2, "b"), (3, "c")], 4, (3, "c")),  # epochs that weren't noted count for nothing
        ([(1, "a"), (2, "b"), (3, "c"), (4, "a")], 1, None),
        ([(1, "b"), (2, "a")], 2, None),
        ([(2, "b")], 1, (2, "b")),  # it was never noted, and was there before
        ([(2, "b")], 3, None),
    ],
)
def test_successor_is_the_latest_other_server(
    began: list[tuple[int, str]], epoch: int, successor: tuple[int, str] | None
) -> None:
    assert successor_of("a", epoch, began) == successor


@pytest.fixture(params=["sqlite", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:///{tmp_path}/{'app.db' if request.param == 'sqlite' else 'data'}"


async def test_server_that_another_has_succeeded_is_refused_at_open_until_it_is_adopted(
    private_server: StartServer, namespace: str, place: str
) -> None:
    former, present = await asyncio.gather(*(asyncio.to_thread(private_server) for _ in range(2)))
    options: Any = {"backend": place, "namespace": namespace, "partitions": 2}
    for server, value in ((former, 1), (present, 2), (present, 3)):
        async with Buffer[int](server.url, **options) as buffer:
            version = await buffer.set("a", value)
    with pytest.raises(ServerSucceeded, match=r"epoch 2 since.*asyncwb adopt-server") as refused:
        await Buffer[int](former.url, **options).open()
    assert "is in epoch 1" in str(refused.value)

    where = "--redis", former.url, "--backend", place, "--namespace", namespace
    found = {each["check"]: each for each in (await run_json("doctor", *where, status=1))["findings"]}
    assert found["epoch"]["level"] == "error"
    assert "is in epoch 1" in found["epoch"]["text"]
    assert "epoch 2" in found["epoch"]["text"]
    async with Buffer[int](present.url, **options) as buffer:
        assert await buffer.get("a") == 3, "nothing was begun by whoever was refused"

    assert "in epoch 4 now" in (await run("adopt-server", *where)).stdout
    async with Buffer[int](former.url, **options) as buffer:
        assert await buffer.set("a", 4) > version
        await buffer.flush("a", timeout=5)
    found = {each["check"]: each for each in (await run_json("doctor", *where))["findings"]}
    assert found["epoch"]["level"] == "ok"
    with pytest.raises(ServerSucceeded):
        await Buffer[int](present.url, **options).open()

    await asyncio.to_thread(former.restart, keep_data=True)
    async with Buffer[int](former.url, **options) as buffer:
        assert await buffer.get("a") == 4
    found = {each["check"]: each for each in (await run_json("doctor", *where))["findings"]}
    assert found["epoch"]["level"] == "ok", "a server that was started again is another one"


async def test_two_servers_that_save_into_one_place_are_told_of(
    private_server: StartServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryBackend()
    events: list[Event] = []
    one, two = await asyncio.gather(*(asyncio.to_thread(private_server) for _ in range(2)))
    options: Any = {"backend": memory, "namespace": namespace}
    with caplog.at_level(logging.WARNING, logger="asyncwb"):
        async with Buffer[int](one.url, observer=events.append, **options) as first:
            await first.set("a", 1)
            async with Buffer[int](two.url, **options) as second:
                await second.set("a", 2)
                async with asyncio.timeout(10):
                    while not any(isinstance(each, ServerReturned) for each in events):
                        await asyncio.sleep(0.05)
            # It goes on: whoever starts the second one by mistake doesn't stop the first.
            await first.set("a", 3)
            await first.flush("a", timeout=10)
            assert memory.values == {"a": 3}
            with pytest.raises(ServerSucceeded):
                await Buffer[int](one.url, **options).open()
        async with Buffer[int](two.url, **options) as second:
            assert await second.set("a", 4) >> 32 > 2, "it is the present one, also behind the epochs of the first"
            await second.flush("a", timeout=10)
        assert memory.values == {"a": 4}
    told = next(each for each in events if isinstance(each, ServerReturned))
    assert (told.partition, told.epoch, told.other) == (0, 1, 2)
    assert "another one" in caplog.text
    assert "former primary that still runs, or two servers save into one place" in caplog.text


class Failing(MemoryBackend):
    """It can't note anything, for now."""

    async def note_server(self, partition: int, epoch: int, server: str) -> Any:
        if epoch:
            raise ConnectionError("not now")
        return []


async def test_place_that_cannot_note_a_server_holds_up_nobody(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="asyncwb"):
        async with Buffer[int](valkey_url, backend=Failing(), namespace=namespace) as buffer:
            await buffer.set("a", 1)
            await buffer.flush("a", timeout=5)
    assert "it can't be noted which server began epoch 1" in caplog.text


@pytest.mark.parametrize("nonsense", [None, "a", [1], [(1, 7)], [("1", "a")], [(2, "a"), (1, "b")], [(True, "a")]])
async def test_nonsense_about_servers_is_told_as_the_plugins_fault(
    valkey_url: str, namespace: str, nonsense: object
) -> None:
    class Broken(MemoryBackend):
        async def note_server(self, partition: int, epoch: int, server: str) -> Any:
            return nonsense

    with pytest.raises(BrokenContract, match="note_server returned"):
        async with Buffer[int](valkey_url, backend=Broken(), namespace=namespace):
            pass  # the first one begins an epoch, and the second one asks
        await Buffer[int](valkey_url, backend=Broken(), namespace=namespace).open()
