import gc
import sys
import threading
from itertools import repeat
from operator import call

import pytest
from blocked import LONG, blocked, is_blocked, until
from conftest import running

from tower_dspy import interrupt, thread_signal
from tower_dspy.call_state import Cancelled
from tower_dspy.interrupt import InterruptibleRun, shielded
from tower_dspy.thread_signal import uninterrupted
from tower_dspy.wait_end import end_waits

PAUSES = pytest.mark.skipif(sys.version_info >= (3, 12), reason="the collector runs elsewhere")


def is_collecting(count: int = 1) -> list[bool]:
    return uninterrupted(map(call, repeat(gc.isenabled, count)))


@PAUSES
def test_the_collector_is_off_between_c_functions_and_then_as_it_was():
    assert is_collecting() == [False] and gc.isenabled()
    gc.disable()
    try:
        assert is_collecting() == [False] and not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_on_again_after_an_error():
    with pytest.raises(ZeroDivisionError):
        uninterrupted(map(divmod, (1, 1), (1, 0)))
    assert gc.isenabled()


@PAUSES
def test_two_threads_do_not_turn_the_collector_on_for_each_other():
    stop, seen = threading.Event(), set()

    def sections() -> None:
        while not stop.is_set():
            seen.update(is_collecting(100))

    threads = [threading.Thread(target=sections) for _ in range(2)]
    for thread in threads:
        thread.start()
    stop.wait(0.3)
    stop.set()
    for thread in threads:
        thread.join(LONG)
    assert seen == {False} and gc.isenabled()


def test_a_signal_knows_the_place_of_its_thread_as_it_is_raised(monkeypatch):
    """Not that of code which the thread ran since."""
    places = []
    wait, uninterrupted = threading.Event().wait, thread_signal.uninterrupted

    def note(steps):
        values = uninterrupted(steps)
        signal = next(iter(thread_signal.PENDING.values()))
        places.append((signal.frame, signal.frame.f_lasti))
        return values

    with blocked(wait) as run:
        here = sys._current_frames()[run._thread]
        expected = (here, here.f_lasti)
        monkeypatch.setattr(interrupt, "uninterrupted", note)
        assert run.interrupt()
        monkeypatch.undo()
    assert places == [expected]


def test_a_notification_is_not_left_to_a_waiter_whose_signal_was_replaced(monkeypatch):
    """The second signal comes where the first is about to end the wait."""
    event = threading.Event()
    call_if_pending = thread_signal.ThreadSignal.call_if_pending
    again = []

    def replaced(signal, *calls):
        if not again:
            again.append(True)
            again.append(run.interrupt_again())
        return call_if_pending(signal, *calls)

    with blocked(event.wait) as run:
        monkeypatch.setattr(thread_signal.ThreadSignal, "call_if_pending", replaced)
        assert run.interrupt()
        monkeypatch.undo()
        end_waits()
    assert again == [True, True]
    assert isinstance(run.error, Cancelled)


def test_the_undelivered_signal_of_an_outer_run_is_left_to_it(monkeypatch):
    inner = InterruptibleRun(lambda: None)

    def function() -> None:
        # As where the signal comes between the end of the function and that of its run.
        with monkeypatch.context() as patches:
            patches.setattr(interrupt, "end_signal_here", lambda: True)
            inner.execute()
        shielded(int)

    outer = InterruptibleRun(function)
    outer.execute()
    assert inner.error is None
    assert isinstance(outer.error, Cancelled)


def test_a_wait_that_stays_is_looked_at_less_often(monkeypatch):
    looks = []
    monkeypatch.setattr("tower_dspy.wait_end.end_wait", looks.append)
    lock = threading.Lock()
    lock.acquire()
    with running(lock.acquire) as run:
        assert until(lambda: is_blocked(run))
        assert run.interrupt()
        for _ in range(200):
            end_waits()
        assert len(looks) == 102
        lock.release()
