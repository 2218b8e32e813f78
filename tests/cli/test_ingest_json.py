"""How `asyncwb ingest` reads JSON: the elements of an array are what they would be on lines of their own."""

import io
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncwb.cli.ingest.json_array import BrokenArray, elements
from tests.harness.readings import Read, read_files


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads files in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return read_files


def test_array_is_read_like_lines(read: Read) -> None:
    values = [
        {"id": 1, "text": 'brackets ]}[{, "quotes" and \\ backslashes'}, {"id": "ä", "deep": [[{"a": [{}, []]}], "}"]},
        {"id": 3, "number": -1.5e300, "null": None}, {"id": 4, "x": "\\"}, {"id": 5, "x": 'a\\"}'},
    ]  # fmt: skip
    for indent in (None, 2):
        for ascii_ in (True, False):
            text = json.dumps(values, indent=indent, ensure_ascii=ascii_).encode()
            assert [value for _, _, value in read({"a.json": text})] == values
            assert [value for _, _, value in read({"a.jsonl": b" \n" + text + b"\n \t"})] == values


def test_elements_that_are_no_rows_are_malformed_alone_with_their_lines(read: Read) -> None:
    text = b'\n[\n  {"id": 1},\n  [{"id": 2}],\n  3, "four", null\n  ,{"id": },\n{"x": 7},\n'
    text += b'\n{"id": "\xff"}, {"id": 9}\n]\n'
    expected = "a JSON object expected"
    assert read({"a.json": text}) == [
        (3, "1", {"id": 1}), f"a.json, line 4: {expected}", *[f"a.json, line 5: {expected}"] * 3,
        "a.json, line 6: JSON is malformed: invalid character (byte 7)", "a.json, line 7: no field 'id'",
        "a.json, line 9: not UTF-8", (9, "9", {"id": 9}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (b"", "isn't closed"), (b",", "isn't closed"), (b',{"id":', "isn't closed"), (b',"ab', "isn't closed"),
        (b",[1,2", "isn't closed"), (b",1", "isn't closed"), (b"] x", "more after the end"),
        (b"][", "more after the end"), (b' {"id":2}]', "a comma or the end of the array expected"),
        (b"}]", "a comma or the end of the array expected"), (b",]", "a comma before the end"),
        (b",,]", "an element expected"), (b":1]", "a comma or the end"),
    ],
)  # fmt: skip
def test_array_that_is_broken_ends_there_with_a_malformed_line(read: Read, after: bytes, why: str) -> None:
    first, *_, last = read({"a.json": b'[\n{"id":1}\n' + after})
    assert first == (2, "1", {"id": 1})
    assert last.startswith("a.json, line 3: ")
    assert why in last


def test_array_that_comes_in_pieces(read: Read, tmp_path: Path) -> None:
    values = [{"id": number, "x": "]}" * number, "y": [{"z": "\\" * number}] * (number % 3)} for number in range(60)]
    text = json.dumps(values).encode()
    for size in (1, 7, 1000):
        os.mkfifo(tmp_path / "a.json")

        def write(size: int = size) -> None:
            with io.FileIO(tmp_path / "a.json", "w") as pipe:
                for start in range(0, len(text), size):
                    pipe.write(text[start : start + size])

        writer = threading.Thread(target=write)
        writer.start()
        found = read(["a.json"])
        writer.join()
        assert [value for _, _, value in found] == values
        (tmp_path / "a.json").unlink()


class Pieces(io.RawIOBase):
    """A stream that returns only a given number of bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = data, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece, self._data = self._data[: self._size], self._data[self._size :]
        buffer[: len(piece)] = piece
        return len(piece)


def split(data: bytes, size: int) -> list[tuple[int, bytes]]:
    return list(elements(io.BufferedReader(Pieces(data, size)), line=1))


TEXTS = st.text(st.sampled_from('ab"\\{}[],: \n\tä🙂')) | st.text()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(
    values=st.lists(VALUES, max_size=6),
    indent=st.sampled_from([None, 0, 3]),
    plain=st.booleans(),
    size=st.integers(1, 40),
)
def test_array_has_the_elements_that_json_says(values: list[Any], indent: int | None, plain: bool, size: int) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=plain)
    found = split(text.encode()[1:], size)
    assert [json.loads(element.decode()) for _, element in found] == values
    for line, element in found:
        assert element.decode().split("\n")[0] in text.split("\n")[line - 1]


@settings(deadline=None)
@given(data=st.text(st.sampled_from('{}[]",:\\ \n1a')).map(str.encode), size=st.integers(1, 9))
@example(data=b"{[}1", size=1)
@example(data=b"{][},", size=1)
@example(data=b'{"[":]}1', size=1)
def test_whatever_comes_is_split_or_refused_in_the_same_way_however_it_comes(data: bytes, size: int) -> None:
    def outcome(size: int) -> Any:
        try:
            return split(data, size)
        except BrokenArray as error:
            return error.line, str(error)

    assert outcome(size) == outcome(1000)


def test_long_strings_and_deep_nesting_end_where_they_end() -> None:
    string = b'"' + b"\\" * 3_000_000 + b'"'
    braces = b'{"a":"' + b"}{" * 1_500_000 + b'"}'
    deep = b"[" * 300_000 + b"]" * 300_000
    for nasty in (string, braces, deep):
        assert split(nasty + b"]", 100_000) == [(1, nasty)]
