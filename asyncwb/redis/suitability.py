"""Which servers are safe as a write buffer."""

from collections.abc import Iterator

from asyncwb.errors import UnsuitableServer
from asyncwb.redis.link import Link


async def check_server(link: Link) -> None:
    """Refuses servers that are unsafe as a write buffer.

    Raises:
        UnsuitableServer: it evicts keys, is a replica, or is a cluster node.
        RedisError: it can't be asked.
    """
    info = await server_info(link)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnsuitableServer(
            f"{link.where} has maxmemory-policy {policy}: it could evict writes that were acknowledged; "
            "set maxmemory-policy noeviction"
        )
    if info.get("role", "master") != "master":
        raise UnsuitableServer(f"{link.where} is a replica: connect to its primary")
    if info.get("cluster_enabled", "0") == "1":
        raise UnsuitableServer(f"{link.where} is a cluster node: clusters aren't supported yet")


async def server_info(link: Link) -> dict[str, str]:
    """What INFO says. Raises RedisError."""
    return dict(_fields(await link.command("INFO")))


def _fields(info: bytes) -> Iterator[tuple[str, str]]:
    for line in info.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value.strip()
