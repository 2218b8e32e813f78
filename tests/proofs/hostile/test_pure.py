"""The fuzzing itself: it finds what is broken on purpose, gives the same inputs again, and all is well with a few."""

import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from asyncwb import ConfigurationError
from asyncwb.protocol import wire
from asyncwb.records import Record
from asyncwb.support import redaction as urls
from tests.proofs.hostile import guided, proof, pure
from tests.proofs.hostile.inputs import mutations
from tests.proofs.hostile.pure import CANARY, TARGETS, violation


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_inputs(name: str) -> None:
    target = TARGETS[name]
    for data in mutations(random.Random(name), target.seeds, 30 * target.share):
        assert violation(target.check, data) is None, data


def test_seeds_are_what_they_should_be() -> None:
    for name, target in TARGETS.items():
        assert [violation(target.check, data) for data in target.seeds] == [None] * len(target.seeds), name


def test_same_seed_gives_the_same_inputs() -> None:
    first, second = (list(mutations(random.Random(7), [b"abc"], 500)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 300


def finds(name: str) -> bool:
    target = TARGETS[name]
    return any(violation(target.check, data) for data in mutations(random.Random(1), target.seeds, 1000))


def lenient_record(key: str, packed: bytes) -> Record:
    """As it once was: any byte after a d was a tombstone."""
    if len(packed) >= 18 and packed[16:17] == b"d":
        return Record(key, int.from_bytes(packed[:8]), deleted=True)
    return wire.unpack_record(key, packed)


@pytest.mark.parametrize(
    ("name", "module", "attribute", "broken"),
    [
        ("record", pure, "unpack_record", lenient_record),
        ("key", pure, "raw_key", lambda key: key.encode("utf-8", "surrogatepass")[:1024] or b"x"),
        ("redacted", pure, "redact", lambda text: text),
        ("entry", pure, "plain", str),
        ("table", pure, "quoted", lambda name: f'"{name}"'),
        ("redacted", urls, "_CREDENTIALS", re.compile("(?<=://)[^/?#]*@")),
    ],
)
def test_broken_function_is_found(
    name: str, module: object, attribute: str, broken: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not finds(name)
    monkeypatch.setattr(module, attribute, broken)
    assert finds(name)


def test_error_of_another_kind_and_a_shown_password_are_violations() -> None:
    def crash(data: bytes) -> None:
        raise ValueError(data)

    def shown(data: bytes) -> None:
        pure._refused_quietly(lambda: (_ for _ in ()).throw(ConfigurationError(CANARY)).__next__())

    assert "ValueError" in str(violation(crash, b"x"))
    assert "password is shown" in str(violation(shown, b"x"))


def test_unit_counts_only_what_agreed(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(data: bytes) -> None:
        assert len(data) % 2, "even"

    monkeypatch.setattr(pure, "TARGETS", {"odd": replace(TARGETS["key"], check=odd)})
    monkeypatch.setattr(proof, "TARGETS", pure.TARGETS)
    report = proof.pure(0, 200)
    assert 0 < report.counts["hostile inputs"] < 200
    assert len(report.problems) == 5
    assert "again: python -m tests.proofs.unit hostile 0" in report.problems[0]


@pytest.mark.skipif(not guided.available(), reason="atheris isn't installed (it has wheels for Linux on x86-64 alone)")
def test_guided_fuzzing_counts_its_runs() -> None:
    assert guided.fuzz("key", 500, 1) == (500, "")
