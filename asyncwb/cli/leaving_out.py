"""`asyncwb dead retry --without-failed-update`: finds the update that can't be applied, and leaves it out."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from asyncwb.admin.inspector import Inspector
from asyncwb.admin.working_out import worked_out
from asyncwb.cli.closing import closing_backend
from asyncwb.cli.output import plain
from asyncwb.cli.shared import EXIT_FAULT
from asyncwb.cli.shown import update_text, versions_text
from asyncwb.protocol.messages import DeadRecord
from asyncwb.protocol.pending import Entry, PendingRecord
from asyncwb.settings import Settings


@dataclass(slots=True)
class LeftOut:
    """What became of dead letters.

    Attributes:
        updates: key -> the update that was left out, in words.
        rest: those in which no update fails, so that they can be retried as they are.
        problems: key -> why neither can be done.
    """

    updates: dict[str, str] = field(default_factory=dict)
    rest: list[DeadRecord] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


async def leave_out(
    inspector: Inspector, letters: Sequence[DeadRecord], *, backend: str, settings: Settings, yes: bool
) -> LeftOut:
    """Makes dead letters dirty again without their failed updates; of each, one update at most.

    An update is at fault if it can't be applied to what the backend holds now, as a flusher would find as well.

    Args:
        inspector: of the namespace.
        letters: the dead letters.
        backend: the backend's URL.
        settings: as in `closing_backend`.
        yes: whether to go on without asking.

    Raises:
        SystemExit: the user said no; nothing was changed.
        BackendError, RedisError, ConfigurationError: what is in the record can't be found out.
    """
    result = LeftOut()
    found = await _failed(inspector, letters, backend, settings, result)
    if not found:
        return result
    if not yes:
        for pending, entry in found:
            click.echo(f"{plain(pending.key)}  {_text(pending, entry)}", err=True)
        if not click.confirm(f"Lose {len(found)} update(s) for good?", err=True):
            raise SystemExit(EXIT_FAULT)
    for pending, entry in found:
        if await inspector.part_of(pending.key).leave_out(pending, entry):
            result.updates[pending.key] = _text(pending, entry)
        else:
            result.problems[pending.key] = "it has changed meanwhile, so nothing was done; look again"
    return result


async def _failed(
    inspector: Inspector, letters: Sequence[DeadRecord], backend: str, settings: Settings, result: LeftOut
) -> list[tuple[PendingRecord, Entry]]:
    """The updates that fail; all other letters are noted in the result."""
    found: list[tuple[PendingRecord, Entry]] = []
    async with closing_backend(backend, settings, codec=inspector.made.known_codec()) as place:
        await place.open()
        for letter in letters:
            described = await inspector.part_of(letter.key).describe(letter.key)
            if described is None or described.dead is None:
                result.problems[letter.key] = "it isn't dead any more"
                continue
            if not isinstance(described.record, PendingRecord):
                result.rest.append(letter)
                continue
            held = (await place.load_durable([letter.key])).get(letter.key)
            leads_to = worked_out(described.record, held)
            if leads_to.record is not None:
                result.rest.append(letter)
            elif leads_to.entry is not None:
                found.append((described.record, leads_to.entry))
            else:
                result.problems[letter.key] = f"{leads_to.problem}; write the key anew, or drop it"
    return found


def _text(pending: PendingRecord, entry: Entry) -> str:
    return f"{versions_text(entry)}: {update_text(entry, pending.codec)}"
