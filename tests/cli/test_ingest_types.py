"""`asyncwb ingest`: types of CSV columns, by the user or by the table; and the check without writing."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asyncwb import Record, Settings
from asyncwb.backend import COLUMN_TYPES, Limits
from asyncwb.cli import main
from asyncwb.cli.ingest.dry_run import dry_run
from asyncwb.cli.ingest.fieldtypes import Types, types_from_option
from asyncwb.cli.ingest.reading import Reading
from asyncwb.cli.ingest.rows import Key, Row
from asyncwb.errors import ConfigurationError
from asyncwb.plugins.adapter import BackendAdapter
from asyncwb.testing import MemoryBackend
from tests.harness.servers import Server


def values(path: Path, texts: list[str], type_: str) -> list[Any]:
    """Returns the values of a column's texts, or the message for a text that can't be converted."""
    quoted = [text.replace('"', '""') for text in texts]
    path.write_text("id,v\n" + "".join(f'{number},"{text}"\n' for number, text in enumerate(quoted)))
    reading = Reading(key=Key(("id",)), types=Types(asked={"v": type_}))
    items = [item for chunk in reading.chunks([str(path)]) for item in chunk.items]
    return [item.value["v"] if isinstance(item, Row) else str(item).partition(": ")[2] for item in items]


GOOD: dict[str, list[tuple[str, Any]]] = {
    "text": [("", ""), (" a ", " a "), ("1", "1")],
    "int": [("0", 0), ("-7", -7), ("+7", 7), (" 42\t", 42), ("007", 7), ("9223372036854775807", 2**63 - 1)],
    "float": [("1", 1.0), ("-.5", -0.5), ("1e3", 1000.0), ("2.", 2.0)],
    "number": [("1", 1), ("1.0", 1.0), ("0.1", 0.1), ("12.50", 12.5), ("1e3", 1000.0)],
    "decimal": [("12.50", "12.50"), ("1", "1"), ("0." + "123456789" * 4, "0." + "123456789" * 4)],
    "bool": [("true", True), ("F", False), ("yes", True), ("No", False), ("1", True), ("0", False), ("ON", True)],
    "date": [("2026-01-31", "2026-01-31"), ("20260131", "2026-01-31")],
    "datetime": [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"), ("2026-01-31 12:00", "2026-01-31T12:00:00"),
        ("2026-01-31T12:00:00.5+02:00", "2026-01-31T12:00:00.500000+02:00"),
    ],
    "json": [("[1, null]", [1, None]), ('{"a": "b"}', {"a": "b"}), ("1.5", 1.5), ('"x"', "x"), ("null", None)],
}  # fmt: skip
BAD = {
    "int": ["x", "1.0", "1_000", "٣", "0x1", "1 2", "1" * 5000],
    "float": ["x", "nan", "inf", "1e999", "1,5", "1_0"],
    "number": ["x", "0.12345678901234567890", "nan", "1e400", "9007199254740993.0"],
    "decimal": ["x", "NaN", "Infinity", "1,5", "1_0"],
    "bool": ["maybe", "2", "tru"],
    "date": ["31.01.2026", "2026-02-30", "2026-01-31T12:00:00"],
    "datetime": ["noon", "2026-01-31T25:00:00"],
    "json": ["{", "a", "nan"],
}


def test_every_type_of_the_contract_can_be_asked_for() -> None:
    assert set(GOOD) == set(COLUMN_TYPES)
    for name in COLUMN_TYPES:
        assert types_from_option(f"a={name},b={name}?") == {"a": name, "b": f"{name}?"}


@pytest.mark.parametrize("type_", GOOD)
def test_texts_become_values_of_their_type(tmp_path: Path, type_: str) -> None:
    texts, expected = [text for text, _ in GOOD[type_]], [value for _, value in GOOD[type_]]
    found = values(tmp_path / "a.csv", texts, type_)
    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))
    if type_ != "text":
        assert values(tmp_path / "a.csv", texts, f"{type_}?") == expected


@pytest.mark.parametrize("type_", BAD)
def test_text_of_another_type_is_a_malformed_line_that_shows_it(tmp_path: Path, type_: str) -> None:
    for text, message in zip(BAD[type_], values(tmp_path / "a.csv", BAD[type_], type_), strict=True):
        assert message.startswith("field 'v' has to be ")
        assert repr(text)[:50] in message


@pytest.mark.parametrize("type_", GOOD)
def test_empty_field_is_null_only_where_that_is_asked_for(tmp_path: Path, type_: str) -> None:
    assert values(tmp_path / "a.csv", [""], f"{type_}?") == [None]
    if type_ != "text":
        (message,) = values(tmp_path / "a.csv", [""], type_)
        assert message.startswith("field 'v' is empty, but has to be ")


def test_key_of_a_typed_column_is_that_of_its_value(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,v\n007,a\n 7 ,b\n,c\n1.5,d\n")

    def keys(type_: str) -> list[str]:
        reading = Reading(key=Key(("id",)), types=Types(asked={"id": type_}))
        items = [item for chunk in reading.chunks([str(tmp_path / "a.csv")]) for item in chunk.items]
        return [item.key if isinstance(item, Row) else str(item).partition(": ")[2] for item in items]

    unfit = "field 'id' has to be a string or a whole number to be a key"
    assert keys("int?")[:3] == ["7", "7", unfit]
    assert keys("number?") == ["7", "7", unfit, unfit]
    assert keys("decimal")[3] == "1.5"


@pytest.mark.parametrize(
    ("types", "complaint"),
    [
        ("v", "write COLUMN=TYPE"), ("v=", "no type"), ("=int", "write COLUMN=TYPE"),
        ("v=integer", "there are text, int"),
        ("v=int,v=int", "names column 'v' twice"), ('"v', "can't be read"), ("v=int??", "no type 'int??'"),
    ],
)  # fmt: skip
def test_types_that_cannot_be_are_refused(types: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        types_from_option(types)
    assert complaint in str(caught.value)


def test_column_that_is_typed_has_to_be_there(tmp_path: Path) -> None:
    assert types_from_option('"a,b=int",c=d=bool') == {"a,b": "int", "c=d": "bool"}
    (tmp_path / "a.csv").write_text("id,v\n1,2\n")
    reading = Reading(key=Key(("id",)), types=Types(asked={"w": "int"}, told={"x": "int", "v": "int"}))
    with pytest.raises(ConfigurationError, match="--types names column 'w', which isn't in the header"):
        list(reading.chunks([str(tmp_path / "a.csv")]))


# The command

TABLE = (
    "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> 'bad'), price DECIMAL(10, 2), "
    "stock INT NOT NULL, ok BOOLEAN, ratio REAL, day DATE, extra JSON)"
)
COLUMNS = "id,name,price,stock,ok,ratio,day,extra"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(TABLE)
    return path


@pytest.fixture
def mapped(database: Path) -> str:
    return f"sqlite:///{database}?table=items&key=id&columns={COLUMNS}&add_version=1"


def rows(database: Path) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(f"SELECT {COLUMNS} FROM items ORDER BY id").fetchall()


def run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, ["ingest", *arguments], **options)


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., str]:
    def write(*lines: str) -> str:
        (tmp_path / "items.csv").write_text("\n".join((COLUMNS, *lines)) + "\n")
        return str(tmp_path / "items.csv")

    return write


NUT = '1,Nut,12.50,3,true,0.1,2026-01-31,"{""a"": [1]}"'


def test_csv_goes_into_columns_of_the_tables_types(
    valkey_server: Server, database: Path, mapped: str, csv: Callable[..., str]
) -> None:
    file = csv(NUT, "2,42,,0,,,,", "3,x,abc,1,,,,", "4,y,,,,,,")
    arguments = [file, "--key", "id", "--backend", mapped, "--redis", valkey_server.url, "--on-error", "skip"]
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert (
        "line 4: field 'price' has to be a number that 64 bits hold exactly for its column in the backend, not 'abc'"
        in (result.stderr)
    )
    assert "line 5: field 'stock' is empty, but has to be a whole number for its column in the backend" in result.stderr
    assert rows(database) == [
        (1, "Nut", 12.5, 3, 1, 0.1, "2026-01-31", '{"a":[1]}'),
        (2, "42", None, 0, None, None, "", None),
    ]


def test_asked_types_come_before_those_of_the_table(
    valkey_server: Server, database: Path, mapped: str, csv: Callable[..., str]
) -> None:
    file = csv("3,x,abc,1,,,,")
    result = run(
        file, "--key", "id", "--backend", mapped, "--redis", valkey_server.url, "--types", "price=text,day=date?"
    )
    assert result.exit_code == 0, result.output
    assert rows(database) == [(3, "x", "abc", 1, None, None, None, None)]


def test_types_of_json_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    result = run(str(tmp_path / "a.jsonl"), "--key", "id", "--backend", "sqlite:///a.db", "--types", "id=int")
    assert result.exit_code == 2
    assert "--types is for CSV: JSON has types of its own" in result.stderr


TOO_LARGE = "column 'stock' (INT) takes whole numbers of 64 bits, not a number too large"
DRY_KEYS = ["rows", "malformed", "refused", "distinct_keys", "backend_asked"]


def test_dry_run_tells_what_would_fail_and_writes_nothing_and_needs_no_server(
    database: Path, mapped: str, csv: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)  # where a private server would have its folder
    file = csv(NUT, "2,bad,,0,,,,", "2,good,,0,,,,", "x,x,,1,,,,", "5,y,,99999999999999999999,,,,")
    before = {each: each.read_bytes() for each in database.parent.iterdir()}
    result = run(file, "--key", "id", "--backend", mapped, "--dry-run", "--json", "--redis", "redis://127.0.0.1:1")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert list(report) == DRY_KEYS
    assert list(report.values()) == [5, 1, 2, 3, True]
    assert result.stderr.splitlines() == [
        f"{file}, line 5: field 'id' has to be a whole number for its column in the backend, not 'x'",
        f"{file}, line 3: key '2' would be refused: SQLite can't store it: CHECK constraint failed: name <> 'bad'",
        f"{file}, line 6: key '5' would be refused: {TOO_LARGE}",
    ]
    assert {each: each.read_bytes() for each in database.parent.iterdir()} == before
    result = run(csv(NUT), "--key", "id", "--backend", mapped, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "1 rows checked, 1 keys: 0 malformed, 0 that the backend would refuse; nothing was written" in result.stdout


def test_dry_run_reads_as_many_rows_as_it_is_told(mapped: str, csv: Callable[..., str]) -> None:
    file = csv(*(f"{number},x,,1,,,," for number in range(1500)))
    for limit, rows in (([], 1000), (["--limit", "1500"], 1500), (["--limit", "3"], 3)):
        result = run(file, "--key", "id", "--backend", mapped, "--dry-run", "--json", *limit)
        assert json.loads(result.stdout)["rows"] == rows


def test_dry_run_says_where_the_backend_cannot_be_asked(tmp_path: Path, csv: Callable[..., str]) -> None:
    result = run(csv(NUT), "--key", "id", "--backend", f"file://{tmp_path}/files", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "whether the backend would refuse any is unknown, since it can't be asked" in result.stdout
    assert not (tmp_path / "files").exists()


def test_dry_run_finds_values_over_the_backends_limit(
    tmp_path: Path, csv: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = csv("1," + "x" * (17 * 2**20) + ",,,,,,", NUT)
    result = run(file, "--key", "id", "--backend", f"sqlite:///{tmp_path}/a.db", "--dry-run", "--json")
    assert result.exit_code == 1, result.output[:1000]
    assert json.loads(result.stdout)["malformed"] == 1
    assert "line 2: value of key '1' has 17825" in result.stderr
    assert not (tmp_path / "a.db").exists()


class Closed(MemoryBackend):
    """A backend that isn't open, so its limits can't be read."""

    @property
    def limits(self) -> Limits:
        raise OSError("it isn't open")

    @limits.setter
    def limits(self, limits: Limits) -> None:
        pass

    async def refused(self, records: Sequence[Record], *, namespace: str) -> list[str | None]:
        return ["no" if record.value["name"] == "bad" else None for record in records]


async def test_dry_run_asks_a_plugin_that_knows_no_limits_before_it_is_open(
    csv: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    backend = BackendAdapter(
        Closed(), name="closed://", namespace="ns", connect_timeout_seconds=5, save_timeout_seconds=5
    )
    reading = Reading(key=Key(("id",)))
    with pytest.raises(SystemExit):
        await dry_run(backend, [csv(NUT, "2,bad,,0,,,,")], reading, Settings(), as_json=False)
    assert "line 3: key '2' would be refused: no\n" in capsys.readouterr().err


def test_dry_run_tells_a_place_of_another_namespace(
    valkey_server: Server, mapped: str, csv: Callable[..., str]
) -> None:
    file = csv(NUT)
    arguments = [file, "--key", "id", "--backend", mapped]
    assert run(*arguments, "--redis", valkey_server.url, "--namespace", "theirs").exit_code == 0
    result = run(*arguments, "--namespace", "mine", "--dry-run")
    assert result.exit_code == 2
    assert "'theirs'" in result.stderr
