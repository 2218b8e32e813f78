"""Epochs: which history of Redis this is, agreed on through the backend."""

import asyncio
import logging
from dataclasses import replace
from functools import partial

import pytest

from asyncwb.errors import BackendUnavailable, NamespaceMismatch, RedisUnavailable
from asyncwb.events import EpochChanged, Event
from asyncwb.protocol.epochs import Epochs
from asyncwb.protocol.keys import namespace_key
from asyncwb.protocol.messages import PartitionMeta
from asyncwb.protocol.namespace import Namespace
from asyncwb.protocol.queue import Queue
from asyncwb.records import Record, make_version
from asyncwb.testing import MemoryBackend
from tests.harness.rig import Rig

NOBODY = "0" * 40


def partitions(rig: Rig, count: int, namespace: str = "epochs") -> list[Queue]:
    return [Queue(rig.link, namespace, number, count) for number in range(count)]


async def set_meta(rig: Rig, queue: Queue, **fields: object) -> None:
    for name, value in fields.items():
        await rig.link.command("HSET", queue.keys.meta, name, str(value))


async def test_first_client_begins_an_epoch_in_all_partitions(rig: Rig) -> None:
    queues = partitions(rig, 3)
    epochs = Epochs(queues, MemoryBackend().new_epoch, codec="json")
    await epochs.check()
    assert [epochs.known(number) for number in range(3)] == [1, 1, 1]
    assert {(await queue.read_meta()).epoch for queue in queues} == {1}


async def test_later_clients_join_it(rig: Rig) -> None:
    queues, backend = partitions(rig, 2), MemoryBackend()
    for _ in range(3):
        epochs = Epochs(queues, backend.new_epoch, codec="json")
        await epochs.check()
        assert epochs.known(1) == 1
    assert await backend.new_epoch(0) == 1


async def test_many_clients_at_once_agree(rig: Rig) -> None:
    queues, backend = partitions(rig, 2), MemoryBackend()
    everybody = [Epochs(queues, backend.new_epoch, codec="json") for _ in range(20)]
    await asyncio.gather(*(epochs.check() for epochs in everybody))
    for epochs in everybody:
        await epochs.check()
    installed = {(await queue.read_meta()).epoch for queue in queues}
    assert installed == {await backend.new_epoch(0)}, "a number that was lost would leave all of them behind for ever"
    assert {epochs.known(number) for epochs in everybody for number in range(2)} == installed


async def test_server_of_another_history_gets_a_higher_epoch(rig: Rig) -> None:
    queues, backend = partitions(rig, 2), MemoryBackend()
    epochs = Epochs(queues, backend.new_epoch, codec="json")
    await epochs.check()
    for queue in queues:
        await set_meta(rig, queue, identity=NOBODY)
    await epochs.refresh(0, epochs.known(0))
    assert {(await queue.read_meta()).epoch for queue in queues} == {2}
    assert (await queues[0].read_meta()).meta_identity == (await queues[0].read_meta()).identity


async def test_server_behind_the_backend_gets_no_puts_until_a_handshake(rig: Rig) -> None:
    """A former primary that came back without being told."""
    queues, backend = partitions(rig, 1), MemoryBackend()
    epochs = Epochs(queues, backend.new_epoch, codec="json")
    await epochs.check()
    assert await backend.new_epoch(5) == 5
    await epochs.check()
    assert epochs.known(0) == 6
    assert (await queues[0].read_meta()).epoch == 6


async def test_sequence_that_is_used_up_needs_an_epoch(rig: Rig) -> None:
    queues, backend = partitions(rig, 1), MemoryBackend()
    epochs = Epochs(queues, backend.new_epoch, codec="json")
    await epochs.check()
    await set_meta(rig, queues[0], seq=2**32 - 5)
    await epochs.refresh(0, 1)
    meta = await queues[0].read_meta()
    assert (meta.epoch, meta.seq) == (2, 0)


async def test_refresh_that_somebody_else_has_done_does_nothing(rig: Rig) -> None:
    queues, backend = partitions(rig, 1), MemoryBackend()
    epochs = Epochs(queues, backend.new_epoch, codec="json")
    await epochs.check()
    await set_meta(rig, queues[0], identity=NOBODY)
    await asyncio.gather(*(epochs.refresh(0, 1) for _ in range(10)))
    assert epochs.known(0) == 2


async def test_number_is_not_lost_while_a_partition_cannot_be_reached(rig: Rig) -> None:
    queues, backend = partitions(rig, 2), MemoryBackend()
    epochs = Epochs(queues, backend.new_epoch, codec="json")
    install = queues[1].install_epoch
    failures = 0

    async def fail_once(*args: object, **options: object) -> bool:
        nonlocal failures
        if not failures:
            failures += 1
            raise RedisUnavailable("cut")
        return await install(*args, **options)  # type: ignore[arg-type]

    queues[1].install_epoch = fail_once  # type: ignore[method-assign]
    with pytest.raises(RedisUnavailable):
        await epochs.check()
    assert failures == 1
    await epochs.check()
    assert {(await queue.read_meta()).epoch for queue in queues} == {await backend.new_epoch(0)}


async def test_failover_during_a_handshake_does_not_get_the_number_again(rig: Rig) -> None:
    """Puts of the lost history have that epoch: other writes under the same versions would be taken for saved."""
    (queue,), backend = partitions(rig, 1), MemoryBackend()
    install = queue.install_epoch
    given: list[int] = []

    async def fail_over_after_the_first(seen: PartitionMeta, epoch: int, *, codec: str) -> bool:
        done = await install(seen, epoch, codec=codec)
        given.append(epoch)
        if len(given) == 1:  # the replica that is promoted has nothing of it yet
            await rig.link.command("DEL", queue.keys.meta)
        return done

    queue.install_epoch = fail_over_after_the_first  # type: ignore[method-assign]
    epochs = Epochs([queue], backend.new_epoch, codec="json")
    await epochs.check()
    assert given == [1, 2]
    assert epochs.known(0) == (await queue.read_meta()).epoch == 2


async def test_former_primary_behind_an_old_connection_is_not_outbid(rig: Rig) -> None:
    """It still runs, and old connections lead to it: a new epoch would make it accept puts again."""
    (queue,), backend = partitions(rig, 1), MemoryBackend()
    epochs = Epochs([queue], backend.new_epoch, codec="json")
    await epochs.check()
    await set_meta(rig, queue, epoch=await backend.new_epoch(2))
    await epochs.check()
    meta, reset = queue.read_meta, rig.link.reset
    resets = 0

    async def of_the_former_primary() -> PartitionMeta:
        present = await meta()
        return present if resets else replace(present, identity=NOBODY, meta_identity=NOBODY, epoch=1)

    async def count_and_reset() -> None:
        nonlocal resets
        resets += 1
        await reset()

    queue.read_meta = of_the_former_primary  # type: ignore[method-assign]
    rig.link.reset = count_and_reset  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        await epochs.refresh(0, 2)
    assert resets == 1
    assert epochs.known(0) == await backend.new_epoch(0) == 2


async def test_number_for_a_server_that_has_gone_is_not_installed_at_its_predecessor(rig: Rig) -> None:
    """Others have begun a later epoch there, and saved in it: puts with the earlier number would count as older."""
    (queue,), backend = partitions(rig, 1), MemoryBackend()
    epochs = Epochs([queue], backend.new_epoch, codec="json")
    await epochs.check()
    meta, asked = queue.read_meta, 0

    async def of_the_promoted_replica_first() -> PartitionMeta:
        nonlocal asked
        asked += 1
        present = await meta()
        return replace(present, identity=NOBODY) if asked == 1 else present

    async def allot_and_be_overtaken(at_least: int) -> int:
        number = await backend.new_epoch(at_least)
        if number == 2 and at_least:
            assert await backend.new_epoch(3) == 3
        return number

    queue.read_meta = of_the_promoted_replica_first  # type: ignore[method-assign]
    epochs = Epochs([queue], allot_and_be_overtaken, codec="json")
    await epochs.join()
    assert (await meta()).epoch == epochs.known(0) == 4


async def test_while_the_identity_stands_the_backend_is_not_needed(rig: Rig) -> None:
    queues, backend = partitions(rig, 1), MemoryBackend()
    await Epochs(queues, backend.new_epoch, codec="json").check()

    async def down(at_least: int) -> int:
        raise BackendUnavailable("down")

    restarted = Epochs(queues, down, codec="json")
    await restarted.refresh(0, 0)
    assert restarted.known(0) == 1


@pytest.mark.parametrize(
    ("count", "codec", "complaint"), [(2, "json", "partitions 1, not 2"), (1, "msgpack", "codec json")]
)
async def test_namespace_of_another_shape_is_refused(rig: Rig, count: int, codec: str, complaint: str) -> None:
    backend = MemoryBackend()
    await Epochs(partitions(rig, 1), backend.new_epoch, codec="json").check()
    with pytest.raises(NamespaceMismatch, match=complaint):
        await Epochs(partitions(rig, count), backend.new_epoch, codec=codec).check()


async def test_every_look_at_a_namespace_of_another_shape_is_refused(rig: Rig) -> None:
    queues, backend = partitions(rig, 1), MemoryBackend()
    await Epochs(queues, backend.new_epoch, codec="json").check()
    epochs = Epochs(queues, backend.new_epoch, codec="msgpack")

    async def ask(*, epoch: int) -> None:
        assert epoch == 0

    for look in (
        epochs.join,
        epochs.check,
        epochs.check_at_open,
        epochs.adopt,
        partial(epochs.refresh, 0, 0),
        partial(epochs.call, 0, ask),
        partial(epochs.begin_above, make_version(7, 1), allotted=1, records=[Record("a", make_version(1, 1), b"1")]),
    ):
        with pytest.raises(NamespaceMismatch, match="codec json"):
            await look()
    assert epochs.known(0) == 0


async def test_namespace_of_another_layout_is_refused(rig: Rig) -> None:
    queues, backend = partitions(rig, 1), MemoryBackend()
    await Epochs(queues, backend.new_epoch, codec="json").check()
    await rig.link.command("HSET", namespace_key("epochs"), "layout", 99)
    with pytest.raises(NamespaceMismatch, match="layout 99"):
        await Epochs(queues, backend.new_epoch, codec="json").check()


async def test_handshake_touches_no_partition_before_it_has_read_the_namespace_key(rig: Rig) -> None:
    """It may be one of another number of partitions, whose keys mustn't get an epoch."""
    await Namespace(rig.link, "epochs").enter(partitions=3, codec="json")
    backend = MemoryBackend()
    with pytest.raises(NamespaceMismatch, match="partitions 3, not 2"):
        await Epochs(partitions(rig, 2), backend.new_epoch, codec="json").check()
    assert [name for name in await rig.link.command("KEYS", "*") if b"epochs" in name] == [namespace_key("epochs")]
    assert await backend.new_epoch(0) == 0, "no epoch was allotted"


async def others_make_it_anew(rig: Rig, backend: MemoryBackend) -> None:
    """They make it with five partitions, none of which has keys in common with an only one."""
    await rig.link.command("DEL", namespace_key("epochs"), *(queue.keys.meta for queue in partitions(rig, 1)))
    await Epochs(partitions(rig, 5), backend.new_epoch, codec="json").check()
    assert not await rig.link.command("EXISTS", *(queue.keys.meta for queue in partitions(rig, 1)))


async def test_namespace_made_anew_before_an_epoch_is_installed_is_refused(rig: Rig) -> None:
    (queue,), backend = partitions(rig, 1), MemoryBackend()
    install = queue.install_epoch

    async def after_others(seen: PartitionMeta, epoch: int, *, codec: str) -> bool:
        await others_make_it_anew(rig, backend)
        queue.install_epoch = install  # type: ignore[method-assign]
        return False

    queue.install_epoch = after_others  # type: ignore[method-assign]
    epochs = Epochs([queue], backend.new_epoch, codec="json")
    with pytest.raises(NamespaceMismatch, match=r"partitions 5, not 1 .*namespace says so"):
        await epochs.check()
    assert epochs.known(0) == 0


async def test_namespace_that_another_server_has_otherwise_is_refused(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake leaves a server that is behind, for another one perhaps."""
    (queue,), backend = partitions(rig, 1), MemoryBackend()
    await Epochs([queue], backend.new_epoch, codec="json").check()
    await backend.new_epoch(5)

    async def to_another_server() -> None:
        monkeypatch.undo()
        await others_make_it_anew(rig, backend)

    monkeypatch.setattr(rig.link, "reset", to_another_server)
    epochs = Epochs([queue], backend.new_epoch, codec="json")
    with pytest.raises(NamespaceMismatch, match=r"partitions 5, not 1 .*namespace says so"):
        await epochs.check()
    assert epochs.known(0) == 0


async def test_epoch_of_a_partition_that_was_made_otherwise_is_not_learned(rig: Rig) -> None:
    """The namespace's key was read at one server, and meta at another, perhaps."""
    queues, backend = partitions(rig, 1), MemoryBackend()
    await Epochs(queues, backend.new_epoch, codec="json").check()
    await set_meta(rig, queues[0], codec="msgpack")
    epochs = Epochs(queues, backend.new_epoch, codec="json")
    with pytest.raises(NamespaceMismatch, match=r"codec msgpack, not json .*:meta says so"):
        await epochs.check()
    assert epochs.known(0) == 0


async def test_table_shared_by_two_namespaces_is_warned_of(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """They would outbid each other for ever; nothing is lost, but users have to be warned."""
    backend = MemoryBackend()
    one, two = (Epochs(partitions(rig, 1, name), backend.new_epoch, codec="json") for name in ("one", "two"))
    with caplog.at_level(logging.WARNING):
        for _ in range(7):
            await one.check()
            await two.check()
    assert "of its own" in caplog.text


async def test_change_is_told(rig: Rig) -> None:
    queues, backend = partitions(rig, 1), MemoryBackend()
    told: list[Event] = []
    epochs = Epochs(queues, backend.new_epoch, codec="json", emit=told.append)
    await epochs.check()
    assert told == []
    await set_meta(rig, queues[0], identity=NOBODY)
    await epochs.refresh(0, 1)
    assert told == [EpochChanged(0, 2)]
