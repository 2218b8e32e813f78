"""How `asyncwb ingest` reads files: encodings, compression, delimiters, arrays, limits, keys; without any server."""

import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from asyncwb.cli.ingest.reading import Reading
from asyncwb.cli.ingest.rows import Key
from asyncwb.cli.ingest.sources import checked_encoding
from asyncwb.errors import ConfigurationError
from tests.harness.readings import Read, keys, read_files


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads files in the test's own folder."""
    monkeypatch.chdir(tmp_path)
    return read_files


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_byte_order_mark_is_no_part_of_the_first_row(read: Read, name: str) -> None:
    content = b"id\n1\n2\n" if name == "a.csv" else b'{"id": 1}\n{"id": 2}\n'
    assert keys(read({name: BOM + content})) == ["1", "2"]
    array = BOM + b'[{"id": 1},\n{"id": 2}]'
    assert keys(read({"b.json": array})) == ["1", "2"]


def test_header_that_is_not_utf8_is_told_with_what_to_do(read: Read) -> None:
    files = {"a.csv": "id,prénom\n1,Zoé\n".encode("latin-1")}
    with pytest.raises(ConfigurationError, match=r"^a.csv: the header isn't UTF-8: .* --encoding windows-1252"):
        read(files)
    for encoding in ("windows-1252", "latin-1"):
        assert read(files, encoding=encoding) == [(2, "1", {"id": "1", "prénom": "Zoé"})]


def test_bytes_of_no_encoding_spoil_their_row_alone(read: Read) -> None:
    content = b"id,v\n1,\xe9\n2,\x81\n3,c\n"
    assert keys(read({"a.csv": content})) == ["a.csv, line 2: not UTF-8", "a.csv, line 3: not UTF-8", "3"]
    found = read({"a.csv": content}, encoding="cp1252")
    assert found == [(2, "1", {"id": "1", "v": "é"}), "a.csv, line 3: not cp1252", (4, "3", {"id": "3", "v": "c"})]
    lines = b'{"id": "\xe9"}\n{"id": "\x81"}\n{"id": "c"}\n'
    assert keys(read({"a.jsonl": lines})) == ["a.jsonl, line 1: not UTF-8", "a.jsonl, line 2: not UTF-8", "c"]
    assert keys(read({"a.jsonl": lines}, encoding="cp1252")) == ["é", "a.jsonl, line 2: not cp1252", "c"]


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "shift_jis", "gb18030", "utf-8-sig"]
)
def test_encodings_of_several_bytes(read: Read, encoding: str) -> None:
    name = "名前" if encoding in ("shift_jis", "gb18030") else "näme 🙂"
    csv = f'id,{name}\r\n1,"{name}\n"\r\n2,b\r\n'.encode(encoding)
    assert read({"a.csv": csv}, encoding=checked_encoding(encoding)) == [
        (2, "1", {"id": "1", name: f"{name}\n"}), (4, "2", {"id": "2", name: "b"})
    ]  # fmt: skip
    lines = "".join(json.dumps({"id": each}, ensure_ascii=False) + "\n" for each in (name, "b")).encode(encoding)
    assert keys(read({"a.jsonl": lines}, encoding=checked_encoding(encoding))) == [name, "b"]


def test_mark_of_another_encoding_is_told(read: Read) -> None:
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(ConfigurationError, match=f"looks like {encoding.upper()}: try --encoding {encoding}$"):
            read({"a.csv": "id\n1\n".encode(encoding)})
    with pytest.raises(ConfigurationError, match=r"the header has a NUL character.*--encoding utf-16"):
        read({"a.csv": "id,ä\n1\n".encode("utf-16-le")})


@pytest.mark.parametrize("name", ["no such", "base64", "rot13", "undefined", ""])
def test_encoding_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a text encoding"):
        checked_encoding(name)


# Compression


def zstd(data: bytes) -> Any:
    if sys.version_info >= (3, 14):
        return import_module("compression.zstd").compress(data)
    return import_module("backports.zstd").compress(data)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd), (".GZ", gzip.compress)])
def test_name_tells_that_a_file_is_compressed(read: Read, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    assert keys(read({f"a.csv{suffix}": pack(b"id,v\n1,a\n")})) == ["1"]
    assert keys(read({f"a.jsonl{suffix}": pack(BOM + b'{"id": 1}\n')})) == ["1"]
    assert keys(read({f"a.tsv{suffix}": pack(b"id\tv\n1\ta\n")})) == ["1"]
    several = pack(b"id,v\n1,a\n2,") + pack(b"b\n") + pack(b"") + pack(b"3,c\n")
    assert keys(read({f"a.csv{suffix}": several})) == ["1", "2", "3"], "several members are one stream"
    (empty,) = read({f"a.csv{suffix}": b""})
    assert empty.startswith(f"a.csv{suffix}: it is empty, and its name ends in {suffix.lower()}")
    with pytest.raises(ConfigurationError, match=r"its name ends in .*, but that isn't what it holds"):
        read({f"a.csv{suffix}": b"id,v\n1,a\n"})


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_compressed_file_that_is_cut_off_gives_its_whole_rows_and_says_so(
    read: Read, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    rows = [f"{number},{number * 7919 % 10007}-{number * 104729 % 99991}" for number in range(50_000)]
    packed = pack(("id,v\n" + "\n".join(rows)).encode())
    *found, last = read({f"a.csv{suffix}": packed[: len(packed) // 2]})
    assert "data end too early: the file is cut off" in last
    assert 1000 < len(found) < 50_000
    assert [f"{key},{value['v']}" for _, key, value in found] == rows[: len(found)], "and no part of a row"
    assert "damaged" in read({f"a.csv{suffix}": packed + b"garbage that isn't compressed"})[-1]


@pytest.mark.parametrize(
    ("content", "looks"),
    [
        (gzip.compress(b"id\n1\n", mtime=0), "gzip: its name has to end in .gz, or pipe it through `gunzip -c`"),
        (zstd(b"id\n1\n"), "Zstandard: its name has to end in .zst"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00\x00", "xz"),
        (b"PK\x03\x04\x14", "a zip archive or a spreadsheet"),
        (b"PAR1\x15", "Parquet"),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_binary_files_are_told_by_what_they_look_like(read: Read, name: str, content: bytes, looks: str) -> None:
    packed = gzip.compress(content, mtime=0) if name.endswith(".gz") else content
    with pytest.raises(ConfigurationError) as caught:
        read({name: packed})
    assert f"{name} looks like {looks}" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["PAR1", "BZh", "BZh9", "PK", "B", "P"])
def test_columns_that_are_called_like_a_binary_format_are_columns(read: Read, name: str) -> None:
    assert read({"a.csv": f"{name},id\n1,2\n".encode()}) == [(2, "2", {name: "1", "id": "2"})]


def test_no_message_has_control_characters_of_the_data(read: Read) -> None:
    escape = b"\x1b[31m\x07\x9b\xc2\x9b"
    with pytest.raises(ConfigurationError) as caught:
        read({"a.csv": b"i" + escape.replace(b"\x9b\xc2", b"\xc2") + b",b\n1,2\n"})
    messages = [str(caught.value)]
    messages += keys(read({"a.jsonl": b'{"id": "' + escape + b'"}\n' + escape + b'\n{"\x1b": 1}\n{"id": "\\ud800"}\n'}))
    messages += keys(read({"a.csv": b"id,v\n" + escape + b"\n" + b'1,"a"' + escape + b"\n"}))
    with pytest.raises(ConfigurationError) as caught:
        read({"\x1b[31m.csv": b"a\n1\n"})
    messages.append(str(caught.value))
    assert len(messages) == 8
    for message in messages:
        assert message.isprintable(), ascii(message)
        assert message.isascii()


def test_zstandard_that_is_not_installed_names_the_command(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info >= (3, 14):
        pytest.skip("it is a part of Python 3.14")
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(ConfigurationError, match=r"run pip install 'asyncwb\[zstd\]'"):
        read({"a.csv.zst": zstd_header()})


def zstd_header() -> bytes:
    return b"\x28\xb5\x2f\xfd\x00"


# Long lines


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> int:
    """Makes the limit of a line's length so short that a test can exceed it."""
    longest = 64 * 1024
    for module in ("csv_rows", "json_rows", "json_array"):
        monkeypatch.setattr(sys.modules[f"asyncwb.cli.ingest.{module}"], "LONGEST", longest)
    return longest


@pytest.mark.parametrize("extra", [1, 2, 64 * 1024, 1_000_000])
def test_line_over_the_limit_is_one_malformed_line(read: Read, short: int, extra: int) -> None:
    begin, end = b'{"id": 2, "v": "', b'"}'
    longest = begin + b"x" * (short - len(begin) - len(end)) + end
    longer = begin + b"x" * (short - len(begin) - len(end) + extra) + end
    found = read({"a.jsonl": b'{"id": 1}\n' + longest + b"\n" + longer + b'\n\n{"id": 5}\noops\n' + longer})
    assert keys(found) == [
        "1", "2", "a.jsonl, line 3: longer than 64 MiB", "5",
        "a.jsonl, line 6: JSON is malformed: invalid character (byte 0)", "a.jsonl, line 7: longer than 64 MiB",
    ]  # fmt: skip
    assert found[3][0] == 5
    longest, longer = b"2," + b"x" * (short - 3) + b"\n", b"3," + b"x" * (short + extra) + b"\r\n"
    found = read({"a.csv": b"id,v\n" + longest + longer + b"\n5,a\n6\n" + longer})
    assert keys(found) == [
        "2", "a.csv, line 3: longer than 64 MiB", "5", "a.csv, line 6: 1 fields, but the header has 2",
        "a.csv, line 7: longer than 64 MiB",
    ]  # fmt: skip
    assert found[2][0] == 5


def test_quote_that_is_never_closed_takes_no_more_than_the_limit(read: Read, short: int) -> None:
    rows = b"".join(b"%d,a\n" % number for number in range(3, 30_000))
    found = read({"a.csv": b'id,v\n1,a\n2,"a\n' + rows})
    assert found[1] == "a.csv, line 3: its row is longer than 64 MiB: is a quote not closed?"
    assert all(isinstance(each, tuple) and each[0] == int(each[1]) + 1 for each in found[2:]), "line numbers stay right"
    assert len(found) > 10_000


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json"])
def test_memory_is_bounded_whatever_the_length_of_a_line(read: Read, short: int, name: str) -> None:
    line = b"1," if name == "a.csv" else b'{"id": "'
    content = {"a.csv": b"id,v\n", "a.jsonl": b"", "a.json": b"["}[name] + line + b"x" * 30_000_000
    Path(name).write_bytes(content)
    del content
    tracemalloc.start()
    try:
        (found,) = read([name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "longer than 64 MiB" in found
    assert peak < 4_000_000


# CSV


def test_delimiter_and_quotes_are_what_the_user_says(read: Read) -> None:
    assert read({"a.csv": b"id;v\n1;'a;b'\n"}, delimiter=";", quotechar="'") == [(2, "1", {"id": "1", "v": "a;b"})]
    assert read({"a.tsv": b'id\tv\n1\t"a\n'}, quotechar=None) == [(2, "1", {"id": "1", "v": '"a'})]
    assert read({"a.tsv": b"id,v\n1,a\n"}, delimiter=",") == [(2, "1", {"id": "1", "v": "a"})]


@pytest.mark.parametrize(
    ("header", "delimiter", "hint"),
    [
        (b"id;name", ",", "';'"), (b'"id";"name"', ",", "';'"), (b"id\tname", ",", "tab"), (b"id|name", ",", "'|'"),
        (b"id,name", ";", "','"), (b"ID;name", ",", "';'"),
    ],
)  # fmt: skip
def test_other_delimiter_is_recognised_in_the_header(read: Read, header: bytes, delimiter: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({"a.csv": header + b"\n1;a\n"}, delimiter=delimiter)
    assert str(caught.value).endswith(f"It looks as if it were separated by {hint}: try --delimiter {hint}")


def test_nothing_is_guessed_where_the_delimiter_is_right(read: Read) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read({"a.csv": b"key,a;b\n1,2\n"})
    assert str(caught.value) == "a.csv: no column 'id' in the header; there are 'key', 'a;b'"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.json", "a.tsv"])
def test_file_without_rows_is_fine(read: Read, name: str) -> None:
    for content in (b"", b"\n\n", BOM, b" \r\n" if name.endswith("n") else b"\r\n"):
        assert read({name: content}) == []
    assert read({"only_header.csv": b"id,v\r\n"}) == []


def test_nul_characters_are_data(read: Read) -> None:
    assert read({"a.csv": b"id,v\n1,a\0b\n"}) == [(2, "1", {"id": "1", "v": "a\0b"})]


# Several files, keys, limits


def test_files_are_read_one_after_the_other_and_messages_name_them(read: Read) -> None:
    files = {
        "a.csv": b"id,v\n1,a\n2\n", "b.csv": b"v,id\nb,1\n", "c.jsonl.gz": gzip.compress(b'{"id": 3}\nx\n', mtime=0),
        "d.json": b'[{"id": 4}]', "e.tsv": b"id\tv\n5\t1\n",
    }  # fmt: skip
    found = read(files)
    assert keys(found) == [
        "1", "a.csv, line 3: 1 fields, but the header has 2", "1", "3",
        "c.jsonl.gz, line 2: JSON is malformed: invalid character (byte 0)", "4", "5",
    ]  # fmt: skip
    assert read(files, limit=2) == found[:2]
    assert read(files, limit=4) == found[:4]


def test_every_beginning_is_looked_at_before_anything_is_read(read: Read) -> None:
    Path("a.csv").write_bytes(b"id,v\n1,a\n")
    Path("b.csv").write_bytes(b"key,v\n1,a\n")
    with pytest.raises(ConfigurationError, match=r"^b.csv: no column 'id'"):
        Reading(key=Key(("id",))).check_beginnings(["a.csv", "b.csv"])


def test_beginning_of_a_pipe_is_not_looked_at(read: Read) -> None:
    os.mkfifo("pipe.csv")
    Reading(key=Key(("id",))).check_beginnings(["pipe.csv", "-"])  # would wait for ever


def test_position_counts_bytes_on_the_disk(read: Read, tmp_path: Path) -> None:
    read({"a.csv.gz": gzip.compress(b"id\n1\n", mtime=0), "b.csv": b"id\n1\n"})
    sizes = [(tmp_path / name).stat().st_size for name in ("a.csv.gz", "b.csv")]
    positions = [chunk.position for chunk in Reading(key=Key(("id",))).chunks(["a.csv.gz", "b.csv"])]
    assert positions == [sizes[0], sum(sizes)]


def test_keys_of_several_columns_never_meet(read: Read) -> None:
    parts = ["a", "b", ":", "\\", "a:", ":a", "\\:", "a\\", ":\\:"]
    pairs = [(one, two) for one in parts for two in parts]
    content = "id,b\n" + "".join(f"{one},{two}\n" for one, two in pairs)
    found = keys(read({"a.csv": content.encode()}, key=Key.from_option("id,b")))
    assert len(set(found)) == len(pairs)
    assert found[:3] == ["a:a", "a:b", "a:\\:"]
    mixed = read({"a.jsonl": b'{"id": 1, "b": "x"}\n{"id": "", "b": 1}\n{"id": 1}\n'}, key=Key.from_option("b,id"))
    assert keys(mixed) == [
        "x:1", "a.jsonl, line 2: field 'id' is empty, and it is a part of the key", "a.jsonl, line 3: no field 'b'"
    ]  # fmt: skip


def test_key_column_whose_name_has_a_comma_is_quoted(read: Read) -> None:
    assert Key.from_option('"te,xt",id').names == ("te,xt", "id")
    assert keys(read({"a.csv": b'"te,xt",id\na,b\n'}, key=Key.from_option('"te,xt"'))) == ["a"]
    for wrong in ("", ",", "a,", "a,a", '"a'):
        with pytest.raises(ConfigurationError, match="--key"):
            Key.from_option(wrong)
