"""Options of URLs are typed, and a mistake in one is explained without showing a secret."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import pytest

from asyncwb import ConfigurationError
from asyncwb.plugins import parse_options, take_options
from asyncwb.support.redaction import redact


@dataclass(frozen=True)
class Options:
    table: str | None = None
    fanout: Literal[0, 1, 2, 3] = 2
    sync: Literal["batch", "file"] = "batch"
    add: bool = False
    tombstone_seconds: float = 86_400
    size: int = 1
    most: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    shift: Annotated[float, msgspec.Meta(ge=-10)] = 0.0
    password: str = ""
    secret_number: int = 0


@dataclass
class Required:
    path: str


def shown(error: BaseException) -> str:
    """Returns what a traceback would show of an error and of its causes."""
    return f"{error!r} {error.__cause__!r} {error.__context__!r}"


def test_options_that_are_not_given_have_their_defaults() -> None:
    assert parse_options("notes:///data", Options) == parse_options("notes:///data?", Options) == Options()


def test_options_are_converted_to_their_types() -> None:
    url = "notes:///data?table=a%20b+c&fanout=0&sync=file&add=1&tombstone_seconds=1.5&size=7&most=10&shift=-10"
    assert parse_options(url, Options) == Options("a b c", 0, "file", True, 1.5, 7, 10, -10.0)
    assert parse_options("notes:x?add=false&table=#part", Options) == Options(table="")


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("tabel=x", r"unknown option 'tabel'; there are table, fanout, .*, secret_number\. Did you mean 'table'\?$"),
        ("unrelated=x", "unknown option 'unrelated'; there are table, .*, secret_number$"),
        ("table=a&table=b", "option 'table' is given twice"),
        ("fanout=4", "fanout=4: use 0, 1, 2 or 3$"),
        ("sync=never", "sync=never: use batch or file$"),
        ("add=maybe", "add=maybe: use 0 or 1$"),
        ("tombstone_seconds=soon", "tombstone_seconds=soon: use a number of seconds, 0 or more$"),
        ("tombstone_seconds=-1", "tombstone_seconds=-1: use a number of seconds, 0 or more$"),
        ("tombstone_seconds=nan", "use a number of seconds"),
        ("tombstone_seconds=inf", "use a number of seconds"),
        ("tombstone_seconds=1e30", "use a number of seconds"),
        ("size=1.5", "size=1.5: use a whole number, 0 or more$"),
        ("size", "size=: use a whole number"),
        ("size=99999999999999999999", "use a whole number"),
        ("most=0", "most=0: use a whole number from 1 to 10$"),
        ("shift=-11", "shift=-11: use a number, -10 or more$"),
        ("shift=inf", "shift=inf: use a number, -10 or more$"),
        ("size=" + "x" * 1000, r"x…: use a whole number"),
    ],
)
def test_mistake_is_explained(query: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        parse_options(f"notes://ada:hunter2@host/data?{query}", Options)
    assert str(caught.value).startswith("notes URL: ")
    assert len(str(caught.value)) < 200
    assert "hunter2" not in shown(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "notes://ada:hunt?er2&hunter2@host/data",
        "notes://host/data?password=x&size=hunter2@host",
        "notes://host/data?token=hunter2",
        "notes://host/data?size=x&password=hunter2",
        "notes://host/data?secret_number=hunter2",
        "ada:hunter2@host?size=x",
    ],
)
def test_no_secret_is_in_a_message(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_options(url, Options)
    errors: list[BaseException] = [caught.value]
    try:
        take_options(url, Options)  # unknown options are the driver's
    except ConfigurationError as error:
        errors.append(error)
    assert "hunt" not in " ".join(map(shown, errors))
    assert "ada" not in " ".join(map(shown, errors))


def locals_of(error: BaseException) -> str:
    """The traceback with the locals of all frames but the test's, as a crash reporter would show it."""
    assert error.__traceback__ is not None
    frames = [*traceback.walk_tb(error.__traceback__.tb_next)]
    assert frames
    return "\n".join(traceback.StackSummary.extract(frames, capture_locals=True).format())


@pytest.mark.parametrize("read", [parse_options, take_options])
@pytest.mark.parametrize(
    "query",
    [
        "token=hunter2&password=hunter2&size=x",
        "password=hunter2&secret_number=hunter2",
        "password=hunter2&sync=hunter2",
        "token=hunter2&password=hunter2&table=a&table=hunter2",
        "token=hunter2&password=hunter2@",
    ],
)
def test_no_secret_is_in_the_locals_of_a_traceback(read: Callable[..., object], query: str) -> None:
    url = f"notes://ada:hunter2@host/data?{query}"
    with pytest.raises(ConfigurationError) as caught:
        read(url, Options)
    shown = locals_of(caught.value)
    assert "problem = " in shown
    assert "hunter2" not in shown.replace("sync=hunter2: use batch or file", "")


def test_no_secret_is_in_the_locals_of_a_traceback_about_unknown_or_missing_options() -> None:
    with pytest.raises(ConfigurationError, match="unknown option 'token'") as caught:
        parse_options("notes://ada:hunter2@host/data?token=hunter2&password=hunter2", Options)
    assert "hunter2" not in locals_of(caught.value)
    for read in (parse_options, take_options):
        with pytest.raises(ConfigurationError, match="'path' is missing") as caught:
            read("notes://ada:hunter2@host/data?token=hunter2", Required)
        assert "hunter2" not in locals_of(caught.value)


def test_secrets_of_a_url_are_hidden_from_then_on() -> None:
    parse_options("notes://ada:Xyzzy-7@host/data?password=Plugh-42", Options)
    take_options("notes://ada:Xyzzy-8@host/data?token=Plugh-43", Options)
    assert redact("Xyzzy-7 Plugh-42 Xyzzy-8 Plugh-43 Xyzzy-9") == "*** *** *** *** Xyzzy-9"


def test_option_without_a_default_is_required() -> None:
    assert parse_options("notes:?path=x", Required) == Required("x")
    with pytest.raises(ConfigurationError, match="notes URL: option 'path' is missing"):
        parse_options("notes:", Required)
    with pytest.raises(ConfigurationError, match=r"unknown option 'pat'; there are path\. Did you mean 'path'\?"):
        parse_options("notes:?path=x&pat=y", Required)


def test_driver_gets_the_url_without_our_options_and_all_others_as_they_stand() -> None:
    url = "db://ada:p%40ss@h1:1,[::1]:2/app?tags=a:b&table=t&tags=c+d&ssl&size=3#x"
    assert take_options(url.replace("size=3#x", "size=3"), Options) == (
        Options(table="t", size=3),
        "db://ada:p%40ss@h1:1,[::1]:2/app?tags=a:b&tags=c+d&ssl",
    )
    assert take_options("db://h/app?table=t", Options) == (Options(table="t"), "db://h/app")
    assert take_options("db://h/app", Options) == (Options(), "db://h/app")
    with pytest.raises(ConfigurationError, match="size=x: use a whole number"):
        take_options("db://h/app?size=x", Options)
