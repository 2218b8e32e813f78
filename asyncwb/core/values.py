"""Converts the values of a buffer to the bodies of records, and back."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar, cast

from asyncwb.codecs import Codec
from asyncwb.errors import AsyncwbError, DecodeError, InvalidValue, ValueTooLarge
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.protocol.body import put_prefix, update_prefix
from asyncwb.protocol.wire import OVERHEAD_BYTES, payload_of, unpack_record
from asyncwb.reading.reader import Answer
from asyncwb.settings import Settings
from asyncwb.support.outcomes import failure
from asyncwb.updates import ABSENT, Add, Changes

T = TypeVar("T")

_MOST_ADDITIONS: Final = 1000
"""How many different additions are remembered: most counters count by one."""
_NUMBERS: Final = (int, float, Decimal)


class Values(Generic[T]):
    """Encodes and decodes values, and enforces the limit of their length.

    Args:
        codec: encodes and decodes values.
        settings: uses `max_value_bytes` and `max_bytes`.
    """

    def __init__(self, codec: Codec[T], settings: Settings) -> None:
        self._codec = codec
        self._settings = settings
        self._prefix = put_prefix(codec.name)
        self._update_prefix = update_prefix(codec.name)
        self._changes = Changes(codec.name, codec.type, check=settings.check_values)
        self._most = settings.max_value_bytes
        self._limit = f"max_value_bytes={self._most}"
        self._additions: dict[tuple[object, type, str | None], bytes] = {}

    def limit(self, backend: BackendAdapter) -> None:
        """Sets the limit of a value's length: the least of the setting, what `max_bytes` allows, and the backend's."""
        self._additions.clear()
        own, bound = backend.limits.max_value_bytes, self._settings.max_bytes
        self._most = self._settings.max_value_bytes
        self._limit = f"max_value_bytes={self._most}"
        if bound is not None and bound - OVERHEAD_BYTES < self._most:
            self._most = bound - OVERHEAD_BYTES
            self._limit = f"what max_bytes={bound} can ever take"
        if own is not None and own < self._most:
            self._most = own
            self._limit = f"the limit of {own} of backend {backend.name}"

    def body(self, raw: bytes, value: T) -> bytes:
        """Returns the body of a record for a value. Raises InvalidValue, ValueTooLarge."""
        return self._prefix + self.payload(raw, value)

    def payload(self, raw: bytes, value: T) -> bytes:
        """Returns the encoded value. Raises InvalidValue, ValueTooLarge."""
        try:
            payload = self._codec.encode(value)
        except InvalidValue as error:
            raise InvalidValue(f"value of key {raw.decode()!r}: {error}") from error
        if len(payload) > self._most:
            raise ValueTooLarge(f"value of key {raw.decode()!r} has {len(payload)} bytes, over {self._limit}")
        return payload

    def update(self, raw: bytes, change: object, *, default: object, upsert: bool) -> bytes:
        """Returns the body of an update. Raises InvalidValue, ValueTooLarge."""
        entry = self._changes.encode(raw.decode(), change, default=default, upsert=upsert)
        if len(entry) > self._most:
            raise ValueTooLarge(f"update of key {raw.decode()!r} has {len(entry)} bytes, over {self._limit}")
        return self._update_prefix + entry

    def addition(self, raw: bytes, amount: object, field: str | None) -> bytes:
        """Returns the body of an update that adds a number: that of an earlier one, where it adds the same.

        Raises the same errors as `update`, and InvalidArgument for what is no number.
        """
        same = amount, type(amount), field
        body = self._additions.get(same) if type(amount) in _NUMBERS else None
        if body is None:
            operation = Add(cast("Any", amount))
            body = self.update(raw, operation if field is None else {field: operation}, default=ABSENT, upsert=True)
            if type(amount) in _NUMBERS and len(self._additions) < _MOST_ADDITIONS:
                self._additions[same] = body
        return body

    def value(self, raw: bytes, found: Answer) -> T | None:
        """Returns the value of what a read found for the key, None if there is none or it was deleted.

        Raises:
            DecodeError: it isn't a value of this codec and type.
            AsyncwbError: `found` itself, if the read failed.
        """
        payload = payload_of(found, self._prefix) if isinstance(found, bytes) else None
        if payload is None:
            record = unpack_record(raw.decode(), found) if isinstance(found, bytes) else found
            if isinstance(record, AsyncwbError):
                raise record
            if record is None or record.deleted:
                return None
            if record.codec != self._codec.name:
                raise DecodeError(
                    f"key {raw.decode()!r} was written with codec {record.codec!r}, but this buffer's codec is "
                    f"{self._codec.name!r}"
                )
            payload = record.payload
        try:
            return self._codec.decode(payload)
        except DecodeError as error:
            raise DecodeError(f"key {raw.decode()!r}: {error}") from error

    def values(self, answers: Iterable[tuple[bytes, Answer]]) -> dict[str, T]:
        """Returns the values of what a read found for several keys, by key; keys without a value are left out.

        Raises:
            PartialFailure: some keys have no value but an error, or all have errors of different kinds. It has the
                values of the others.
            AsyncwbError: the error of all keys, as `value` raises it for the first.
        """
        values: dict[str, T] = {}
        failed: dict[str, AsyncwbError] = {}
        count = 0
        for raw, found in answers:
            count += 1
            try:
                value = self.value(raw, found)
            except AsyncwbError as error:
                failed[raw.decode()] = error
            else:
                if value is not None:
                    values[raw.decode()] = value
        if failed:
            raise failure(failed, of=count, values=values)
        return values
