"""A Redis server that comes back after another has succeeded it: told, and refused at open."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwb import BrokenContract, Buffer, ServerReturned, ServerSucceeded
from asyncwb.events import Event
from asyncwb.plugins.succession import SERVERS_KEPT, successor_of, with_server
from asyncwb.testing import MemoryBackend
from tests.harness.commands import run, run_json
from tests.harness.servers import Server

StartServer = Callable[..., Server]


def test_servers_are_kept_in_the_order_of_their_epochs() -> None:
    began = with_server([], 0, "")
    assert began == []
    for epoch in (3, 1, 2, 2):
        began = with_server(began, epoch, f"s{epoch}")
    assert began == [(1, "s1"), (2, "s2"), (3, "s3")]
    assert with_server(began, 2, "another") == began
    for epoch in range(4, 40):
        began = with_server(began, epoch, "s")
    assert [epoch for epoch, _ in began] == list(range(40 - SERVERS_KEPT, 40))


@pytest.mark.parametrize(
    ("began", "successor"),
    [
        ([], None),
        ([(1, "a")], None),
        ([(1, "a"), (2, "a")], None),
        ([(1, "a"), (2, "b")], (2, "b")),
        ([(1, "a"), (2, "b"), (3, "c")], (3, "c")),
        ([(1, "a"), (2, "b"), (3, "c"), (4, "a")], None),
        ([(1, "b"), (2, "a")], None),
        ([(2, "b")], None),  # one that was never noted is a new one
    ],
)
def test_successor_is_the_latest_other_server(began: list[tuple[int, str]], successor: tuple[int, str] | None) -> None:
    assert successor_of("a", began) == successor


@pytest.fixture(params=["sqlite", "file"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}:///{tmp_path}/{'app.db' if request.param == 'sqlite' else 'data'}"


async def test_server_that_another_has_succeeded_is_refused_at_open_until_it_is_adopted(
    private_server: StartServer, namespace: str, place: str
) -> None:
    former, present = await asyncio.gather(*(asyncio.to_thread(private_server) for _ in range(2)))
    options: Any = {"backend": place, "namespace": namespace, "partitions": 2, "connect_timeout_seconds": 1}
    for server, value in ((former, 1), (present, 2), (present, 3)):
        async with Buffer[int](server.url, **options) as buffer:
            version = await buffer.set("a", value)
    with pytest.raises(ServerSucceeded, match=r"took over with epoch 2.*asyncwb adopt-server"):
        await Buffer[int](former.url, **options).open()

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
    options: Any = {"backend": memory, "namespace": namespace, "connect_timeout_seconds": 1}
    with caplog.at_level(logging.WARNING, logger="asyncwb"):
        async with Buffer[int](one.url, observer=events.append, **options) as first:
            await first.set("a", 1)
            async with Buffer[int](two.url, **options) as second:
                await second.set("a", 2)
                async with asyncio.timeout(10):
                    while not any(isinstance(each, ServerReturned) for each in events):
                        await asyncio.sleep(0.05)
                await asyncio.sleep(2.5)
                assert sum(isinstance(each, ServerReturned) for each in events) == 1, "told once, and not each second"
                noted = await memory.note_server(0, 0, "")
                assert len(noted) == 2, "what they begin while they outbid each other isn't noted"
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
    assert "another server (replication id" in caplog.text
    assert "former primary that still runs, or two servers save into one place" in caplog.text


class Failing(MemoryBackend):
    """A backend that can't note anything while `fails` is set."""

    fails = True

    async def note_server(self, partition: int, epoch: int, server: str) -> Any:
        if epoch and self.fails:
            raise ConnectionError("not now")
        return await super().note_server(partition, epoch, server)


async def test_server_whose_epoch_could_not_be_noted_is_noted_by_who_opens_it_next(
    private_server: StartServer, namespace: str
) -> None:
    """Otherwise a former primary that comes back would pass for the present server, and this one would be refused."""
    memory = Failing()
    former, present = await asyncio.gather(*(asyncio.to_thread(private_server) for _ in range(2)))
    options: Any = {"backend": memory, "namespace": namespace, "connect_timeout_seconds": 1}
    memory.fails = False
    async with Buffer[int](former.url, **options):
        pass
    memory.fails = True
    async with Buffer[int](present.url, **options):
        pass
    memory.fails = False
    async with Buffer[int](former.url, **options):
        pass  # nobody knows that it was succeeded
    async with Buffer[int](present.url, **options):
        pass
    with pytest.raises(ServerSucceeded):
        await Buffer[int](former.url, **options).open()


async def test_server_that_the_place_has_never_seen_is_not_refused(private_server: StartServer, namespace: str) -> None:
    """It was used in this namespace with another backend before."""
    place = MemoryBackend()
    one, two = await asyncio.gather(*(asyncio.to_thread(private_server) for _ in range(2)))
    async with Buffer[int](two.url, backend=MemoryBackend(), namespace=namespace):
        pass
    for server in (one, two):
        async with Buffer[int](server.url, backend=place, namespace=namespace) as buffer:
            await buffer.set("a", 1)


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
            pass  # the first one begins an epoch, and who opens it next asks
        await Buffer[int](valkey_url, backend=Broken(), namespace=namespace).open()
