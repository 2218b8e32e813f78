"""The server's clock, by which everything that is kept in Redis is timed."""

from asyncwb.redis.link import Link


async def server_seconds(link: Link) -> float:
    """The server's time in seconds since 1970, to the microsecond. Raises what `Link.command` raises."""
    seconds, micros = await link.command("TIME")
    return int(seconds) + int(micros) / 1e6
