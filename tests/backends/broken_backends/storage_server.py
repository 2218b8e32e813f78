"""A small storage server for tests of outages: a process of its own, which can be stopped and frozen.

Usage: python storage_server.py PORT

It takes a JSON request a line, `[file, call, arguments]`, and answers each with a line. What it has answered is in the
file. It imports nothing that takes long.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

EMPTY = '{"owner": null, "epoch": 0, "servers": {}, "records": {}}'


def answer(file: Path, call: str, arguments: Any) -> Any:
    before = file.read_text() if file.exists() else EMPTY
    held = json.loads(before)
    result = globals()[f"do_{call}"](held, *arguments)
    if (after := json.dumps(held)) != before:
        draft = file.with_suffix(".draft")
        draft.write_text(after)
        draft.rename(file)
    return result


def do_own(held: Any, owner: str | None, new: str, more_epochs: int) -> bool:
    """Notes a new owner, if the place still belongs to the old one."""
    if held["owner"] != owner:
        return False
    held["owner"] = new
    held["epoch"] += more_epochs
    return True


def do_owner(held: Any) -> Any:
    return held["owner"]


def do_epoch(held: Any, at_least: int) -> Any:
    if at_least:
        held["epoch"] = max(held["epoch"] + 1, at_least)
    return held["epoch"]


def do_save(held: Any, records: Any) -> int:
    """Records are lists of key, version, and whatever else; returns how many were stale."""
    stale = 0
    for key, version, *rest in records:
        if held["records"].get(key, [-1])[0] >= version:
            stale += 1
        else:
            held["records"][key] = [version, *rest]
    return stale


def do_load(held: Any, keys: Any) -> Any:
    return [[key, *held["records"][key]] for key in dict.fromkeys(keys) if key in held["records"]]


def do_highest(held: Any) -> Any:
    return max((each[0] for each in held["records"].values()), default=None)


def do_servers(held: Any, partition: int, epoch: int, server: str) -> Any:
    noted = dict(held["servers"].get(str(partition), ()))
    if epoch:
        noted.setdefault(epoch, server)
        held["servers"][str(partition)] = sorted(noted.items())[-16:]
    return sorted(noted.items())[-16:]


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        file, call, arguments = json.loads(line)
        writer.write(json.dumps(answer(Path(file), call, arguments)).encode() + b"\n")
        await writer.drain()
    writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=2**26)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
