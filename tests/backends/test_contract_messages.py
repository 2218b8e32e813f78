"""What the contract says when a test of it fails or is skipped: where, which, and how much."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

TELLING = Path(__file__).with_name("broken_backends") / "telling.py"
SAVED = "test_older_version_is_stale_and_not_applied"
CHILD = "test_two_processes_save_the_same_keys"
FROZEN = "test_process_frozen_inside_save_cannot_undo_a_newer_one"
SKIPPED = ("test_poison_fails_alone", "test_save_error_names_records_of_its_batch",
           "test_what_is_loaded_durably_is_what_is_loaded", "test_calls_fail_while_the_storage_is_stopped",
           "test_tombstone_is_purged_when_its_time_is_over", "test_message_of_an_outage_holds_no_password")  # fmt: skip
LINES = dict(enumerate(TELLING.read_text().splitlines(), 1))


def line(text: str) -> int:
    (number,) = (number for number, content in LINES.items() if text in content)
    return number


def run(*nodes: str, folder: Path) -> dict[str, str]:
    """Class -> what pytest says of its only test."""
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}"]
    subprocess.run(
        [*command, *(f"{TELLING}::{node}" for node in nodes)],
        capture_output=True, text=True, timeout=90, check=False, cwd=TELLING.parents[3],
    )  # fmt: skip
    told: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        name = case.attrib["classname"].rpartition(".")[2]
        key = name if name not in told else f"{name} {case.attrib['name']}"
        told[key] = "\n".join((each.get("message") or "") + "\n" + (each.text or "") for each in case)
    return told


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    nodes = [
        *(f"{name}::{SAVED}" for name in ("TestHangs", "TestBlocks", "TestHangsInAThread", "TestNever")),
        *(f"{name}::{SAVED}" for name in ("TestCountsWrong", "TestGivesTheWrongValue")),
        *(f"{name}::{CHILD}" for name in ("TestElsewhere", "TestCannotBeOpenedElsewhere", "TestHangsElsewhere")),
        f"TestLooksThenWrites::{FROZEN}",
        "TestCollides::test_keys_that_differ_only_in_case_accents_or_unicode_form_are_different",
    ]
    return run(*nodes, folder=tmp_path_factory.mktemp("report"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TestHangs", "# here it waits"),
        ("TestBlocks", "# here it blocks"),
        ("TestHangsInAThread", "# here a thread hangs"),
        ("TestNever", "# here it ignores that it is cancelled"),
    ],
)
def test_test_that_hangs_is_cut_and_says_at_which_line(told: dict[str, str], name: str, text: str) -> None:
    assert f"telling.py:{line(text)} in " in told[name], told[name]
    assert "0.3 s" in told[name]


def test_error_in_another_process_is_shown_with_its_traceback(told: dict[str, str]) -> None:
    assert "LookupError: no such table here" in told["TestElsewhere"]
    assert f'telling.py", line {line("no such table here")}' in told["TestElsewhere"]
    assert "read() called" not in told["TestElsewhere"]


def test_error_of_open_in_another_process_is_shown(told: dict[str, str]) -> None:
    assert "the other process ended" in told["TestCannotBeOpenedElsewhere"]
    assert "LookupError: no such file here" in told["TestCannotBeOpenedElsewhere"]


def test_other_process_that_hangs_says_at_which_line(told: dict[str, str]) -> None:
    assert "has not answered for 0.5 s" in told["TestHangsElsewhere"]
    assert f"telling.py:{line('# elsewhere it waits')} in " in told["TestHangsElsewhere"]


def test_step_at_which_a_process_was_frozen_is_named_by_file_and_line(told: dict[str, str]) -> None:
    where = re.search(r"frozen at \S*/(\w+\.py):(\d+) in (\S+)", told["TestLooksThenWrites"])
    assert where is not None, told["TestLooksThenWrites"]
    assert where[1] == "telling.py"
    assert where[3].startswith("LooksThenWrites.")


def test_assertions_show_values(told: dict[str, str]) -> None:
    assert "assert 7 == 1" in told["TestCountsWrong"]
    assert "{'n': 77}" in told["TestGivesTheWrongValue"]
    assert "{'n': 5, 'text': ''}" in told["TestGivesTheWrongValue"]


def test_keys_that_collide_are_both_named(told: dict[str, str]) -> None:
    assert re.search(r"keys 'ada' and 'aDA' are one", told["TestCollides"]), told["TestCollides"]


def test_what_has_nothing_to_test_is_skipped_with_what_to_do(tmp_path: Path) -> None:
    told = run(*(f"TestSaysNothing::{name}" for name in SKIPPED), folder=tmp_path)
    reasons = "\n".join(told.values())
    assert len(told) == len(SKIPPED)
    for advice in (
        "override poison()",
        "no method load_durable",
        "return Outage(stop=server.kill, start=server.start, freeze=server.freeze, thaw=server.thaw)",
        "async def let_time_pass(self, backend, url, seconds)",
        "its URL names no host",
    ):
        assert advice in reasons
