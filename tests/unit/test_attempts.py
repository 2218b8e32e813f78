"""What follows from an attempt of a put: what may be applied already is never called unwritten, nor sent elsewhere."""

import pytest

from asyncwb.errors import OutcomeUnknown, RedisError, RedisOutOfMemory, RedisUnavailable
from asyncwb.protocol.messages import Refusal
from asyncwb.writing.attempts import Next, after_error, after_reply


@pytest.mark.parametrize("uncertain", [False, True])
def test_what_is_applied_is_done_and_what_came_too_early_is_repeated(uncertain: bool) -> None:
    assert after_reply(None, uncertain=uncertain) is Next.DONE
    assert after_reply("EARLY", uncertain=uncertain) is Next.REPEAT


@pytest.mark.parametrize("refusal", ["EPOCH", "WRITER"])
def test_request_moves_to_another_epoch_or_writer_only_if_it_certainly_is_not_applied(refusal: Refusal) -> None:
    assert after_reply(refusal, uncertain=False) is Next.RENEW
    assert after_reply(refusal, uncertain=True) is Next.UNKNOWN


def test_lost_answer_makes_a_request_uncertain_unless_its_writer_was_never_registered() -> None:
    assert after_error(OutcomeUnknown("lost"), uncertain=False, registered=True) is Next.REPEAT
    assert after_error(OutcomeUnknown("lost"), uncertain=False, registered=False) is Next.RENEW


@pytest.mark.parametrize("error", [RedisUnavailable("away"), OutcomeUnknown("lost"), RedisOutOfMemory("full")])
def test_uncertain_request_is_repeated_whatever_a_later_attempt_meets(error: RedisError) -> None:
    assert after_error(error, uncertain=True, registered=True) is Next.REPEAT


def test_server_that_cannot_be_reached_is_asked_again_and_one_that_refuses_is_believed() -> None:
    assert after_error(RedisUnavailable("away"), uncertain=False, registered=True) is Next.RENEW
    assert after_error(RedisOutOfMemory("full"), uncertain=False, registered=True) is Next.FAIL
