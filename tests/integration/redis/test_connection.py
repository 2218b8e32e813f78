"""RedisLink: every command is sent once, a lost reply is told from a refusal, and no password is ever shown."""

import asyncio
import contextlib
from collections.abc import Callable

import pytest
import redis.asyncio

from asyncwb.errors import ConfigurationError, OutcomeUnknown, RedisError, RedisUnavailable, UnsuitableServer
from asyncwb.events import ConnectionChanged, Event
from asyncwb.redis.connection import RedisLink
from asyncwb.redis.suitability import check_server
from asyncwb.redis.targets import is_client, target_of_client, target_of_url
from tests.harness.proxy import open_proxy
from tests.harness.servers import Server

SECRET = "hunter2"


async def test_lost_reply_is_told_from_a_command_that_was_never_sent(redis_server: Server) -> None:
    async with open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=1.0)
        fault = proxy.fault("drop reply", b"INCR")
        with pytest.raises(OutcomeUnknown):
            await link.command("INCR", "n")
        assert fault.happened == 1
        assert await link.command("GET", "n") == b"1", "nothing is sent twice"
        proxy.hide()
        await asyncio.sleep(0.05)
        with pytest.raises(RedisUnavailable):
            await link.command("INCR", "n")
        await link.close()


async def test_late_reply_is_never_read_by_the_next_command(redis_server: Server) -> None:
    async with open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=0.2)
        fault = proxy.fault("hold reply", b"ECHO")
        with pytest.raises(OutcomeUnknown, match="no answer within"):
            await link.command("ECHO", "late")
        fault.release()
        assert [await link.command("ECHO", text) for text in ("one", "two")] == [b"one", b"two"]
        await link.close()


async def test_cancelled_command_leaves_no_reply_behind(redis_server: Server) -> None:
    async with open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=5.0)
        fault = proxy.fault("hold reply", b"ECHO")
        command = asyncio.create_task(link.command("ECHO", "cancelled"))
        await fault.caught.wait()
        command.cancel()
        with pytest.raises(asyncio.CancelledError):
            await command
        fault.release()
        assert await link.command("ECHO", "next") == b"next"
        await link.close()


async def test_what_began_before_a_change_does_not_tell_of_another(redis_server: Server) -> None:
    """Replies and failures of commands that were on their way are noticed late, after the change that they show."""
    events: list[Event] = []

    def changes() -> list[bool]:
        return [event.up for event in events if isinstance(event, ConnectionChanged)]

    async with open_proxy(redis_server) as proxy:
        link = RedisLink(target_of_url(proxy.url), timeout_seconds=2.0, emit=events.append)
        answered, unanswered = proxy.fault("hold reply", b"EARLY"), proxy.fault("hold reply", b"NEVER")
        commands = [asyncio.create_task(link.command("ECHO", text)) for text in ("EARLY", "NEVER")]
        await asyncio.gather(answered.caught.wait(), unanswered.caught.wait())
        proxy.fault("drop reply", b"LOST")
        with pytest.raises(OutcomeUnknown):
            await link.command("ECHO", "LOST")
        answered.release()
        assert await commands[0] == b"EARLY"
        assert changes() == [False]
        assert await link.command("ECHO", "now") == b"now"
        assert changes() == [False, True]
        with pytest.raises(OutcomeUnknown, match="no answer within"):
            await commands[1]
        assert changes() == [False, True]
        proxy.fault("drop reply", b"LOST")
        with pytest.raises(OutcomeUnknown):
            await link.command("ECHO", "LOST")
        assert changes() == [False, True, False]
        await link.close()


async def test_end_of_a_connection_that_was_given_up_is_not_taken_for_that_of_its_successor() -> None:
    """The first one is stuck in a request that its socket doesn't accept, and ends while the second one is in use."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while request := await reader.read(4096):
            if b"BIG" in request:
                return
            if b"SLOW" in request:
                writers[0].transport.abort()
                await asyncio.sleep(0.1)
            writer.write(b"+OK\r\n" * request.count(b"*"))

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    link = RedisLink.from_url(f"redis://127.0.0.1:{port}", timeout_seconds=0.5)
    try:
        with pytest.raises(OutcomeUnknown):
            await link.command("BIG", b"x" * 30_000_000)
        assert await link.command("SLOW") == b"OK"
        assert len(writers) == 2
    finally:
        await link.close()
        listener.close()
        for writer in writers:
            writer.transport.abort()


async def test_call_that_is_closed_with_its_link_ends_with_an_error_of_asyncwb(valkey_server: Server) -> None:
    for steps in range(30):
        link = RedisLink.from_url(valkey_server.url, timeout_seconds=2.0)
        call = asyncio.create_task(link.command("PING"))
        for _ in range(steps):
            await asyncio.sleep(0)
        await link.close()
        with contextlib.suppress(RedisError):
            assert await call == b"PONG"


async def test_connections_are_used_again(redis_server: Server) -> None:
    async with open_proxy(redis_server) as proxy:
        link = RedisLink.from_url(proxy.url, timeout_seconds=5.0)
        for _ in range(20):
            await link.command("PING")
        assert proxy.connections == 1
        await link.close()


async def test_restart_between_commands_goes_unnoticed(private_server: Callable[..., Server]) -> None:
    server = private_server()
    link = RedisLink.from_url(server.url, timeout_seconds=5.0)
    await link.command("PING")
    server.restart(keep_data=False)
    await asyncio.sleep(0.05)  # the connection's end has to arrive
    assert await link.command("SET", "a", "1") == b"OK"
    await link.close()


async def test_session_that_failed_takes_its_connection_with_it(valkey_server: Server) -> None:
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5.0)
    with pytest.raises(RuntimeError):
        async with link.session() as session:
            await session.commands(("WATCH", "a"), ("MULTI",))
            raise RuntimeError
    assert await link.command("SET", "a", "1") == b"OK", "not QUEUED"
    await link.close()


async def test_server_error_is_told_with_its_text(valkey_server: Server) -> None:
    link = RedisLink.from_url(valkey_server.url, timeout_seconds=5.0)
    with pytest.raises(RedisError, match="unknown command"):
        await link.command("NONSENSE")
    assert await link.command("PING") == b"PONG"
    await link.close()


async def test_replica_is_unavailable_not_wrong(private_server: Callable[..., Server]) -> None:
    primary, replica = private_server(), private_server()
    link = RedisLink.from_url(replica.url, timeout_seconds=5.0)
    await link.command("REPLICAOF", "127.0.0.1", primary.port)
    with pytest.raises(UnsuitableServer, match="replica"):
        await check_server(link)
    with pytest.raises(RedisUnavailable):
        await link.command("SET", "a", "1")
    await link.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_server_that_evicts_is_refused(private_server: Callable[..., Server], policy: str) -> None:
    server = private_server(maxmemory_policy=policy, rename_command="CONFIG forbidden")
    link = RedisLink.from_url(server.url, timeout_seconds=5.0)
    with pytest.raises(UnsuitableServer, match=f"{policy}.*noeviction"):
        await check_server(link)
    await link.close()


async def test_cluster_node_is_refused(private_server: Callable[..., Server]) -> None:
    server = private_server(cluster_enabled="yes")
    link = RedisLink.from_url(server.url, timeout_seconds=5.0)
    with pytest.raises(UnsuitableServer, match="cluster"):
        await check_server(link)
    await link.close()


async def test_suitable_server_passes(redis_server: Server) -> None:
    link = RedisLink.from_url(redis_server.url, timeout_seconds=5.0)
    await check_server(link)
    await link.close()


async def test_wrong_password_is_told_without_it(private_server: Callable[..., Server]) -> None:
    server = private_server(requirepass="right")
    link = RedisLink.from_url(f"redis://:{SECRET}@127.0.0.1:{server.port}/0", timeout_seconds=5.0)
    with pytest.raises(RedisError, match="refused the credentials") as caught:
        await link.command("PING")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(link)
    await link.close()


async def test_password_and_database_of_the_url_are_used(private_server: Callable[..., Server]) -> None:
    server = private_server(requirepass=SECRET)
    link = RedisLink.from_url(f"valkey://:{SECRET}@127.0.0.1:{server.port}/3", timeout_seconds=5.0)
    await link.command("SET", "a", "1")
    assert b"db3:keys=1" in await link.command("INFO", "keyspace")
    await link.close()


async def test_unix_socket(valkey_server: Server) -> None:
    link = RedisLink.from_url(valkey_server.unix_url, timeout_seconds=5.0)
    assert await link.command("PING") == b"PONG"
    await link.close()


async def test_client_lends_its_address_and_is_left_alone(private_server: Callable[..., Server]) -> None:
    server = private_server(requirepass=SECRET)
    async with redis.asyncio.Redis(port=server.port, password=SECRET, db=2, decode_responses=True) as client:
        link = RedisLink(target_of_client(client), timeout_seconds=5.0)
        await link.command("SET", "a", "1")
        assert await link.command("GET", "a") == b"1"
        assert SECRET not in link.where
        await link.close()
        assert await client.get("a") == "1"


async def test_retries_of_the_client_are_not_taken_over(redis_server: Server) -> None:
    async with open_proxy(redis_server) as proxy, redis.asyncio.Redis.from_url(proxy.url) as client:
        link = RedisLink(target_of_client(client), timeout_seconds=1.0)
        fault = proxy.fault("drop reply", b"INCR", times=5)
        with pytest.raises(OutcomeUnknown):
            await link.command("INCR", "n")
        assert fault.happened == 1
        await link.close()


@pytest.mark.parametrize(
    "url", ["localhost", "http://h", f"redis://u:{SECRET}@h:port/0", f"redis://:{SECRET}@h/zero", "redis://[::1"]
)
def test_malformed_url_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Redis URL") as caught:
        RedisLink.from_url(url, timeout_seconds=1.0)
    assert SECRET not in str(caught.value)


def test_other_kinds_of_client_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="blocking"):
        is_client(redis.Redis())
    with pytest.raises(ConfigurationError, match="cluster"):
        is_client(redis.asyncio.RedisCluster(host="127.0.0.1", port=1))
    assert not is_client("redis://localhost")
