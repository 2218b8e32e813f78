"""The result of one check of the doctor."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, which the doctor prints as one line.

    Attributes:
        check: what was checked.
        level: "error": writes are refused, or can be lost; "warning": a further fault could lose them, or they wait.
        text: what was found.
        advice: what to do; "" if all is well.
    """

    check: str
    level: Level
    text: str
    advice: str = ""
