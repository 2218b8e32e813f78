"""The contract is hard to pass: each broken backend is caught, by the test that is named for what is wrong with it."""

import re
import subprocess
import sys
from pathlib import Path

BROKEN = Path(__file__).with_name("broken_backends.py")

CAUGHT_BY = {
    "TestIgnoresVersions": "test_older_version_is_stale_and_not_applied",
    "TestTakesEqualVersions": "test_equal_version_is_stale_and_not_applied",
    "TestForgetsTombstones": "test_tombstone_stops_a_late_old_save",
    "TestCountsNothing": "test_mixed_batch_counts_only_the_stale",
    "TestSavesHalfABatch": "test_batch_of_the_largest_size_is_saved",
    "TestComparesSequenceOnly": "test_epoch_outranks_sequence",
    "TestKeepsVersionsAsFloats": "test_highest_possible_version_is_kept_exactly",
    "TestFoldsCase": "test_every_legal_key_is_its_own",
    "TestForgetsCodec": "test_value_and_codec_survive",
    "TestFailsForMissingKeys": "test_key_that_was_never_saved_is_not_found",
    "TestTakesTheLastOfABatch": "test_key_may_occur_twice_in_a_batch",
    "TestLooksThenWrites": "test_concurrent_saves_end_at_the_highest_version",
    "TestLosesOnCancel": "test_save_cancelled_at_any_await_leaves_the_backend_usable",
    "TestTornByCancel": "test_save_cancelled_at_any_await_leaves_the_backend_usable",
    "TestRepeatsEpochs": "test_epochs_are_never_given_twice",
    "TestTakesAnyNamespace": "test_another_namespace_is_refused_after_the_first",
    "TestHandsOverToAnybody": "test_place_is_handed_over_with_a_new_epoch",
    "TestOverlooksItsTombstones": "test_highest_version_that_is_stored_is_found",
    "TestForgetsServers": "test_servers_that_began_epochs_are_remembered",
    "TestHasNoLook": "test_highest_version_that_is_stored_is_found",
    "TestTellsNobodyOfItsNewOwner": "test_who_has_it_open_is_told_when_it_is_handed_over",
    "TestRemembersItsOwnerInMemory": "test_another_namespace_is_refused_by_another_object",
    "TestTakesTwoAtOnce": "test_of_two_namespaces_that_open_a_new_place_one_wins",
    "TestRejectsWholeBatches": "test_poison_fails_alone",
    "TestAnswersNothing": "test_answers_are_of_their_types",
    "TestAnswersWhetherAnyWasStale": "test_answers_are_of_their_types",
    "TestLoadsWhatNobodyAskedFor": "test_answers_are_of_their_types",
    "TestNamesItsOwnKeys": "test_save_error_names_records_of_its_batch",
    "TestLeavesATask": "test_nothing_is_left_behind",
    "TestLeavesAThread": "test_nothing_is_left_behind",
    "TestLeavesAFile": "test_nothing_is_left_behind",
    "TestWithoutALock": "test_process_frozen_inside_save_cannot_undo_a_newer_one",
    "TestKeepsItsLock": "test_process_frozen_inside_save_holds_up_nobody",
    "TestWritesInPlace": "test_process_killed_inside_save_leaves_the_old_or_the_new",
    "TestWritesOnClose": "test_what_was_saved_survives_the_end_of_its_process",
    "TestForgetsItsEpoch": "test_epoch_survives_the_object",
    "TestReadsOnceAndForAll": "test_two_objects_see_each_others_saves",
    "TestPurgesByItsOwnClock": "test_tombstone_outlives_a_process_with_a_wrong_clock",
    "TestListsOnce": "test_process_frozen_inside_load_finds_what_was_there_or_is_newer",
}
SOUND = ("TestSoundInMemory", "TestSoundOnDisk")

# The sound ones in whole; of the broken ones what is expected to catch them, since most wait for what never comes.
NODES = [f"{BROKEN}::{name}" for name in SOUND] + [f"{BROKEN}::{name}::{test}" for name, test in CAUGHT_BY.items()]


def run_contract() -> str:
    """What pytest says of all of them, one outcome a line; in two processes, for much of it is waiting."""
    command = [sys.executable, "-m", "pytest", "-rA", "--tb=no", "-q", "-n", "0", "-p", "no:cacheprovider"]
    processes = [
        subprocess.Popen(
            [*command, *nodes], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=BROKEN.parents[2]
        )
        for nodes in (NODES[::2], NODES[1::2])
    ]
    try:
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 1, output
    return "".join(outputs)


def outcomes(report: str, outcome: str, name: str) -> set[str]:
    return set(re.findall(rf"^{outcome} \S+::{name}::(\w+)", report, re.MULTILINE))


def test_broken_backends_are_caught_by_name_and_sound_ones_pass() -> None:
    """In one test, for the sake of one run of the contract."""
    report = run_contract()
    failed = {name: outcomes(report, "FAILED", name) | outcomes(report, "ERROR", name) for name in (*CAUGHT_BY, *SOUND)}
    assert failed == {name: {test} for name, test in CAUGHT_BY.items()} | {name: set() for name in SOUND}
    for name in SOUND:
        assert len(outcomes(report, "PASSED", name)) > 30


def test_every_broken_backend_is_listed() -> None:
    assert set(re.findall(r"^class (Test\w+)", BROKEN.read_text(), re.MULTILINE)) == {*CAUGHT_BY, *SOUND}
