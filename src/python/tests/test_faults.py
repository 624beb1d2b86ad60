from __future__ import annotations

import asyncio

import pytest
from dspy.utils.exceptions import LMError, LMRateLimitError

import raises
from tower_dspy.faults import HostError, describe


def caught(error: BaseException) -> dict:
    try:
        raise error
    except BaseException as raised:
        return describe(raised)


def test_a_failure_is_described_by_type_message_and_traceback():
    fault = caught(ValueError("no such city"))
    assert (fault["kind"], fault["type"], fault["message"]) == (
        "raised",
        "ValueError",
        "no such city",
    )
    assert "raise error" in fault["traceback"]


def test_a_class_of_a_module_is_named_with_it():
    assert caught(raises.NoAnswer())["type"] == "raises.NoAnswer"


def test_a_message_that_cannot_be_read_is_replaced():
    assert "ValueError" in caught(raises.Mute())["message"]


def test_our_own_failures_carry_their_fields():
    fault = describe(HostError("invalid_input", "wrong", "question", "str"))
    assert (fault["kind"], fault["field"], fault["expected"]) == (
        "invalid_input",
        "question",
        "str",
    )


def test_a_cancellation_is_one():
    assert describe(asyncio.CancelledError())["kind"] == "cancelled"


def lm_error(**fields) -> LMError:
    error = LMRateLimitError("slow down", model="openai/x")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def test_an_lms_failure_tells_its_status_and_when_to_come_again():
    fault = describe(lm_error(status=429, retry_after=7))
    assert (fault["kind"], fault["status"], fault["retry_after"]) == ("lm", 429, 7.0)


@pytest.mark.parametrize("after", [None, -1, 123306252, float("nan"), "soon"])
def test_advice_that_makes_no_sense_is_left_out(after):
    assert describe(lm_error(status=429, retry_after=after))["retry_after"] is None


@pytest.mark.parametrize("status", [None, 0, 7000, "429"])
def test_a_status_that_is_none_is_left_out(status):
    assert describe(lm_error(status=status))["status"] is None
