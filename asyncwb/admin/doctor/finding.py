"""One line of the doctor."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor.

    Attributes:
        check: what was looked at.
        level: "error": writes are refused, or can be lost; "warning": they can be lost by a further fault, or wait.
        text: what was found.
        advice: what to do; "" if all is well.
    """

    check: str
    level: Level
    text: str
    advice: str = ""
