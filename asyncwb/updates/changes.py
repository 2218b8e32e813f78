"""Encodes updates of values of one type as the entries that carry them, and refuses those that can't be applied."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

from asyncwb.codecs import Codec
from asyncwb.encoding import ABSENT
from asyncwb.errors import AsyncwbError, InvalidValue
from asyncwb.records import CodecName
from asyncwb.support.plain import excerpt, plain_str
from asyncwb.updates.applying import Document
from asyncwb.updates.cells import Change, Const, of_whole
from asyncwb.updates.compiling import change_of
from asyncwb.updates.entry import Entry, pack
from asyncwb.updates.fields import AnyFields, Field, NoFields, fields_of
from asyncwb.updates.formats import FORMATS, Format, Raw
from asyncwb.updates.kinds import Unfit
from asyncwb.updates.operations import Operation, UnsetType
from asyncwb.updates.part import Part

_HOW: Final = "give default=, or upsert=False if nothing should happen then"


class Changes:
    """Encodes updates of values of one type; it looks at the type once, and each field when it is first named.

    Args:
        codec: "json" or "msgpack". Codec "bytes" has no updates.
        type: the type of the buffer's values.
        check: whether values are checked to be read back unchanged, as `Codec` does.

    Raises:
        ConfigurationError: values of this type can't be encoded and decoded.
    """

    def __init__(self, codec: CodecName, type: Any = Any, *, check: bool = True) -> None:  # noqa: A002 - as of Codec
        self._codec: Codec[Any] = Codec(codec, type, check=check)
        self._type = type
        self._parts: dict[str, Part] = {}

    def encode(self, key: str, change: object, *, default: object = ABSENT, upsert: bool = True) -> bytes:
        """Encodes an update of a key: the payload of its entry.

        Args:
            key: the key, for messages.
            change: an operation on the whole value; or a mapping from names of fields, as the type calls them in
                Python, to operations and values, which are set.
            default: the value to begin with where there is none; `ABSENT` to begin with the type's defaults.
            upsert: whether a value is made where there is none. What only removes fields never makes one.

        Raises:
            InvalidValue: such values can't take this change: an unknown field, a wrong type, a text to add to, an
                operation that may break a constraint, or a value that can't be made where there is none, …
        """
        try:
            if self._codec.name == "bytes":
                raise InvalidValue("codec 'bytes' has no updates, since nothing is known of its values; use set()")
            if default is not ABSENT and not upsert:
                raise InvalidValue(
                    "default= has no meaning with upsert=False, which makes no value; leave one of them out"
                )
            if isinstance(change, Operation):
                return self._of_value(change, default, upsert=upsert)
            if isinstance(change, UnsetType):
                raise InvalidValue("UNSET removes a field; use delete() to remove the value")
            if not isinstance(change, Mapping):
                raise InvalidValue(
                    f"a change is a mapping from names of fields, or an operation such as Add(1), not a "
                    f"{type(change).__name__}; use set() to replace the value"
                )
            return self._of_fields(_items(change), default, upsert=upsert)
        except InvalidValue as error:
            raise InvalidValue(f"update of key {key!r}: {error}") from error

    @cached_property
    def _form(self) -> Format:
        return FORMATS[self._codec.name]

    def _of_value(self, operation: Operation, default: object, *, upsert: bool) -> bytes:
        alone = _change("the value", self._value, operation)
        change = of_whole(alone)
        absent: bytes | None = None
        if default is not ABSENT:
            absent = self._begun(default, Entry(None, change))
        elif upsert:
            absent = alone.absent(self._form)
            assert absent is not None
            try:
                self._value.check(absent)
            except InvalidValue as error:
                raise InvalidValue(f"the value {error}; {_HOW}") from error
        return pack(self._form, Entry(absent, change))

    def _of_fields(self, items: list[tuple[Any, Any]], default: object, *, upsert: bool) -> bytes:
        changes: dict[str, Change] = {}
        for name, operation in items:
            encoded, part = self._part(name)
            if encoded in changes:
                raise InvalidValue(f"two of the fields are stored as {encoded!r}")
            changes[encoded] = _change(f"field {name!r}", part, operation)
        absent: bytes | None = None
        makes = upsert and any(not _removes(each) for each in changes.values())
        if default is not ABSENT:
            begun = self._begun(default, Entry(None, changes))
            absent = begun if makes else None
        elif makes:
            absent = self._made(changes)
        return pack(self._form, Entry(absent, changes))

    def _begun(self, default: object, entry: Entry) -> bytes | None:
        """What an entry makes of the default; raises InvalidValue."""
        try:
            encoded = self._codec.encode(default)
        except InvalidValue as error:
            raise InvalidValue(f"default: {error}") from error
        document = Document(self._form, encoded)
        try:
            document.apply(entry)
        except Unfit as error:
            raise InvalidValue(f"it can't be applied to default=: {error}") from error
        return document.value()

    def _made(self, changes: dict[str, Change]) -> bytes:
        """The value that changes of fields make where there is none, with the type's own defaults."""
        form = self._form
        given = {name: each.absent(form) for name, each in changes.items()}
        encoded = form.encode({name: Raw(cell) for name, cell in given.items() if cell is not None})
        if isinstance(self._fields, AnyFields):
            return encoded
        try:
            made = self._codec.encode(self._codec.decode(encoded))
        except AsyncwbError as error:
            raise InvalidValue(f"it can't make a value where there is none ({_reason(error)}); {_HOW}") from error
        removed = {name: each for name, each in changes.items() if _removes(each)}
        if not removed:
            return made
        document = Document(form, made)
        document.apply(Entry(None, removed))
        value = document.value()
        assert value is not None
        return value

    def _part(self, name: object) -> tuple[str, Part]:
        """The encoded name of a field, and the field."""
        plain = plain_str(name)
        if plain is None:
            raise InvalidValue(f"{excerpt(name)} is no name of a field; fields are named by str")
        part = self._parts.get(plain)
        if part is None:
            fields = self._fields
            if isinstance(fields, AnyFields):
                return _valid(plain), self._any_field
            field = fields.get(plain)
            if field is None:
                known = next((each for each, field in fields.items() if field.encoded == plain), None)
                hint = "" if known is None else f"; what is stored as {plain!r} is {known!r} in Python"
                raise InvalidValue(f"the type has no field {plain!r}{hint}")
            part = self._parts[plain] = Part(self._codec, field)
        return part.field.encoded, part

    @cached_property
    def _fields(self) -> Mapping[str, Field] | AnyFields:
        try:
            return fields_of(self._type)
        except NoFields as error:
            raise InvalidValue(f"{error}, so its fields can't be updated; use set()") from error

    @cached_property
    def _any_field(self) -> Part:
        assert isinstance(self._fields, AnyFields)
        return Part(self._codec, Field("", self._fields.annotation))

    @cached_property
    def _value(self) -> Part:
        return Part(self._codec, Field("", self._type, required=True))


def _items(change: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    try:
        return [(name, operation) for name, operation in change.items()]
    except Exception as error:  # the mapping is the caller's
        raise InvalidValue(f"reading the change failed: {excerpt(error)}") from error


def _change(where: str, part: Part, operation: object) -> Change:
    try:
        return change_of(part, operation)
    except InvalidValue as error:
        raise InvalidValue(f"{where} {error}") from error


def _removes(change: Change) -> bool:
    return isinstance(change, Const) and change.value is None


def _valid(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{excerpt(name)} is no name of a field: {error.reason}") from error
    return name


def _reason(error: BaseException) -> str:
    """What the library that decodes said."""
    cause = error.__cause__
    return str(error if cause is None else cause)
