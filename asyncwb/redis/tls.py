"""Advice for error messages when a connection may have failed because of TLS."""

from typing import Final

from redis.asyncio import ConnectionPool

from asyncwb.redis.internals import uses_tls

_CERTIFICATE: Final = "?ssl_certfile=/path/to/cert.pem&ssl_keyfile=/path/to/key.pem"
_BROKEN_OFF: Final = (
    "reset", "closed", "lost", "no answer", "EOF", "WRONG_VERSION", "record layer", "CERTIFICATE_REQUIRED",
)  # fmt: skip


def advice(pool: ConnectionPool, reason: str, *, met: bool) -> str:
    """What to check when a connection can't be made; "" if TLS doesn't seem to be the cause.

    Args:
        pool: the pool that makes the connections.
        reason: the driver's message.
        met: whether the server has ever answered.
    """
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return "; name the CA of its certificate in the URL, ?ssl_ca_certs=/path/to/ca.pem"
    if met or not any(sign in reason for sign in _BROKEN_OFF):
        return ""
    if uses_tls(pool):
        return f"; does it speak TLS on this port? If it wants a client certificate, add {_CERTIFICATE} to the URL"
    return "" if "no answer" in reason else "; does it speak only TLS on this port? Then write rediss:// for redis://"
