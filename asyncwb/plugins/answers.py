"""Checks whether a backend's answers keep the contract, `asyncwb.Backend`; no other module checks them."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TypeGuard, get_args

from asyncwb.backend import COLUMN_TYPES, Limits
from asyncwb.errors import BrokenContract, SaveError
from asyncwb.plugins.succession import Began
from asyncwb.records import MAX_EPOCH, CodecName, Record

_log: Final = logging.getLogger("asyncwb")

_MAX_VERSION: Final = 2**63 - 1
_CODECS: Final = get_args(CodecName)
_LONGEST_SHOWN: Final = 100
_MOST: Final = 2**31


class Judge:
    """Checks the answers of one backend. Every method raises BrokenContract if an answer breaks the contract.

    Args:
        name: how messages call the backend, without credentials.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: set[str] = set()

    def limits(self, limits: object) -> Limits:
        """The backend's limits, if they are valid."""
        if not isinstance(limits, Limits):
            self._broken("its limits are {}: they have to be an asyncwb.Limits", limits)
        numbers = {
            "max_batch": limits.max_batch,
            "preferred_batch": limits.preferred_batch,
            "concurrent_saves": limits.concurrent_saves,
        }
        if limits.max_value_bytes is not None:
            numbers["max_value_bytes"] = limits.max_value_bytes
        for name, value in numbers.items():
            if not _is_whole(value, 1, _MOST):
                self._broken(f"its limits have {name}={{}}: it has to be a whole number of at least 1", value)
        return limits

    def epoch(self, epoch: object, at_least: int) -> int:
        """What `new_epoch(at_least)` returned, if it is an epoch."""
        if not _is_whole(epoch, at_least, MAX_EPOCH):
            self._broken(
                "new_epoch({}) returned {}: it has to return a whole number from {} to 2**31 - 1",
                at_least,
                epoch,
                at_least,
            )
        return epoch

    def servers(self, noted: object) -> list[Began]:
        """What `note_server` returned, if it is a sequence of pairs of epoch and server, in the order of epochs."""
        began: list[Began] = []
        for each in noted if isinstance(noted, Sequence) and not isinstance(noted, str | bytes) else (None,):
            match each:
                case [epoch, str() as server] if _is_whole(epoch, 1 + (began[-1][0] if began else 0), MAX_EPOCH):
                    began.append((epoch, server))
                case _:
                    self._broken(
                        "note_server returned {}: it has to return pairs of an epoch and a server, in the order of "
                        "epochs",
                        noted,
                    )
        return began

    def saved(self, stale: object, records: Sequence[Record]) -> int:
        """What `save` returned, if it is a number of stale records."""
        if not _is_whole(stale, 0, len(records)):
            self._broken("save of {} record(s) returned {}: it has to return how many were stale", len(records), stale)
        return stale

    def failed(self, error: SaveError, records: Sequence[Record]) -> None:
        """Checks a SaveError of `save`: the other records count as saved only if all that it names are in the batch."""
        failed: object = error.failed
        if not isinstance(failed, Mapping) or not failed:
            self._broken("save raised a SaveError that names no record: nothing is known to be saved")
        keys = {record.key for record in records}
        for key, reason in failed.items():
            if not isinstance(key, str) or key not in keys:
                self._broken(
                    "save raised a SaveError for key {}, which isn't one of its records: nothing is known to be saved",
                    key,
                )
            if not isinstance(reason, BaseException):
                self._broken("save raised a SaveError with {} as a reason: it has to be an exception", reason)
        others = sum(record.key not in failed for record in records)
        if not _is_whole(error.stale, 0, others):
            self._broken(
                "save raised a SaveError with stale={}, but {} of its records did not fail", error.stale, others
            )

    def loaded(self, found: object, keys: Sequence[str]) -> dict[str, Record]:
        """What `load(keys)` returned, if it is a dict of valid records of these keys."""
        if not isinstance(found, dict):
            self._broken("load returned {}: it has to return a dict of records by their keys", found)
        asked = set(keys)
        for key, record in found.items():
            if not isinstance(key, str) or key not in asked:
                self._broken("load returned key {}, which wasn't asked for", key)
            self._record(record, key)
        return found

    def column_types(self, types: object) -> dict[str, str]:
        """What `column_types` returned, if it is a mapping from names of fields to known types."""
        if not isinstance(types, Mapping):
            self._broken("column_types returned {}: it has to return a mapping of types by names of fields", types)
        for name, type_ in types.items():
            if not isinstance(name, str) or not isinstance(type_, str) or type_.removesuffix("?") not in COLUMN_TYPES:
                self._broken(
                    f"column_types returned {{}} for field {{}}: there are {', '.join(COLUMN_TYPES)}, each with or "
                    "without a ?",
                    type_,
                    name,
                )
        return dict(types)

    def refused(self, reasons: object, records: Sequence[Record]) -> list[str | None]:
        """What `refused(records)` returned, if it is a reason or None for each record."""
        if not isinstance(reasons, Sequence) or isinstance(reasons, str | bytes) or len(reasons) != len(records):
            self._broken(
                "refused of {} record(s) returned {}: it has to return a reason or None for each", len(records), reasons
            )
        for reason in reasons:
            if reason is not None and not isinstance(reason, str):
                self._broken("refused returned {} as a reason: it has to be a str or None", reason)
        return list(reasons)

    def _record(self, record: object, key: str) -> None:
        if not isinstance(record, Record):
            self._broken("load returned {} for key {}: it has to be an asyncwb.Record", record, key)
        if record.key != key:
            self._broken("load returned the record of key {} for key {}", record.key, key)
        if not _is_whole(record.version, 0, _MAX_VERSION):
            self._broken(
                "load returned version {} for key {}: it has to be a whole number from 0 to 2**63 - 1",
                record.version,
                key,
            )
        if not isinstance(record.payload, bytes):
            self._broken("load returned {} as the payload of key {}: it has to be bytes", record.payload, key)
        if record.codec not in _CODECS:
            self._broken(f"load returned codec {{}} for key {{}}: there are {', '.join(_CODECS)}", record.codec, key)
        if record.based_on is not None:
            self._broken(
                "load returned a record of key {} with based_on: it belongs to a save, and isn't to be stored", key
            )
        if not isinstance(record.deleted, bool):
            self._broken("load returned deleted={} for key {}: it has to be True or False", record.deleted, key)

    def _broken(self, how: str, *values: object) -> NoReturn:
        text = how.format(*map(_shown, values))
        error = BrokenContract(f"backend {self._name} broke the contract of asyncwb.Backend: {text}")
        if how not in self._told:  # logged once for each kind, since the same mistake may occur in every batch
            self._told.add(how)
            _log.error(
                "%s; this is a bug in the plugin, and no record counts as saved because of such an answer", error
            )
        raise error


def _is_whole(value: object, least: int, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _shown(value: object) -> str:
    """A value for an error message, shortened; of anything but a str, a number, a bool or None, only its type."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)[:_LONGEST_SHOWN]
    if isinstance(value, str):
        return repr(value[:_LONGEST_SHOWN])
    return f"a {type(value).__name__}"
