"""Applies the entries of updates to an encoded value, without knowing its type."""

from collections.abc import Sequence
from typing import Any

from asyncwb.updates.cells import changed
from asyncwb.updates.entry import Entry, MalformedEntry, format_of, parse
from asyncwb.updates.formats import Format, Raw, Unreadable
from asyncwb.updates.kinds import Unfit, shape_of


class UpdateFailed(ValueError):
    """An entry of an update can't be applied to what is there; applying it again is useless.

    Args:
        reason: why, a sentence without a full stop and without parts of the value: for a dead letter, and for an error
            of `get`.
        index: which of the entries it was, from 0.
    """

    def __init__(self, reason: str, index: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.index = index

    @property
    def sentence(self) -> str:
        """What has happened, for a dead letter and for the error of a read."""
        return f"an update can't be applied: {self.reason}"


def apply(codec: str, value: bytes | None, entries: Sequence[bytes]) -> bytes | None:
    """Applies entries to a value, one after another.

    What they don't touch stays byte for byte: numbers of any size, fields that no type knows, the order of fields. New
    fields stand behind the others. Whether the result is too long is for the caller to check.

    Args:
        codec: "json" or "msgpack", of the value and of what is in the entries.
        value: the encoded value; None if there is none.
        entries: payloads that `Changes.encode` or `fold` made.

    Returns:
        The encoded value after all of them; None if there is none.

    Raises:
        UpdateFailed: one of them can't be applied or can't be read; whatever the bytes are, nothing else is raised.
    """
    done = 0
    try:
        form = format_of(codec)
        document = Document(form, value)
        for payload in entries:
            document.apply(parse(form, payload))
            done += 1
        return document.value()
    except (Unfit, MalformedEntry) as error:
        raise UpdateFailed(str(error), done) from error


class Document:
    """An encoded value that entries are applied to; an object is decoded into its encoded fields once.

    Args:
        form: how the value is encoded.
        value: the encoded value; None if there is none.
    """

    def __init__(self, form: Format, value: bytes | None) -> None:
        self._form = form
        self._value = value
        self._fields: dict[Any, Raw] | None = None

    def value(self) -> bytes | None:
        """The encoded value as it is now; None if there is none."""
        return self._value if self._fields is None else self._form.encode(self._fields)

    def apply(self, entry: Entry) -> None:
        """Applies an entry. Raises Unfit, with a whole sentence; then this document is of no further use."""
        changes, form = entry.changes, self._form
        if self._fields is None and (self._value is None or form.is_nothing(self._value)):
            if entry.absent is not None:
                self._value = entry.absent
        elif isinstance(changes, dict):
            fields = self._object()
            for name, change in changes.items():
                cell = fields.get(name)
                try:
                    result = changed(form, change, None if cell is None else bytes(cell))
                except Unfit as error:
                    raise Unfit(f"field {name!r} {error}") from error
                if result is not None:
                    fields[name] = Raw(result)
                elif cell is not None:
                    del fields[name]
        else:
            value = self.value()
            assert value is not None
            try:
                self._value, self._fields = changes.present(form, value), None
            except Unfit as error:
                raise Unfit(f"the value {error}") from error

    def _object(self) -> dict[Any, Raw]:
        if self._fields is None:
            assert self._value is not None
            try:
                self._fields = self._form.fields(self._value)
            except Unreadable:
                shape = shape_of(self._form, self._value)
                if shape == "an object":
                    raise Unfit("the value is an object whose keys can't be read") from None
                raise Unfit(f"the value is {shape}, and only an object has fields") from None
        return self._fields
