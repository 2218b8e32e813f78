"""The contract: a storage that is stopped or frozen, and comes back."""

import asyncio
import functools
import gc
import threading
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from asyncwb.backend import Backend
from asyncwb.errors import BackendReplaced, ConfigurationError, SaveError
from asyncwb.support.foreign import call_apart
from asyncwb.testing.contract.base import NAMESPACE, ContractBase, tombstone
from asyncwb.testing.contract.lifetimes import settled
from asyncwb.testing.contract.outage import Outage
from asyncwb.testing.contract.views import view, view_of

_CUT_SECONDS: Final = 0.5
"""How long calls to a frozen storage run before they are cancelled."""
_CLEANUP_SECONDS: Final = 5.0
"""How long asyncwb waits for a call that it has cancelled."""
_CLOSE_SECONDS: Final = 10.0
_BACK_SECONDS: Final = 15.0
_PROBE_SECONDS: Final = 5.0
_SECRET: Final = "s3cr3t-0f-th3-c0ntr4ct"  # noqa: S105 - it opens nothing

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class _Outcome:
    """The outcome of one call: what it returned or raised, or that it had to be cancelled."""

    what: str
    seconds: float
    returned: Any = None
    error: Exception | None = None
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        """Whether the call ended by itself and without an error."""
        return self.error is None and not self.cancelled


class OutageContract(ContractBase):
    """Outages: what the fixture `outage` does to the storage."""

    async def test_calls_fail_while_the_storage_is_stopped(self, backend: Backend, url: str, outage: Outage) -> None:
        """No error is swallowed, and none blames the records or says that the failure is permanent."""
        await backend.save([self.put("1", 1)])
        before = {each.what: each.returned for each in await self._calls(backend, _BACK_SECONDS, reads=True)}
        async with outage.stopped():
            outcomes = await self._calls(backend, outage.fails_within_seconds)
        for each in outcomes:
            # A read that still works, from a cache for example, may return if the result is right.
            if not self._is_right(each, before.get(each.what)):
                assert not each.ended, f"{each.what} returned {each.returned!r} while the storage was stopped"
            _check_error(each, urlsplit(url).password)

    async def test_object_works_again_after_an_outage(self, backend: Backend, outage: Outage) -> None:
        """The same object works again: asyncwb calls `new_epoch(0)` until that succeeds, and then goes on with it."""
        await backend.save([self.put("1", 1)])
        async with outage.stopped():
            failed = await self._calls(backend, outage.fails_within_seconds)
        await self._works_again(backend, failed)

    async def test_restart_costs_one_call_at_most(self, backend: Backend, outage: Outage) -> None:
        """Idle connections don't survive a restart: if each of them fails a call, records are blamed for it."""
        await self._like_asyncwb(backend)  # opens as many connections as there will ever be
        async with outage.stopped():
            pass
        first = await _outcome("save", lambda: backend.save([self.put("2", 1)]), outage.fails_within_seconds)
        if isinstance(first.error, BackendReplaced):
            await self._open_again(backend)
        second = await _outcome("new_epoch(0)", lambda: backend.new_epoch(0), outage.fails_within_seconds)
        assert second.ended, f"after a restart, two calls in turn failed: {first.error!r}, and then {second.error!r}"
        await self._works_again(backend, [])

    async def test_backend_that_is_opened_in_an_outage_opens_after_it(
        self, backend: Backend, url: str, outage: Outage
    ) -> None:
        await backend.save([self.put("1", 1)])
        await backend.close()
        other = self.make_backend(url)
        try:
            async with outage.stopped():
                opening = await _outcome("open", lambda: other.open(namespace=NAMESPACE), outage.fails_within_seconds)
                closing = await _outcome("close", other.close, _CLOSE_SECONDS)
            assert not opening.ended, "open succeeded while the storage was stopped"
            assert closing.ended, f"close after a failed open: {closing}"
            _check_error(opening, urlsplit(url).password)
            await _until_it_works(lambda: self._open(other))
            assert view(await other.load(["1"])) == view_of(self.put("1", 1))
        finally:
            await other.close()

    async def test_calls_can_be_cancelled_while_the_storage_is_frozen(self, backend: Backend, outage: Outage) -> None:
        """Each ends soon after it is cancelled, and saves its record or doesn't; after that the same object works."""
        held = self.put("1", 1)
        await backend.save([held])
        async with outage.frozen():
            outcomes = await self._calls(backend, _CUT_SECONDS)
        for each in outcomes:
            assert each.seconds < _CUT_SECONDS + _CLEANUP_SECONDS, (
                f"{each.what} was cancelled after {_CUT_SECONDS:g} s, and ended after {each.seconds:.1f} s"
            )
            if each.ended and each.what == "load":
                assert view(each.returned) == view_of(held), "load while the storage was frozen"
            if each.what in ("save", "new_epoch(1)"):
                assert not each.ended, f"{each.what} returned {each.returned!r} while the storage was frozen"
        await self._works_again(backend, outcomes)
        loaded = view(await backend.load(["1"]))
        assert loaded in (view_of(held), view_of(self.put("1", 2))), "saved by a call that was cancelled"

    async def test_close_is_quick_while_the_storage_is_frozen(self, backend: Backend, url: str, outage: Outage) -> None:
        """This includes a close while a call is under way; afterwards the backend can be opened again."""
        async with self.opened(url) as idle:
            await self._like_asyncwb(idle)
            threads = set(threading.enumerate())
            async with outage.frozen():
                saving = asyncio.create_task(_outcome("save", lambda: backend.save([self.put("1", 1)]), _CUT_SECONDS))
                await asyncio.sleep(_CUT_SECONDS / 2)
                closings = await asyncio.gather(
                    _outcome("close of an idle backend", idle.close, _CLOSE_SECONDS),
                    _outcome("close with a call under way", backend.close, _CLOSE_SECONDS),
                )
                await saving
            for closing in closings:
                assert closing.error is None, f"{closing.what} raised {closing.error!r}"
                assert closing.ended, f"{closing.what} took more than {_CLOSE_SECONDS:g} s while the storage was frozen"
            await _until_it_works(lambda: self._open(backend))
            assert await backend.save([self.put("1", 2)]) == 0
            await backend.close()
            # Let threads that hung end now, rather than after their event loop, which some drivers don't survive.
            await settled(lambda: set(threading.enumerate()) - threads, _CUT_SECONDS)

    async def test_message_of_an_outage_holds_no_password(self, url: str) -> None:
        """If the URL names a host, tries a port where nobody listens, and a wrong password."""
        parts = urlsplit(url)
        if not parts.hostname:
            pytest.skip("its URL names no host, and so no password")
        for address in (f"{parts.hostname}:1", parts.netloc.rpartition("@")[2]):
            made = parts._replace(netloc=f"asyncwb:{_SECRET}@{address}")
            try:
                backend = self.make_backend(urlunsplit(made))
            except ConfigurationError:
                pytest.skip("its URL takes no password")
            try:
                opening = await _outcome("open", lambda: backend.open(namespace=NAMESPACE), _BACK_SECONDS)  # noqa: B023
            finally:
                await backend.close()
                _collect()
            assert not (address.endswith(":1") and opening.ended), "open succeeded at a port where nobody listens"
            assert not opening.cancelled, f"open took more than {_BACK_SECONDS:g} s to fail"
            _check_secret(opening, _SECRET)
            assert _SECRET not in repr(backend), "the object's repr holds the password"

    async def _open(self, backend: Backend) -> None:
        try:
            await backend.open(namespace=NAMESPACE)
        except BaseException:
            await backend.close()
            raise

    async def _open_again(self, backend: Backend) -> None:
        """Closes the backend and opens it again, as asyncwb does after BackendReplaced."""
        await backend.close()
        await self._open(backend)

    async def _calls(self, backend: Backend, seconds: float, *, reads: bool = False) -> list[_Outcome]:
        """Makes one call of each kind, concurrently; each is cancelled after `seconds`.

        With `reads`, makes only those that read records.
        """
        calls: dict[str, Call] = {"load": lambda: backend.load(["1"])}
        for name, arguments in (("load_durable", [["1"]]), ("highest_version", [])):
            if method := getattr(backend, name, None):
                calls[name] = functools.partial(method, *arguments)
        if not reads:
            calls |= {
                "save": lambda: backend.save([self.put("1", 2)]),
                "save of a tombstone": lambda: backend.save([tombstone("2", 1)]),
                "new_epoch(0)": lambda: backend.new_epoch(0),
                "new_epoch(1)": lambda: backend.new_epoch(1),
            }
            if method := getattr(backend, "note_server", None):
                calls["note_server"] = functools.partial(method, 0, 1, "0" * 40)
        return await asyncio.gather(*(_outcome(what, call, seconds) for what, call in calls.items()))

    def _is_right(self, read: _Outcome, before: Any) -> bool:
        """Whether a read returned the state before the outage, or what the concurrent save would have made of it.

        That save may have failed after its record became visible.
        """
        if not read.ended or read.returned is None:
            return False
        written = self.put("1", 2)
        if read.what in ("load", "load_durable"):
            return bool(read.returned == before) or view(read.returned) == view_of(written)
        return bool(read.returned == before or (read.what == "highest_version" and read.returned == written.version))

    async def _like_asyncwb(self, backend: Backend) -> None:
        """Makes as many concurrent calls as asyncwb does; all of them have to succeed."""
        self._seq = getattr(self, "_seq", 1000) + 1
        saves = [
            backend.save([self.put(f"busy {number}", self._seq)]) for number in range(backend.limits.concurrent_saves)
        ]
        loads = [backend.load(["busy 0", "1"]) for _ in range(8)]
        await asyncio.gather(*saves, *loads, backend.new_epoch(0))

    async def _works_again(self, backend: Backend, failed: list[_Outcome]) -> None:
        """Checks that `new_epoch(0)` succeeds within some seconds, and that everything else succeeds after that."""
        replaced = any(isinstance(each.error, BackendReplaced) for each in failed)

        async def probe() -> None:
            nonlocal replaced
            if replaced:
                await self._open_again(backend)
                replaced = False
            try:
                await backend.new_epoch(0)
            except BackendReplaced:
                replaced = True
                raise

        await _until_it_works(probe)
        for _ in range(3):
            try:
                await self._like_asyncwb(backend)
            except Exception as error:
                raise AssertionError(
                    f"the storage is back, new_epoch(0) has succeeded, and a call fails all the same: {error!r}"
                ) from error


async def _outcome(what: str, call: Call, seconds: float) -> _Outcome:
    """Makes a call with a time limit, the way asyncwb does, and returns its outcome."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(seconds) as limit:
            returned = await call_apart(call)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test judges it
        took = time.monotonic() - started
        return _Outcome(what, took, error=None if limit.expired() else error, cancelled=limit.expired())
    return _Outcome(what, time.monotonic() - started, returned=returned)


async def _until_it_works(call: Call) -> None:
    """Repeats a call until it succeeds; raises AssertionError with the last failure after `_BACK_SECONDS`."""
    deadline = time.monotonic() + _BACK_SECONDS
    while True:
        outcome = await _outcome("a call", call, _PROBE_SECONDS)
        if outcome.ended:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"the storage has been back for {_BACK_SECONDS:g} s, and still: {outcome}") from (
                outcome.error
            )
        await asyncio.sleep(0.1)


def _collect() -> None:
    """Collects garbage, without warnings: some drivers leave sockets of failed connects to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _check_error(outcome: _Outcome, password: str | None) -> None:
    error = outcome.error
    assert not isinstance(error, ConfigurationError), f"{outcome.what} says that it can never work: {error!r}"
    assert not isinstance(error, SaveError), f"{outcome.what} blames its records for an outage: {error!r}"
    if password:
        _check_secret(outcome, password)


def _check_secret(outcome: _Outcome, password: str) -> None:
    told = "".join(traceback.format_exception(outcome.error)) if outcome.error else ""
    assert password not in told, f"the password is in what {outcome.what} raised, or in its causes"
