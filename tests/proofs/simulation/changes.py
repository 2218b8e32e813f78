"""What is broken in a world on purpose, so that tests can see it being found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asyncwb.errors import SaveError
from asyncwb.plugins.answers import Judge
from asyncwb.records import Record


@dataclass(frozen=True, slots=True)
class Changes:
    """What is broken on purpose, so that tests can see it being found.

    Attributes:
        scripts: by name.
        conditional: whether the backend compares versions.
        based: whether the backend applies a record that has a base only onto that.
        judged: whether the answers of the backend are judged.
    """

    scripts: Mapping[str, str] = field(default_factory=dict)
    conditional: bool = True
    based: bool = True
    judged: bool = True


class Credulous(Judge):
    """Broken: it believes whatever a save answers."""

    def saved(self, stale: object, records: Sequence[Record]) -> int:
        return 0

    def failed(self, error: SaveError, records: Sequence[Record]) -> None:
        pass
