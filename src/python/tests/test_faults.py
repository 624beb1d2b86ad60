import asyncio

import pytest
from dspy.utils.exceptions import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMConfigurationError,
    LMError,
    LMRateLimitError,
    LMServerError,
    LMTransportError,
)

import raises
from tower_dspy.faults import HostError, describe
from tower_dspy.patches import lm15


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


def test_a_message_that_cannot_be_formatted_is_replaced():
    assert "ValueError" in caught(raises.Mute())["message"]


def test_a_host_error_has_its_fields():
    fault = describe(HostError("invalid_input", "wrong", "question", "str"))
    assert (fault["kind"], fault["field"], fault["expected"]) == (
        "invalid_input",
        "question",
        "str",
    )


def test_a_cancelled_error_is_described_as_a_cancellation():
    assert describe(asyncio.CancelledError())["kind"] == "cancelled"


def lm_error(**fields) -> LMError:
    error = LMRateLimitError("slow down", model="openai/x")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def test_an_lm_failure_has_its_status_and_its_retry_after():
    fault = describe(lm_error(status=429, retry_after=7))
    assert (fault["kind"], fault["status"], fault["retry_after"]) == ("lm", 429, 7.0)


@pytest.mark.parametrize("after", [None, -1, 123306252, float("nan"), "soon"])
def test_an_invalid_retry_after_is_dropped(after):
    assert describe(lm_error(status=429, retry_after=after))["retry_after"] is None


@pytest.mark.parametrize("status", [None, 0, 7000, "429"])
def test_an_invalid_status_is_dropped(status):
    assert describe(lm_error(status=status))["status"] is None


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


BUSY = lm_error(status=429, retry_after=7)
BUSIER = lm_error(status=503, retry_after=9)
REFUSED = lm_error(status=401)


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (ExceptionGroup("two", [BUSY, BUSIER]), 503, 9.0),
        (ExceptionGroup("two", [BUSY, lm_error(status=500)]), 429, 7.0),
        (ExceptionGroup("two", [BUSY, REFUSED]), 401, None),
        (ExceptionGroup("nested", [ExceptionGroup("one", [BUSY])]), 429, 7.0),
        (caused(RuntimeError("no answer"), BUSY), 429, 7.0),
        (caused(RuntimeError("no answer"), caused(KeyError(), BUSY)), 429, 7.0),
        (caused(RuntimeError("none"), ExceptionGroup("two", [BUSY, BUSY])), 429, 7.0),
        (ExceptionGroup("two", [caused(RuntimeError(), BUSY), BUSIER]), 503, 9.0),
    ],
)
def test_an_lms_failure_is_found_in_groups_and_causes(
    error: BaseException, status: int, after: float | None
) -> None:
    fault = describe(error)
    assert (fault["kind"], fault["status"], fault["retry_after"]) == ("lm", status, after)
    assert (fault["type"], fault["message"]) == (type(error).__qualname__, str(error))


def test_a_failure_with_causes_beside_an_lms_is_the_programs() -> None:
    own = ExceptionGroup("mixed", [BUSY, ValueError("a bug")])
    beside = KeyError("a bug")
    beside.__context__ = BUSY
    around = RuntimeError("in circles")
    around.__cause__ = caused(ValueError(), around)
    for error in (own, beside, around, caused(ValueError(), KeyError())):
        assert describe(error)["kind"] == "raised"


@pytest.mark.parametrize(
    ("error", "status", "rejected"),
    [
        (BUSY, 429, False),
        (REFUSED, 401, True),
        (LMTransportError("no connection"), None, False),
        (LMConfigurationError("no such option"), None, True),
        (LMAuthError("no key"), None, True),
        (ContextWindowExceededError(), None, True),
        # A quota that is used up: its status alone would ask for another try.
        (LMBillingError("pay first", status=429), 429, True),
        (LMRateLimitError("m", status=429, provider_code="billing_hard_limit_reached"), 429, True),
        # In the body of a 200.
        (LMServerError("busy", provider_code="429"), 429, False),
        (LMServerError("pay first", provider_code="402"), 402, True),
        (LMServerError("busy", provider_code="1305"), None, False),
        (LMServerError("busy", provider_code="overloaded"), None, False),
    ],
)
def test_failures_that_a_retry_repeats_are_rejected(
    error: LMError, status: int | None, rejected: bool
) -> None:
    fault = describe(error)
    assert (fault["status"], fault["rejected"]) == (status, rejected)


def of_client(name: str) -> Exception:
    """An error that a client raises while it handles the host's, without naming it as the cause."""
    kind = type(name, (Exception,), {"__module__": f"{name}.exceptions"})
    try:
        try:
            raise lm15.failure("over_budget", "the budget is used up")
        except Exception:
            raise kind("no connection")  # noqa: B904
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        caused(LMTransportError("m"), lm15.failure("over_budget", "the budget is used up")),
        caused(LMTransportError("m", status=500), of_client("litellm")),
        of_client("openai"),
        caused(RuntimeError("no answer"), of_client("litellm")),
        ExceptionGroup("two", [REFUSED, of_client("litellm")]),
    ],
)
def test_a_refusal_for_a_budget_is_found_in_the_errors_of_clients(error: BaseException) -> None:
    fault = describe(error)
    assert (fault["kind"], fault["over_budget"], fault["rejected"]) == ("lm", True, True)


def test_an_lm_failure_in_the_handler_of_a_refusal_for_a_budget_is_its_own() -> None:
    refused = caused(LMTransportError("m"), lm15.failure("over_budget", "the budget is used up"))
    later = LMAuthError("no key", status=401)
    later.__context__ = refused
    assert describe(later)["over_budget"] is False
    assert describe(of_client("program"))["kind"] == "raised"


def test_the_innermost_frame_of_the_program_is_named():
    code = compile("import json\n\ndef read():\n    json.loads('{')\n", "/app/program.py", "exec")
    program: dict = {}
    exec(code, program)
    try:
        program["read"]()
    except ValueError as error:
        assert describe(error)["raised_at"] == "/app/program.py:4 read"


def test_an_error_without_a_frame_of_the_program_has_its_innermost_one():
    assert describe(ValueError("no"))["raised_at"] == ""
    try:
        exec(compile("1 / 0", "<tower-dspy>/x.py", "exec"))
    except ZeroDivisionError as error:
        error.__traceback__ = error.__traceback__.tb_next
        assert describe(error)["raised_at"] == "<tower-dspy>/x.py:1 <module>"


def test_a_syntax_error_has_the_line_that_cannot_be_read():
    try:
        compile("x = 1\ndef broken(:\n", "/app/program.py", "exec")
    except SyntaxError as error:
        assert describe(error)["raised_at"] == "/app/program.py:2"


def test_a_traceback_begins_with_the_first_frame_that_is_none_of_the_hosts():
    program: dict = {}
    exec(compile("def fail():\n    1 / 0\n", "/app/program.py", "exec"), program)
    exec(compile("def call(f):\n    f()\n", "<tower-dspy>/x.py", "exec"), program)
    try:
        program["call"](program["fail"])
    except ZeroDivisionError as error:
        error.__traceback__ = error.__traceback__.tb_next
        lines = describe(error)["traceback"].splitlines()
    assert lines[:2] == [
        "Traceback (most recent call last):",
        '  File "/app/program.py", line 2, in fail',
    ]


def test_a_failure_of_the_hosts_own_has_the_traceback_of_a_programs_cause_alone():
    assert caught(HostError("lm", "no"))["traceback"] == ""
    program: dict = {}
    exec(compile("def fail():\n    1 / 0\n", "/app/program.py", "exec"), program)
    try:
        try:
            program["fail"]()
        except ZeroDivisionError as error:
            raise HostError("state", "it does not load") from error
    except HostError as error:
        traceback = describe(error)["traceback"]
    assert "/app/program.py" in traceback and "HostError" not in traceback


def test_an_lm_failure_is_without_the_advice_that_is_for_users_of_the_client():
    advice = (
        "wrong key\n\n  credential came from: an explicit api_key (value never shown)"
        "\n\n  To fix:\n    - Pass the key explicitly (api_key, or RouterConfig api_keys)\n"
    )
    assert describe(LMAuthError(advice, status=401))["message"].strip() == "wrong key"
    useful = "too long\n\n  To fix:\n    - Clear history\n    - lm15 never retries for you\n"
    message = describe(LMServerError(useful, status=500))["message"]
    assert message.strip() == "too long\n\n  To fix:\n    - Clear history"
