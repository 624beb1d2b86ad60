"""Records of `logging` and of `warnings`, with the call whose code made them."""

import logging

from conftest import in_a_process

_SETUP = """
import logging, threading, warnings
from tower_dspy import startup
startup.before_import()
seen = []
debugged = True
startup.import_dspy(lambda *record: seen.append(record), lambda: debugged)
import dspy
from conftest import in_call
from fakes import FakeCall
"""


def in_a_host(code: str) -> str:
    return in_a_process(_SETUP + code)


def test_records_have_the_call_of_their_task_or_thread() -> None:
    in_a_host(
        """
class Logs(dspy.Module):
    def forward(self, question):
        on_main_thread = threading.current_thread() is threading.main_thread()
        logging.getLogger("app").warning("in %s", on_main_thread)
        return dspy.Prediction(answer="?")

call = FakeCall()
with in_call(call) as state, dspy.context(tower_dspy_call=state):
    logging.getLogger("app").warning("one")
    example = dspy.Example(question="?").with_inputs("question")
    dspy.Parallel(num_threads=2, disable_progress_bar=True)([(Logs(), example)] * 2)
logging.getLogger("dspy").warning("of no call")
app = [(message, of) for _, logger, message, of in seen if logger == "app"]
assert app == [("one", call), ("in False", call), ("in False", call)], seen
assert seen[-1] == (30, "dspy", "of no call", None), seen
"""
    )


def test_warnings_are_records_with_their_place_once_each() -> None:
    printed = in_a_host(
        """
call = FakeCall()
with in_call(call):
    for _ in range(2):
        warnings.warn("old")
of = [(logger, call_of, message) for _, logger, message, call_of in seen]
assert [(logger, call_of) for logger, call_of, _ in of] == [("py.warnings", call)], seen
assert "<string>:" in of[0][2] and "UserWarning: old" in of[0][2], seen
"""
    )
    assert printed == ""


def test_a_program_configures_logging_as_without_a_host() -> None:
    printed = in_a_host(
        """
import sys
logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(name)s %(message)s")
logging.getLogger("app").info("said")
logging.getLogger("app").debug("not said")
logging.getLogger("dspy").error("a prompt")
assert [message for _, _, message, _ in seen] == ["said", "a prompt"], seen
"""
    )
    assert printed == "app said\n"


def test_an_exception_has_the_form_of_the_programs_formatter() -> None:
    printed = in_a_host(
        """
import sys
class Short(logging.Formatter):
    def formatException(self, info):
        return "in short: " + str(info[1])

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(Short())
logging.getLogger("app").addHandler(handler)
try:
    raise ValueError("odd")
except ValueError:
    logging.getLogger("app").exception("it failed")
assert "Traceback" in seen[0][2] and "ValueError: odd" in seen[0][2], seen
"""
    )
    assert printed == "it failed\nin short: odd\n"


def test_without_the_debug_level_only_own_records_go_to_the_host() -> None:
    in_a_host(
        """
class Text:
    def __str__(self):
        raise AssertionError("it is formatted")

debugged = False
logging.getLogger("app").warning("%s", Text())
logging.getLogger("tower_dspy.signals").warning("own")
assert [logger for _, logger, _, _ in seen] == ["tower_dspy.signals"], seen
debugged = True
logging.getLogger("app").warning("seen")
assert seen[-1][2] == "seen", seen
"""
    )


def test_a_host_that_cannot_take_a_record_fails_no_program() -> None:
    in_a_process(
        """
import logging
from tower_dspy.patches import log_records
def full(*_):
    raise OSError
log_records.install(full, lambda: True)
logging.raiseExceptions = False
logging.getLogger("app").warning("?")
"""
    )
    assert logging.raiseExceptions
