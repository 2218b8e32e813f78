"""The folder of a filesystem backend, in blocking calls: saving, loading, garbage collection, and epochs.

Layout::

    3f/42.4294967297.json       the value of key 42, version 1·2³² + 1
    3f/43.4294967301.deleted    a tombstone
    .asyncwb/layout             how names are made; checked when the folder is opened
    .asyncwb/epoch.7            the highest epoch allotted
    .asyncwb/owner.1            the namespace that the folder belongs to; owner.2 after it was handed over, and so on
    .asyncwb/server.0.7         the Redis server that began epoch 7 of partition 0
    .asyncwb/drafts/            files that are being written
    .asyncwb/lock               see `publishing`

A value is written as a draft, synced, and published by link(2) under a name that contains its version. The file with
the highest version is the current value. No file is ever replaced, so a writer that was frozen for an hour can only
publish an older version, which is ignored; only a record that is based on a version needs a lock. Older files are
removed after the new one is published, and only while no reader may be looking for them (see `readers`).
"""

import errno
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, cast

import msgspec

from asyncwb import BackendReplaced, BackendUnavailable, ConfigurationError, Record, takes_place
from asyncwb.plugins.succession import with_server
from asyncwb.records import SEQ_BITS, CodecName
from asyncwb_backends.filesystem import disk
from asyncwb_backends.filesystem.names import DELETED, KEY, Names, Parsed, Stem
from asyncwb_backends.filesystem.readers import present, reading
from asyncwb_backends.filesystem.saving import Saving, draft_name, has_key
from asyncwb_backends.filesystem.superseded import Superseded

OWN: Final = ".asyncwb"
DRAFTS: Final = "drafts"
LAYOUT: Final = "layout"
EPOCH: Final = "epoch."
OWNER: Final = "owner."
SERVER: Final = "server."
_DRAFT_SECONDS: Final = 3600.0
_LOOK_SECONDS: Final = 2.0
"""How long `highest` searches. If a folder takes longer (with millions of files), versions that are too high are only
noticed when a save is stale."""


class Folder:
    """One folder; every method may be called in any thread, and concurrently.

    Args:
        path: the folder's path.
        names: how files are named.
        codec: the codec that is given for loaded tombstones.
        tombstone_seconds: how long tombstones are kept.
        batches: whether a batch may be synced by syncing the whole file system.
    """

    def __init__(self, path: str, names: Names, *, codec: CodecName, tombstone_seconds: float, batches: bool) -> None:
        self.path = path
        self._names = names
        self._codec = codec
        self._tombstone_seconds = tombstone_seconds
        self._batches = batches
        self._superseded = Superseded()
        self._identity = (0, 0)

    # Opening

    def prepare(self, namespace: str, former: str | None) -> None:
        """Creates the folder (not its parents), checks its layout, and records its owner.

        Raises:
            ConfigurationError: the folder was made with another layout, belongs to another namespace, or its file
                system has no locks or no hard links.
            OSError: from the file system.
        """
        with suppress(FileExistsError):
            os.mkdir(self.path)  # noqa: PTH102 - all the rest works on descriptors
            with disk.opened(os.path.dirname(self.path) or ".") as parent:  # noqa: PTH120
                disk.fsync(parent)
        layout = {"layout": 1, "fanout": self._names.fanout, "suffixes": dict(self._names.suffixes)}
        with disk.opened(self.path) as root:
            self._check_locks(root)
            disk.make_folder(OWN, root)
            with disk.opened(OWN, root) as own:
                disk.make_folder(DRAFTS, own)
                with disk.opened(DRAFTS, own) as drafts:
                    self._publish_layout(msgspec.json.encode(layout) + b"\n", drafts, own)
                    self._remove_old_drafts(drafts)
                found = msgspec.json.decode(disk.read(LAYOUT, own) or b"null")
            self._identity = disk.identity(root)
            self._superseded = Superseded()
        if found != layout:
            raise ConfigurationError(
                f"folder {self.path} was made with {found}, not {layout}: open it with that fanout and suffix"
            )
        self._claim(namespace, former)

    def _claim(self, namespace: str, former: str | None) -> None:
        """Records the owner as a file linked under the next number, so only one of several claimants succeeds."""
        with self._root() as (_, own), disk.opened(DRAFTS, own) as drafts:
            while True:
                number, owner = _owner(own)
                if not takes_place(owner, namespace, former=former, place=f"folder {self.path}"):
                    return
                if former is not None:
                    # Before the owner changes: if the process dies in between, an epoch was begun needlessly, at worst.
                    self.new_epoch(1, owner or namespace)
                if _publish(f"{OWNER}{number + 1}", namespace.encode(), drafts, own):
                    return

    def highest(self) -> int | None:
        """Returns the highest version of all files; None if there is none or it is of epoch 0, which is never allotted.

        It stops after the bucket in which `_LOOK_SECONDS` have passed.
        """
        highest, deadline = 0, time.monotonic() + _LOOK_SECONDS
        with self._root() as (root, _):
            for bucket in self._names.buckets():
                try:
                    with disk.opened(bucket or ".", root) as folder:
                        highest = self._highest(folder, highest)
                except OSError:
                    continue  # not there yet; or something is wrong with it, which a save or a load will report
                if time.monotonic() > deadline:
                    break
        return highest if highest >> SEQ_BITS else None

    def _highest(self, folder: int, highest: int) -> int:
        for parsed in map(self._names.parse, os.listdir(folder)):
            if parsed is not None and parsed.version > highest and disk.is_regular(parsed.name, folder):
                highest = parsed.version
        return highest

    def _check_locks(self, root: int) -> None:
        try:
            with reading(root):
                pass
        except OSError as error:
            raise ConfigurationError(f"folder {self.path}: its file system has no locks ({error.strerror})") from error

    def _publish_layout(self, content: bytes, drafts: int, own: int) -> None:
        try:
            _publish(LAYOUT, content, drafts, own)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise ConfigurationError(f"folder {self.path}: its file system has no hard links") from error
            raise

    # Epochs

    def new_epoch(self, at_least: int, namespace: str) -> int:
        """Allots the next epoch, `at_least` or higher; if `at_least` is 0, returns the highest that was allotted.

        Each number is a file that is created exclusively. The highest counts, and lower ones are removed. As with
        records, they are removed only while nobody lists them (see `readers`); otherwise a listing could show none.

        Raises:
            PlaceTaken: the folder belongs to another namespace.
            OSError: from the file system.
        """
        with self._root() as (_, own):
            takes_place(_owner(own)[1], namespace, former=None, place=f"folder {self.path}")
            while True:
                current = max(_epochs(own), default=0)
                if not at_least:
                    return current
                epoch = max(current + 1, at_least)
                try:
                    disk.create(f"{EPOCH}{epoch}", own, b"", sync=True)
                except FileExistsError:
                    continue
                disk.fsync(own)
                # After the listing above, another process may have allotted this number and a higher one, and then
                # removed the file of this one.
                allotted = _epochs(own)
                if max(allotted, default=0) == epoch:
                    if not present(own):
                        disk.remove([f"{EPOCH}{number}" for number in allotted if number < epoch], own)
                    return epoch

    def note_server(self, partition: int, epoch: int, server: str) -> list[tuple[int, str]]:
        """Does what a backend's `note_server` does, with a file for each server. Raises OSError."""
        prefix = f"{SERVER}{partition}."
        with self._root() as (_, own):
            noted = _servers(own, prefix)
            began = with_server(noted.items(), epoch, server)
            if (epoch, server) in began and epoch not in noted:
                with disk.opened(DRAFTS, own) as drafts:
                    _publish(f"{prefix}{epoch}", server.encode(), drafts, own)
            disk.remove([f"{prefix}{each}" for each in noted.keys() - dict(began).keys()], own)
        return began

    # Saving

    def save(self, records: Sequence[Record]) -> tuple[int, dict[str, Exception]]:
        """Saves records; returns how many were stale, and key -> reason for those that failed.

        A record counts as stale only if what supersedes it is durable.

        Raises:
            OSError: the disk has failed; any of the records may be unsaved.
        """
        batched = self._batches and disk.syncs_in_batches(len(records))
        with self._root() as (root, own), disk.opened(DRAFTS, own) as drafts:
            self._superseded.remove_waiting(root)
            saving = Saving(self._names, root, own, drafts, self._superseded, place=self.path, batched=batched)
            return saving.run(records), saving.failed

    # Loading

    def load(self, keys: Sequence[str]) -> dict[str, Record]:
        """Returns the newest record of each key that has one, tombstones included. Raises OSError."""
        buckets: dict[str, dict[str, Stem]] = defaultdict(dict)
        for key in keys:
            try:
                stem = self._names.stem(key)
            except UnicodeEncodeError:
                continue  # such a key can't have been saved
            buckets[stem.bucket][key] = stem
        found: dict[str, Record] = {}
        with self._root() as (root, _):
            for bucket, wanted in buckets.items():
                try:
                    with disk.opened(bucket or ".", root) as folder, reading(folder):
                        found.update(self._load(wanted, folder))
                except FileNotFoundError:
                    continue
        return found

    def load_durable(self, keys: Sequence[str]) -> dict[str, Record]:
        """Like `load`, but syncs the folders too: a name is visible before its folder is synced. Raises OSError."""
        found = self.load(keys)
        buckets = {self._names.stem(key).bucket for key in found}
        with self._root() as (root, _):
            if self._batches and disk.syncs_in_batches(len(buckets)):
                disk.sync_all_of(root)
                return found
            for bucket in buckets:
                with disk.opened(bucket or ".", root) as folder:
                    disk.fsync(folder)
            if buckets - {""}:
                disk.fsync(root)  # whoever created a bucket may not have synced this yet
        return found

    def _load(self, wanted: dict[str, Stem], folder: int) -> Iterator[tuple[str, Record]]:
        while wanted:
            listing = self._names.listing(folder, [stem.name for stem in wanted.values()])
            wanted, before = {}, wanted
            for key, stem in before.items():
                try:
                    record = self._newest(key, stem, listing[stem.name], folder)
                except FileNotFoundError:
                    wanted[key] = stem  # a listed file is gone, superseded or purged: list again
                else:
                    if record is not None:
                        yield key, record

    def _newest(self, key: str, stem: Stem, files: Iterable[Parsed], folder: int) -> Record | None:
        for each in files:
            if each.kind == KEY:
                continue
            content = disk.read(each.name, folder)
            if content is None:
                continue  # not one of our files: a link, a folder or a device
            if stem.hashed and not has_key(stem, each, files, folder):
                continue
            if each.kind == DELETED:
                return Record(key, each.version, codec=self._codec, deleted=True)
            return Record(key, each.version, content, codec=cast("CodecName", each.kind))
        return None

    # Collecting

    def sweep(self, buckets: Iterable[str]) -> None:
        """Removes superseded files and expired tombstones from the given buckets, and old abandoned drafts."""
        with self._root() as (root, own), disk.opened(DRAFTS, own) as drafts:
            now = _now(drafts)
            self._superseded.remove_waiting(root)
            for bucket in buckets:
                try:
                    with disk.opened(bucket or ".", root) as folder:
                        self._sweep(bucket, folder, now)
                except OSError:
                    continue  # not there yet; or something is wrong with it, which a save or a load will report
            self._remove_old_drafts(drafts)

    def _sweep(self, bucket: str, folder: int, now: float) -> None:
        with reading(folder):
            listing = self._names.listing(folder, None)
        older: list[tuple[str, list[str]]] = []
        tombstones: list[list[str]] = []
        for files in listing.values():
            newest = next((each for each in files if each.kind != KEY and disk.is_regular(each.name, folder)), None)
            if newest is None:
                continue
            older.append((newest.name, [each.name for each in files if each.version < newest.version]))
            if newest.kind == DELETED and disk.age_seconds(newest.name, folder, now) > self._tombstone_seconds:
                tombstones.append([each.name for each in files if each.version == newest.version])
        # Remove older versions first: without the tombstone, one of them would become the value again.
        if self._superseded.remove(older, bucket, folder) and tombstones:
            disk.fsync(folder)
            for names in tombstones:
                disk.remove(names, folder)

    def _remove_old_drafts(self, drafts: int) -> None:
        # This may hit a process that is merely slow: its save then fails, and is retried.
        now = _now(drafts)
        names = os.listdir(drafts)
        disk.remove([name for name in names if disk.age_seconds(name, drafts, now) > _DRAFT_SECONDS], drafts)

    # Folders

    @contextmanager
    def _root(self) -> Iterator[tuple[int, int]]:
        """Opens the folder and its `.asyncwb`; if that is missing, the folder may be an empty mount point, for example.

        Work done inside counts only if the folder is the one that was prepared, and still has its name afterwards.
        Raises BackendUnavailable, BackendReplaced.
        """
        with ExitStack() as stack:
            try:
                root = stack.enter_context(disk.opened(self.path))
                own = stack.enter_context(disk.opened(OWN, root))
            except FileNotFoundError as error:
                raise BackendUnavailable(
                    f"folder {self.path} or its {OWN} is gone: is it mounted? A buffer that opens makes them again"
                ) from error
            if disk.identity(root) != self._identity:
                raise BackendReplaced(f"folder {self.path} is not the one that was opened: it is opened anew")
            yield root, own
            if not disk.has_name(root, self.path):
                raise BackendUnavailable(f"folder {self.path} was moved, replaced or unmounted while it was used")


def _publish(name: str, content: bytes, drafts: int, own: int) -> bool:
    """Durably creates a small file unless its name is taken; returns whether it was created."""
    draft = draft_name()
    disk.create(draft, drafts, content, sync=True)
    try:
        taken = disk.publish(draft, drafts, name, own)
    finally:
        disk.remove([draft], drafts)
    disk.fsync(own)
    return taken


def _now(drafts: int) -> float:
    """Returns the time by the file system's clock, which all processes share; their own clocks may be days ahead."""
    draft = draft_name()
    disk.create(draft, drafts, b"", sync=False)
    try:
        return os.stat(draft, dir_fd=drafts, follow_symlinks=False).st_mtime
    finally:
        disk.remove([draft], drafts)


def _epochs(own: int) -> list[int]:
    with reading(own):
        names = [name.removeprefix(EPOCH) for name in os.listdir(own) if name.startswith(EPOCH)]
    return [int(number) for number in names if number.isdecimal()]


def _servers(own: int, prefix: str) -> dict[int, str]:
    """Returns epoch -> the server that began it, of the partition that `prefix` stands for."""
    found: dict[int, str] = {}
    for number in [name.removeprefix(prefix) for name in os.listdir(own) if name.startswith(prefix)]:
        with suppress(FileNotFoundError):  # another process has removed it, because there are later ones
            content = disk.read(f"{prefix}{number}", own) if number.isdecimal() else None
            if content is not None:
                found[int(number)] = content.decode("utf-8", "replace")
    return found


def _owner(own: int) -> tuple[int, str | None]:
    """Returns the number of the current owner's file and the owner's namespace; 0 and None if there is no owner."""
    numbers = (name.removeprefix(OWNER) for name in os.listdir(own) if name.startswith(OWNER))
    number = max((int(each) for each in numbers if each.isdecimal()), default=0)
    content = disk.read(f"{OWNER}{number}", own) if number else None
    return number, None if content is None else content.decode("utf-8", "replace")
