"""TLS: a CA of one's own, client certificates, and errors that say what to do."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from asyncwb import Buffer, RedisUnavailable
from asyncwb.redis.targets import target_of_url
from asyncwb.testing import MemoryBackend
from tests.harness.commands import run, run_json
from tests.harness.servers import Server, free_port

StartServer = Callable[..., Server]


class Secure:
    """A server that speaks TLS, the CA of its certificate, and another one that it has nothing to do with."""

    def __init__(self, start: StartServer, folder: Path, *, clients: str = "no") -> None:
        self.ca, self.stranger = trustme.CA(), trustme.CA()
        self.folder = folder
        self.port = free_port()
        self._files("server", self.ca.issue_cert("localhost", "127.0.0.1"))
        self._files("client", self.ca.issue_cert("service@example.org"))
        self.ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        self.stranger.cert_pem.write_to_path(str(folder / "stranger.pem"))
        # Debian's Redis is built with TLS; the Valkey and the Redis 6.2 of the packages are not.
        self.server = start(
            "redis7", tls_port=str(self.port), tls_cert_file=f"{folder}/server.pem",
            tls_key_file=f"{folder}/server.key",
            tls_ca_cert_file=f"{folder}/ca.pem", tls_auth_clients=clients,
        )  # fmt: skip

    def _files(self, name: str, cert: trustme.LeafCert) -> None:
        cert.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
        for number, blob in enumerate(cert.cert_chain_pems):
            blob.write_to_path(str(self.folder / f"{name}.pem"), append=number > 0)

    def url(self, **options: str) -> str:
        query = "&".join(f"{name}={self.folder}/{value}" for name, value in options.items())
        return f"rediss://127.0.0.1:{self.port}/0?{query}"


@pytest.fixture
def secure(private_server: StartServer, tmp_path: Path) -> Secure:
    return Secure(private_server, tmp_path)


async def refusal(url: str, timeout: float = 5.0) -> str:
    with pytest.raises(RedisUnavailable) as caught:
        await Buffer[int](
            url, backend=MemoryBackend(), connect_timeout_seconds=0.1, redis_timeout_seconds=timeout
        ).open()
    return str(caught.value)


async def test_service_and_commands_over_tls(secure: Secure) -> None:
    memory = MemoryBackend()
    url = secure.url(ssl_ca_certs="ca.pem")
    async with Buffer[int](url, backend=memory, namespace="tls", commit="watch") as buffer:
        await buffer.set("a", 1)
        await buffer.flush("a", timeout=10)
        assert len((await run_json("status", "--redis", url, "--namespace", "tls"))["processes"]) == 1
    assert memory.values == {"a": 1}


async def test_certificate_of_another_ca_is_refused_and_told(secure: Secure) -> None:
    for url in (secure.url(ssl_ca_certs="stranger.pem"), secure.url()):
        message = await refusal(url)
        assert re.search(r"name the CA of its certificate in the URL, \?ssl_ca_certs=", message), message
    result = await run("doctor", "--redis", secure.url(ssl_ca_certs="stranger.pem"), status=1)
    assert "ssl_ca_certs" in result.output


async def test_clients_have_to_show_a_certificate(private_server: StartServer, tmp_path: Path) -> None:
    secure = await asyncio.to_thread(Secure, private_server, tmp_path, clients="yes")
    message = await refusal(secure.url(ssl_ca_certs="ca.pem"))
    assert "?ssl_certfile=" in message
    url = secure.url(ssl_ca_certs="ca.pem", ssl_certfile="client.pem", ssl_keyfile="client.key")
    async with Buffer[int](url, backend=MemoryBackend(), namespace="tls") as buffer:
        await buffer.set("a", 1)


async def test_wrong_port_is_told(secure: Secure) -> None:
    assert "does it speak TLS on this port" in await refusal(f"rediss://127.0.0.1:{secure.server.port}/0", 0.5)
    assert "write rediss:// for redis://" in await refusal(f"redis://127.0.0.1:{secure.port}/0")


def test_certificates_of_a_service_are_for_its_sentinels_as_well(tmp_path: Path) -> None:
    url = f"rediss+sentinel://:secret@h:1/wb?ssl_ca_certs={tmp_path}/ca.pem&ssl_certfile={tmp_path}/c.pem"
    target = target_of_url(url)
    assert target.sentinel is not None
    (client,) = target.sentinel.sentinels
    options = client.connection_pool.connection_kwargs
    assert options["ssl_ca_certs"] == f"{tmp_path}/ca.pem"
    assert options["ssl_certfile"] == f"{tmp_path}/c.pem"
    assert "password" not in options or options["password"] is None
