"""How the answer to "flush" is shown: a picture and tables for each backend, and its lines of the figures."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.harness.places import PLACES, SQLITE, Place
from benchmarks.harness.rounds import Contestant, Label, Results, Series
from benchmarks.questions.question import Figure, Plot, at_least
from benchmarks.report.plotting import COLOURS, human, limit, panels, save, ticks, trace

METRIC: Final = "records_per_s"
_FINAL: Final = "final"
"""The stage that measures again, and more often, what is compared."""

COMMAND: Final = "uv run python -m benchmarks flush"

FAIR: Final = {
    "the article's flusher": (
        "benchmarks/baselines/article.py as the article has it, redis-py with hiredis, and SQLite with asyncwb's "
        "pragmas: one flusher, since with several its algorithm loses writes (see contention), and also the number of "
        "flushers that is fastest, which share a connection, so that one's commit covers what others have written "
        "before it"
    ),
    "the bare limit of SQLite": (
        "the same table, statement, pragmas and batches, rows made beforehand, in a plain thread of a process that "
        "does nothing else; no Redis, no event loop"
    ),
    "the bare limit of MongoDB": (
        "the same operations, made beforehand, with the same driver, majority and journaled, in bulks of the size and "
        "with the number of callers that suit it best; a collection without asyncwb's index of tombstones"
    ),
    "the bare limit of files": (
        "plain files in one folder, without versions and without looking what is there; write, fsync and rename each, "
        "in 1 to 32 threads, and also written, synced and renamed many together, of which the fastest counts"
    ),
    "the figures": (
        "what they compare is chosen among all settings, of which the fastest are also the luckiest, and then measured "
        "again, in more rounds, which alone count"
    ),
    "all of them": (
        "the same keys and values, each into a fresh table, collection or folder; what was written before the clock "
        "starts is synced before it starts"
    ),
}


def figures(results: Results) -> Sequence[Figure]:
    return [figure for place in PLACES for figure in _figures(results, place)]


def _figures(results: Results, place: Place) -> Iterator[Figure]:
    best, bare = best_settings(results, place), bare_limit(results, place)
    if best is None or bare is None:
        return

    def ratio(of: Series | None, to: Series | None, least: float, what: str) -> Iterator[Figure]:
        if of is not None and to is not None:
            pair = _final(results, of).name, _final(results, to).name
            yield from at_least(results, *pair, METRIC, least, what=what, command=COMMAND)

    if place is SQLITE:
        one, fastest = _article(results, place, flushers=1), _article(results, place)
        what = f"flush to SQLite, best settings ({_settings(best)}) : article's flusher"
        yield from ratio(best, one, 110, f"{what}, one, which is safe")
        if fastest is not one and fastest is not None:
            several = f"{fastest.labels['flushers']} that share commits, and lose writes"
            yield from ratio(best, fastest, 110, f"{what}, {several}")
        same = _same_batch(results, place, best)
        yield from ratio(best, same, 0.6, "flush : bare limit of SQLite, the same batch")
        if same is not bare:
            what = f"flush : bare limit of SQLite, its best batch ({bare.labels['batch']})"
            yield from ratio(best, bare, 0.6, what)
    else:
        yield from ratio(best, bare, 0.85, f"flush : bare limit of {place.name}")
    yield from ratio(_defaults(results, place), best, 0.85, f"defaults : best settings, flush to {place.name}")


# What is compared: chosen among all settings, and then measured again


def finalists(results: Results, place: Place) -> list[Series]:
    """What the figures compare."""
    best, bare = best_settings(results, place), bare_limit(results, place)
    if best is None or bare is None:
        return []
    chosen = [_defaults(results, place), best, _same_batch(results, place, best) if place is SQLITE else None, bare]
    chosen += [_article(results, place, flushers=1), _article(results, place)]
    return list({each.name: each for each in chosen if each is not None}.values())


def again(contestant: Contestant) -> Contestant:
    """The same, to be measured once more."""
    return replace(contestant, name=_again(contestant.name), labels={**contestant.labels, "stage": _FINAL})


def best_settings(results: Results, place: Place) -> Series | None:
    """The fastest of asyncwb's."""
    tuned = _swept(results, place, who="asyncwb")
    # Without any tuned ones, as in quick form, there is nothing to compare with.
    return _best([*tuned, *_swept(results, place, who="asyncwb, defaults")]) if tuned else None


def bare_limit(results: Results, place: Place) -> Series | None:
    """The fastest of the limits, whatever its batch."""
    return _best(_swept(results, place, who="limit"))


def _defaults(results: Results, place: Place) -> Series | None:
    return _best(_swept(results, place, who="asyncwb, defaults"))


def _same_batch(results: Results, place: Place, best: Series) -> Series | None:
    return _best(_swept(results, place, who="limit", batch=best.labels["batch"]))


def _article(results: Results, place: Place, **labels: Label) -> Series | None:
    """The fastest of the article's, with as many flushers as that takes."""
    return _best(_swept(results, place, who="article", **labels))


def _swept(results: Results, place: Place, **labels: Label) -> list[Series]:
    return [each for each in results.where(backend=place.name, **labels) if each.labels.get("stage") != _FINAL]


def _best(series: Sequence[Series]) -> Series | None:
    return max(series, key=lambda each: each.median(METRIC), default=None)


def _final(results: Results, series: Series) -> Series:
    """What was measured again, if it was."""
    return results.series.get(_again(series.name), series)


def _again(name: str) -> str:
    return f"{name}, again"


def _settings(series: Series) -> str:
    return f"{series.labels['flushers']} flushers, batches of {series.labels['batch']}"


# Pictures


def plots(results: Results, folder: Path) -> Sequence[Plot]:
    return [plot for place in PLACES for plot in _plot(results, place, folder)]


def _plot(results: Results, place: Place, folder: Path) -> Iterator[Plot]:
    best, bare = best_settings(results, place), bare_limit(results, place)
    if best is None or bare is None:
        return
    best_again, bare_again = _final(results, best), _final(results, bare)
    share = results.ratio(best_again.name, bare_again.name, METRIC).median
    tuned = _swept(results, place, who="asyncwb")
    usual_flushers = _swept(results, place, who="asyncwb, defaults")[0].labels["flushers"]
    figure, (by_flushers, by_batch) = panels(
        f"Flushing to {place.name}: {human(best_again.median(METRIC))} records a second, {share:.0%} of the bare limit",
        "flushers",
        "records per second",
        [f"over flushers, batches of {place.usual}", f"over batch size, {usual_flushers} flushers"],
        log_x=True,
    )
    by_batch.set_xlabel("records per batch")
    over_flushers = [each for each in tuned if each.labels["batch"] == place.usual]
    over_batch = [each for each in tuned if each.labels["flushers"] == usual_flushers]
    for axes, series, over in ((by_flushers, over_flushers, "flushers"), (by_batch, over_batch, "batch")):
        trace(axes, series, over, METRIC, label="asyncwb", colour=COLOURS["asyncwb"])
        measured = [float(each.labels[over]) for each in series]
        ticks(axes, [x for x in measured if over == "flushers" or not any(x / 3 < y < x for y in measured)])
    limit(by_flushers, bare_again.median(METRIC), "bare limit")
    bare_too = limits_by_batch(results, place)
    trace(by_batch, bare_too, "batch", METRIC, label="bare limit", colour=COLOURS["limit"], dashed=True)
    if (article := _article(results, place)) is not None:
        limit(by_flushers, article.median(METRIC), "the article")
    name = f"flush-{place.name.lower()}"
    save(figure, folder, name)
    yield Plot(
        name=name,
        caption=f"How many records a second get from a full Redis into {place.name}, with more flushers (left) and "
        "with larger batches (right); error bars are the lowest and the highest of all rounds. Dashed is what the "
        "backend takes where the same records are at hand already and nothing else has to be done: "
        f"{bare.labels['way']} at best.",
    )


def limits_by_batch(results: Results, place: Place) -> list[Series]:
    """The fastest limit of each batch size that asyncwb was measured with."""
    found = []
    for batch in place.counts:
        fastest = _best(_swept(results, place, who="limit", batch=batch))
        if fastest is not None:
            found.append(fastest)
    return found


# Tables


def tables(results: Results) -> str:
    return "\n\n".join(part for place in PLACES for part in _tables(results, place))


def _tables(results: Results, place: Place) -> Iterator[str]:
    bare = bare_limit(results, place)
    if bare is None:
        return
    yield f"### {place.name}"
    swept = _swept(results, place)
    rows = ["| asyncwb | records | records per second | of the bare limit |", "|---|--:|--:|--:|"]
    asyncwb = [each for each in swept if str(each.labels["who"]).startswith("asyncwb")]
    for each in asyncwb:
        who = str(each.labels["who"]).removeprefix("asyncwb").removeprefix(", ") or "inserts"
        to = _best(_swept(results, place, who="limit, updates")) if who == "updates" else bare
        share = f"{results.ratio(each.name, to.name, METRIC).median:.0%}" if to is not None else ""
        rows.append(f"| {who}: {_settings(each)} | {each.labels['records']:,} | {_shown(each)} | {share} |")
    yield "\n".join(rows)
    yield _plain_table(place, "compared with", [each for each in swept if each not in asyncwb])
    if final := results.where(backend=place.name, stage=_FINAL):
        yield _plain_table(place, f"again, {len(final[0].samples)} rounds", final)


def _plain_table(place: Place, heading: str, series: Sequence[Series]) -> str:
    rows = [f"| {heading} | records | records per second |", "|---|--:|--:|"]
    for each in series:
        name = each.name.removeprefix(f"{place.name}: ").removesuffix(_again(""))
        rows.append(f"| {name} | {each.labels['records']:,} | {_shown(each)} |")
    return "\n".join(rows)


def _shown(series: Series) -> str:
    low, high = series.spread(METRIC)
    return f"{series.median(METRIC):,.0f} ({low:,.0f} – {high:,.0f})"
