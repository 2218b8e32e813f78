"""The contract is hard to pass: each broken backend is caught, by the test that is named for what is wrong with it."""

import re
import subprocess
import sys
from pathlib import Path

BROKEN = Path(__file__).with_name("broken_backends")

CAUGHT_BY = {
    "TestIgnoresVersions": "test_older_version_is_stale_and_not_applied",
    "TestTakesEqualVersions": "test_equal_version_is_stale_and_not_applied",
    "TestForgetsTombstones": "test_tombstone_stops_a_late_old_save",
    "TestCountsNothing": "test_mixed_batch_counts_only_the_stale",
    "TestSavesHalfABatch": "test_batch_of_the_largest_size_is_saved",
    "TestComparesSequenceOnly": "test_epoch_outranks_sequence",
    "TestIgnoresTheBase": "test_record_applies_to_exactly_the_version_that_it_is_based_on",
    "TestTakesOlderBases": "test_record_applies_to_exactly_the_version_that_it_is_based_on",
    "TestRaisesForAnotherVersion": "test_record_applies_to_exactly_the_version_that_it_is_based_on",
    "TestNeedsARow": "test_record_based_on_nothing_applies_only_where_nothing_is_stored",
    "TestInsertsWhereNothingIs": "test_record_based_on_a_version_does_not_apply_where_nothing_is_stored",
    "TestTakesTombstonesForNothing": "test_tombstone_counts_with_its_version",
    "TestTakesOnlyAbsenceForNothing": "test_value_without_a_version_counts_as_version_0",
    "TestTakesNoVersionForAnyVersion": "test_value_without_a_version_counts_as_version_0",
    "TestDeletesInAnyCase": "test_delete_applies_to_exactly_the_version_that_it_is_based_on",
    "TestTakesItsOwnVersion": "test_repeating_a_save_with_a_base_changes_nothing",
    "TestComparesBasesAsFloats": "test_base_is_compared_in_all_its_bits",
    "TestCountsOnlyPlainOnes": "test_batch_of_records_with_and_without_a_base_counts_only_the_stale",
    "TestStoresTheBase": "test_base_is_not_stored",
    "TestDeclaresNothing": "test_support_of_based_on_is_declared",
    "TestDeclaresBoth": "test_support_of_based_on_is_declared",
    "TestLooksBeforeItsTurn": "test_counter_of_many_tasks_is_exact",
    "TestForgetsWhenCancelled": "test_save_with_a_base_that_is_cancelled_at_any_await_can_be_repeated",
    "TestLooksThenLocks": "test_process_frozen_inside_save_applies_only_to_what_is_stored_then",
    "TestLooksLongBefore": "test_of_two_processes_that_save_on_one_version_one_wins",
    "TestOrdersOnlyItsOwnTasks": "test_counter_of_two_processes_is_exact",
    "TestRemembersPurged": "test_record_based_on_a_purged_tombstone_does_not_apply",
    "TestKeepsVersionsAsFloats": "test_highest_possible_version_is_kept_exactly",
    "TestPadsKeys": "test_keys_that_differ_only_in_blanks_are_different",
    "TestTrimsKeys": "test_keys_that_differ_only_in_blanks_are_different",
    "TestFoldsCase": "test_keys_that_differ_only_in_case_accents_or_unicode_form_are_different",
    "TestFoldsAccents": "test_keys_that_differ_only_in_case_accents_or_unicode_form_are_different",
    "TestNormalizesKeys": "test_keys_that_differ_only_in_case_accents_or_unicode_form_are_different",
    "TestKnowsNoEmoji": "test_keys_that_differ_only_in_case_accents_or_unicode_form_are_different",
    "TestTakesKeysForNumbers": "test_keys_that_differ_only_in_how_they_are_written_are_different",
    "TestTakesKeysForPatterns": "test_keys_that_differ_only_in_how_they_are_written_are_different",
    "TestCutsKeys": "test_long_keys_that_differ_only_in_one_place_are_different",
    "TestChecksumsKeys": "test_keys_with_the_same_short_hash_are_different",
    "TestShortensHashes": "test_keys_with_the_same_short_hash_are_different",
    "TestHashesLongKeys": "test_short_key_that_is_the_hash_of_a_long_one_is_different",
    "TestForgetsEscaping": "test_value_of_the_largest_size_may_be_of_what_is_escaped",
    "TestWritesBytesAsText": "test_bytes_of_the_largest_size_may_be_nuls",
    "TestForgetsCodec": "test_value_and_codec_survive",
    "TestFailsForMissingKeys": "test_key_that_was_never_saved_is_not_found",
    "TestTakesTheLastOfABatch": "test_key_may_occur_twice_in_a_batch",
    "TestLooksThenWrites": "test_concurrent_saves_end_at_the_highest_version",
    "TestLosesOnCancel": "test_save_cancelled_at_any_await_leaves_the_backend_usable",
    "TestTornByCancel": "test_save_cancelled_at_any_await_leaves_the_backend_usable",
    "TestShowsWhatIsNotCommitted": "test_what_a_load_has_shown_is_not_undone_when_a_save_is_cancelled",
    "TestRepeatsEpochs": "test_epochs_are_never_given_twice",
    "TestTakesAnyNamespace": "test_another_namespace_is_refused_after_the_first",
    "TestHandsOverToAnybody": "test_place_is_handed_over_with_a_new_epoch",
    "TestOverlooksItsTombstones": "test_highest_version_that_is_stored_is_found",
    "TestNotesTheLatestServer": "test_servers_that_began_epochs_are_remembered",
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
    "TestClosesForAll": "test_closing_one_object_leaves_the_others_open",
    "TestWithoutALock": "test_process_frozen_inside_save_cannot_undo_a_newer_one",
    "TestKeepsItsLock": "test_process_frozen_inside_save_holds_up_nobody",
    "TestWritesInPlace": "test_process_killed_inside_save_leaves_the_old_or_the_new",
    "TestWritesOnClose": "test_what_was_saved_survives_the_end_of_its_process",
    "TestWritesBehind": "test_what_was_saved_survives_the_end_of_its_process",
    "TestWritesBehindInAThread": "test_what_was_saved_survives_the_end_of_its_process",
    "TestForgetsItsEpoch": "test_epoch_survives_the_object",
    "TestReadsOnceAndForAll": "test_two_objects_see_each_others_saves",
    "TestPurgesByItsOwnClock": "test_tombstone_outlives_a_process_with_a_wrong_clock",
    "TestListsOnce": "test_process_frozen_inside_load_finds_what_was_there_or_is_newer",
    "TestPurgesAtOnce": "test_tombstone_is_kept_until_its_time_is_over",
    "TestPurgesEarly": "test_tombstone_is_kept_until_its_time_is_over",
    "TestKeepsTheFirstDate": "test_tombstone_is_kept_until_its_time_is_over",
    "TestNeverPurges": "test_tombstone_is_purged_when_its_time_is_over",
    "TestPurgesOnlyWhatWasNeverThere": "test_tombstone_is_purged_when_its_time_is_over",
    "TestPurgesWhatIsOld": "test_purging_leaves_live_records_alone",
    "TestPurgesWhatWasDeletedOnce": "test_purging_leaves_live_records_alone",
    "TestSwallowsErrors": "test_calls_fail_while_the_storage_is_stopped",
    "TestFindsNothingThen": "test_calls_fail_while_the_storage_is_stopped",
    "TestRemembersItsEpoch": "test_calls_fail_while_the_storage_is_stopped",
    "TestBlamesItsRecords": "test_calls_fail_while_the_storage_is_stopped",
    "TestSaysThatItIsForGood": "test_backend_that_is_opened_in_an_outage_opens_after_it",
    "TestStaysBroken": "test_object_works_again_after_an_outage",
    "TestKeepsDeadConnections": "test_restart_costs_one_call_at_most",
    "TestWaitsInSpiteOfCancellation": "test_calls_can_be_cancelled_while_the_storage_is_frozen",
    "TestSaysGoodbye": "test_close_is_quick_while_the_storage_is_frozen",
    "TestTellsItsPassword": "test_message_of_an_outage_holds_no_password",
}
SOUND = ("TestSoundInMemory", "TestSoundOnDisk")
# Those that only the broken ones beside them are made of.
SOUND_IN_PART = ("TestSoundNames", "TestSoundPurging", "TestSoundWithBases", "TestSoundOnAServer")

FILES = {
    name: path for path in BROKEN.glob("[!t]*.py") for name in re.findall(r"(?m)^class (Test\w+)", path.read_text())
}


def nodes_of(name: str) -> list[str]:
    """Sound ones are tested in whole, or by what catches those beside them; of the broken ones what is expected to
    catch them, since most wait for what never comes."""
    path = FILES[name]
    if name in SOUND:
        return [f"{path}::{name}"]
    tests = [CAUGHT_BY[name]] if name in CAUGHT_BY else [CAUGHT_BY[each] for each in CAUGHT_BY if FILES[each] == path]
    return [f"{path}::{name}::{test}" for test in dict.fromkeys(tests)]


NODES = [node for name in (*SOUND, *SOUND_IN_PART, *CAUGHT_BY) for node in nodes_of(name)]


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
    """One test covers all of them, so that the contract runs only once."""
    report = run_contract()
    failed = {name: outcomes(report, "FAILED", name) | outcomes(report, "ERROR", name) for name in FILES}
    assert failed == {name: {CAUGHT_BY[name]} if name in CAUGHT_BY else set() for name in FILES}
    for name in SOUND:
        assert len(outcomes(report, "PASSED", name)) > 30
    for name in SOUND_IN_PART:
        assert len(outcomes(report, "PASSED", name)) == len(nodes_of(name)), "none is skipped"


def test_every_broken_backend_is_listed() -> None:
    assert FILES.keys() == {*CAUGHT_BY, *SOUND, *SOUND_IN_PART}
