"""How states and steps are told in words."""

import string
from collections.abc import Sequence
from typing import Any

from tests.proofs.model.states import DELETED, Label, is_planted


def name_of(key: int) -> str:
    return "ab"[key]


def version_text(version: int) -> str:
    """As `e1.2`; a tombstone with a cross, nothing as `-`, and what was planted as `e9.foreign`."""
    if is_planted(version):
        return f"e{version >> 8}.foreign"
    return f"e{version >> 8}.{version >> 1 & 127}{'†' if version & DELETED else ''}" if version else "-"


def versions_text(versions: Sequence[int]) -> str:
    return " ".join(f"{name_of(key)}={version_text(each)}" for key, each in enumerate(versions) if each)


def content_text(content: Sequence[int]) -> str:
    """A content or an entry, as `e1.1+e1.2`; a content that began with nothing has no version before the first plus."""
    return "+".join(version_text(version) if version else "" for version in content) or "-"


def saves_text(saves: Sequence[tuple[Any, ...]]) -> str:
    """What is saved: a content under its version, and what that was worked out from."""
    words = []
    for key, save in enumerate(saves):
        if save:
            version, based_on, content = save
            on = f" on {version_text(based_on)}" if based_on >= 0 else ""
            words.append(f"{name_of(key)}={content_text(content)} as {version_text(version)}{on}")
    return ", ".join(words)


class Words(string.Formatter):
    """Templates of steps.

    `!v` is a version, `!k` a key, `!m` a version for each key, `!c` a content, `!e` entries, `!s` saves.
    """

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion == "v":
            return version_text(value)
        if conversion == "k":
            return name_of(value)
        if conversion == "m":
            return versions_text(value) or "nothing"
        if conversion == "c":
            return content_text(value)
        if conversion == "e":
            return " ".join(map(content_text, value))
        if conversion == "s":
            return saves_text(value) or "nothing"
        return super().convert_field(value, conversion)


def tell(label: Label) -> str:
    """A step in words."""
    return Words().format(label[0], *label[1:])
