"""What a row does to the value of its key: it replaces it, or it changes some fields of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from asyncwb.cli.ingest.rows import Key, names_of
from asyncwb.errors import ConfigurationError, InvalidValue
from asyncwb.support.plain import excerpt
from asyncwb.updates import Add, Max, Min

ModeName = Literal["set", "update", "insert", "add"]

Operator = type[Add] | type[Max] | type[Min]

OPERATORS: Final[Mapping[str, Operator]] = {"--add": Add, "--max": Max, "--min": Min}
"""Option -> what it does with the columns that it names."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What rows do.

    Attributes:
        name: "set": a row replaces the value; "insert": it gets a new key; "update": it changes the fields that it has;
            "add": it adds all of its fields but those of the key.
        key: the fields of the key; they are set.
        operators: with "update": fields that aren't set -> what is done with them instead.
        upsert: whether a value is made of a row whose key is absent or deleted.
    """

    name: ModeName = "set"
    key: tuple[str, ...] = ()
    operators: Mapping[str, Operator] = field(default_factory=dict)
    upsert: bool = True

    @classmethod
    def from_options(cls, name: ModeName, key: Key, columns: Mapping[str, Sequence[str]], *, upsert: bool) -> "Mode":
        """Makes a mode of what the user has given.

        Args:
            name: the mode's name.
            key: the columns of the key; none with "insert".
            columns: an option of `OPERATORS` -> its texts, each of them names of columns separated by commas.
            upsert: False if the user gave --no-upsert.

        Raises:
            ConfigurationError: the options contradict each other, or a text can't be parsed.
        """
        operators: dict[str, Operator] = {}
        for option, texts in columns.items():
            if texts and name != "update":
                raise ConfigurationError(f"{option} is for --mode update, and this is --mode {name}")
            for column in (column for text in texts for column in names_of(option, text)):
                if column in key.names:
                    raise ConfigurationError(f"{option} names column {excerpt(column)}, which is a part of the key")
                if column in operators:
                    raise ConfigurationError(f"column {excerpt(column)} is named twice by {', '.join(columns)}")
                operators[column] = OPERATORS[option]
        if name == "insert" and key.names:
            raise ConfigurationError("--mode insert makes a new key for each row, so leave --key out")
        if name != "insert" and not key.names:
            raise ConfigurationError("name the column of the key by --key; only --mode insert makes keys of its own")
        if not upsert and name not in ("update", "add"):
            raise ConfigurationError(f"--no-upsert is for the modes update and add, and this is --mode {name}")
        return cls(name, key.names, operators, upsert)

    @property
    def updates(self) -> bool:
        """Whether rows change values without replacing them."""
        return self.name in ("update", "add")

    @property
    def repeatable(self) -> bool:
        """Whether a row that is applied again leaves the same."""
        return self.name == "set" or (self.name == "update" and Add not in self.operators.values())

    def operator_of(self, name: str) -> Operator | None:
        """What is done with a field, None if it is set."""
        if self.name == "add":
            return None if name in self.key else Add
        return self.operators.get(name)

    def change_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The change that a row makes, as `Buffer.update` takes it; a null adds nothing and is no maximum or minimum.

        Raises:
            InvalidValue: a value isn't one that can be added or compared.
        """
        change: dict[str, Any] = {}
        for name, value in row.items():
            operator = self.operator_of(name)
            if operator is None:
                change[name] = value
            elif value is not None:
                try:
                    change[name] = operator(value)
                except InvalidValue as error:
                    raise InvalidValue(f"field {excerpt(name)}: {error}") from error
        return change
